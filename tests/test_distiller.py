from sklearn.utils.estimator_checks import parametrize_with_checks

from skdistill import ManifoldGDDistiller


@parametrize_with_checks([ManifoldGDDistiller()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
