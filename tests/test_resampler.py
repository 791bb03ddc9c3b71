import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import make_pipeline
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skdistill import ManifoldGDDistiller, ManifoldGDResampler


@pytest.fixture
def resampler():
    return ManifoldGDResampler(ManifoldGDDistiller(ipc=8, num_inference_steps=10, random_state=0))


def test_it_is_a_step_of_imbalanced_learns_pipelines(resampler):
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), resampler, LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.8
    fitted = pipeline[-1]
    X_syn, y_syn = resampler.fit_resample(StandardScaler().fit_transform(X), y)
    np.testing.assert_allclose(fitted.coef_, LogisticRegression().fit(X_syn, y_syn).coef_)


def test_it_gives_what_its_distiller_samples(resampler):
    X, y = load_iris(return_X_y=True)
    X_syn, y_syn = resampler.fit_resample(X, y)
    expected = resampler.distiller.fit(X, y).sample()
    np.testing.assert_array_equal(X_syn, expected[0])
    np.testing.assert_array_equal(y_syn, expected[1])


def test_it_leaves_the_distiller_it_was_given_unfitted(resampler):
    resampler.fit_resample(*load_iris(return_X_y=True))
    assert not hasattr(resampler.distiller, "clusterers_")


def test_frames_in_frames_out(resampler):
    X, y = load_iris(return_X_y=True, as_frame=True)
    X_syn, y_syn = resampler.fit_resample(X, y)
    assert isinstance(X_syn, pd.DataFrame)
    assert X_syn.columns.tolist() == X.columns.tolist()
    assert isinstance(y_syn, pd.Series)
    assert y_syn.name == y.name


def test_columns_and_labels_keep_their_dtypes(resampler):
    X, y = load_iris(return_X_y=True, as_frame=True)
    X = X.assign(count=(10 * X.iloc[:, 0]).astype("int16"), small=X.iloc[:, 1].astype("float32"))
    X["wide"] = X.iloc[:, 2] > 2.5
    y = y.map({0: "setosa", 1: "versicolor", 2: "virginica"}).astype("category")
    X_syn, y_syn = resampler.fit_resample(X, y)
    assert X_syn.dtypes.equals(X.dtypes)
    assert y_syn.dtype == y.dtype
    # Rounded to the nearest, not cut off: their mean stays that of the column they were made from.
    tenths = 10 * X_syn.iloc[:, 0]
    assert abs((X_syn["count"] - tenths).mean()) < 0.3
    assert X_syn["wide"].groupby(y_syn, observed=True).mean().to_dict() == {
        "setosa": 0.0,
        "versicolor": 1.0,
        "virginica": 1.0,
    }


def test_a_distiller_that_gives_frames_changes_nothing(resampler):
    X, y = load_iris(return_X_y=True, as_frame=True)
    expected, _ = resampler.fit_resample(X, y)
    resampler.distiller.set_output(transform="pandas")
    pd.testing.assert_frame_equal(resampler.fit_resample(X, y)[0], expected)


def test_it_knows_the_features_it_was_fitted_to(resampler):
    X, y = load_iris(return_X_y=True, as_frame=True)
    assert not hasattr(resampler, "n_features_in_")
    assert not hasattr(resampler, "feature_names_in_")
    resampler.fit(X, y)
    assert resampler.n_features_in_ == 4
    assert resampler.feature_names_in_.tolist() == X.columns.tolist()
    resampler.fit(X.to_numpy(), y)
    assert resampler.n_features_in_ == 4
    assert not hasattr(resampler, "feature_names_in_")


def test_imbalance_is_gone():
    X, y = load_iris(return_X_y=True)
    rows = np.r_[0:50, 50:60, 100:105]
    _, y_syn = ManifoldGDResampler(ManifoldGDDistiller(ipc=7)).fit_resample(X[rows], y[rows])
    assert np.bincount(y_syn).tolist() == [7, 7, 7]


def test_what_is_no_distiller_is_refused():
    with pytest.raises(ValueError, match="'distiller' parameter of ManifoldGDResampler"):
        ManifoldGDResampler(LogisticRegression()).fit_resample(*load_iris(return_X_y=True))
