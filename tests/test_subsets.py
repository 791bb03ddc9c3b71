import itertools

import numpy as np
import pytest
from conftest import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise_distances
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.baselines import ClusterMeans
from skdistill.datasets import load_digits_split
from skdistill.subsets import (
    HerdingSubset,
    HierarchySubset,
    KCenterSubset,
    MedoidSubset,
    RandomSubset,
)

X, _, Y, _ = load_digits_split()
SUBSETS = [
    RandomSubset(random_state=0),
    HerdingSubset(),
    KCenterSubset(),
    MedoidSubset(n_init=1, random_state=0),
    HierarchySubset(random_state=0),
]
NESTED = SUBSETS[:3]

ignore_few_rows = pytest.mark.filterwarnings("ignore:Class .* has rows for")
each_subset = pytest.mark.parametrize("baseline", SUBSETS, ids=lambda b: type(b).__name__)
each_nested = pytest.mark.parametrize("baseline", NESTED, ids=lambda b: type(b).__name__)


@ignore_few_rows
@parametrize_with_checks([*SUBSETS, ClusterMeans(n_init=1, random_state=0)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@each_subset
def test_subsets_are_real_rows_of_their_class_each_once(baseline):
    X_syn, y_syn = clone(baseline).fit(X, Y).sample(ipc=20)
    for label in range(10):
        chosen = rows_of(X_syn[y_syn == label])
        assert len(chosen) == 20
        assert chosen <= rows_of(X[label == Y])


@each_subset
def test_select_names_the_rows_that_sample_takes(baseline):
    fitted = clone(baseline).fit(X, Y)
    for ipc in (None, 3, {label: label + 1 for label in range(10)}):
        indices = fitted.select(ipc)
        X_syn, y_syn = fitted.sample(ipc)
        assert_array_equal(X[indices], X_syn)
        assert_array_equal(Y[indices], y_syn)
        assert len(np.unique(indices)) == len(indices)


@each_subset
def test_rows_may_be_chosen_by_their_features(baseline):
    features = X.reshape(len(X), -1)[:, 10:30]
    indices = clone(baseline).fit(features, Y).select()
    X_syn, y_syn = X[indices], Y[indices]
    assert X_syn.shape == (100, 8, 8)
    assert_array_equal(y_syn, np.repeat(np.arange(10), 10))


@each_subset
def test_bytes_are_chosen_as_floats_are(baseline):
    data = np.rint(X * 15).astype(np.uint8)
    for other in (data.astype(np.float64), data.astype(np.int64)):
        assert_array_equal(
            clone(baseline).fit(data, Y).select(), clone(baseline).fit(other, Y).select()
        )


@each_nested
def test_larger_subset_holds_the_smaller_one(baseline):
    fitted = clone(baseline).fit(X, Y)
    small, large = fitted.select(3).reshape(10, 3), fitted.select(12).reshape(10, 12)
    assert_array_equal(large[:, :3], small)


@each_subset
def test_large_data_is_measured_in_parts(baseline, monkeypatch):
    expected = clone(baseline).fit(X, Y).select()
    monkeypatch.setattr("skdistill.tree.NUMBERS_AT_ONCE", 1000)
    assert_array_equal(clone(baseline).fit(X, Y).select(), expected)


def test_herding_starts_at_the_row_nearest_to_the_mean_and_is_greedy():
    rows = X[Y == 3]
    mean = rows.mean(axis=0)
    X_syn, _ = HerdingSubset(ipc=6).fit(rows, np.zeros(len(rows))).sample()
    left = list(range(len(rows)))
    for t in range(6):
        means = [np.append(X_syn[:t], rows[[i]], axis=0).mean(axis=0) for i in left]
        best = left.pop(np.argmin([np.linalg.norm(m - mean) for m in means]))
        assert_array_equal(X_syn[t], rows[best])


def test_herding_is_nearer_to_the_class_means_than_random():
    def error(baseline):
        X_syn, y_syn = baseline.fit(X, Y).sample()
        return np.mean(
            [
                np.linalg.norm(X_syn[y_syn == label].mean(axis=0) - X[label == Y].mean(axis=0))
                for label in range(10)
            ]
        )

    random = [error(RandomSubset(random_state=seed)) for seed in range(5)]
    assert error(HerdingSubset()) < 0.5 * min(random)


def test_k_center_starts_at_the_row_nearest_to_the_mean_and_is_greedy():
    rows = X[Y == 3].reshape(-1, 64)
    picked = KCenterSubset(ipc=8).fit(rows, np.zeros(len(rows))).select()
    assert picked[0] == np.argmin(np.linalg.norm(rows - rows.mean(axis=0), axis=1))
    distances = pairwise_distances(rows)
    for t in range(1, 8):
        assert picked[t] == np.argmax(distances[:, picked[:t]].min(axis=1))


@settings(deadline=None, max_examples=100)
@given(
    arrays(np.int8, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(-100, 100)),
    st.integers(1, 4),
)
def test_k_center_covers_within_twice_the_optimum(rows, n):
    n = min(n, len(np.unique(rows, axis=0)))
    distances = pairwise_distances(rows.astype(float))

    def radius(chosen):
        return distances[:, list(chosen)].min(axis=1).max()

    optimum = min(map(radius, itertools.combinations(range(len(rows)), n)))
    chosen = KCenterSubset(ipc=n).fit(rows, np.zeros(len(rows))).select()
    assert radius(chosen) <= 2 * optimum + 1e-9


def test_k_center_covers_better_than_random():
    def radius(baseline):
        X_syn, y_syn = baseline.fit(X, Y).sample(20)
        return np.mean(
            [
                pairwise_distances(
                    X[label == Y].reshape(-1, 64), X_syn[y_syn == label].reshape(-1, 64)
                )
                .min(axis=1)
                .max()
                for label in range(10)
            ]
        )

    assert radius(KCenterSubset()) < 0.9 * min(
        radius(RandomSubset(random_state=seed)) for seed in range(5)
    )


@pytest.mark.parametrize("n_init", [1, 10])
def test_medoids_are_the_rows_nearest_to_the_k_means_centres(n_init):
    settings = {"ipc": 10, "n_init": n_init, "random_state": 0}
    medoids, y_syn = MedoidSubset(**settings).fit(X, Y).sample()
    centres, _ = ClusterMeans(**settings).fit(X, Y).sample()
    for label in range(10):
        rows = X[label == Y].reshape(-1, 64)
        nearest = pairwise_distances(centres[y_syn == label].reshape(10, 64), rows).argmin(axis=1)
        # None is nearest to two centres here.
        assert len(np.unique(nearest)) == 10
        assert_array_equal(medoids[y_syn == label].reshape(10, 64), rows[nearest])


def test_a_row_that_is_nearest_to_two_centres_stands_for_one(monkeypatch):
    rows = np.array([[0.0], [4.0], [4.0], [5.5], [9.0]])
    centres = np.array([[3.9], [4.2], [8.0]])
    monkeypatch.setattr("skdistill.subsets.kmeans_centers", lambda *_: centres)
    chosen = MedoidSubset(ipc=3).fit(rows, np.zeros(5)).select()
    assert_array_equal(chosen, [1, 3, 4])


@pytest.mark.parametrize("ipc", [1, 5, 20])
def test_hierarchy_medoids_are_those_of_the_papers_nodes(ipc):
    features, labels = load_iris(return_X_y=True)
    # An odd scale tells the latents, which are standardised, from the features.
    features = features * [1, 10, 1, 1]
    distiller = ManifoldGDDistiller(ipc, clusterer=HierarchicalIPC(), random_state=3)
    latents = distiller.fit(features, labels).backbone_.encode(features)
    subset = HierarchySubset(ipc, random_state=3).fit(latents, labels)
    chosen = subset.select().reshape(3, ipc)
    for label, clusterer in enumerate(distiller.clusterers_):
        rows = np.flatnonzero(labels == label)
        medoids = clone(clusterer).set_params(prototype="medoid").fit(latents[rows])
        assert_array_equal(medoids.prototype_nodes_, clusterer.prototype_nodes_)
        assert_array_equal(chosen[label], rows[medoids.prototype_indices_])


def test_hierarchy_medoids_are_completed_where_nodes_would_share_them():
    rows = np.arange(8.0)[:, None] ** 3
    hierarchy = HierarchicalIPC(5, prototype="medoid", random_state=0).fit(rows)
    of_nodes = set(hierarchy.prototype_indices_)
    assert len(of_nodes) == 4
    chosen = HierarchySubset(5, random_state=0).fit(rows, np.zeros(8)).select()
    assert set(chosen) == of_nodes | {7}


@each_subset
def test_select_refuses_what_sample_refuses(baseline):
    with pytest.raises(NotFittedError):
        clone(baseline).select()
    fitted = clone(baseline).fit(X, Y)
    with pytest.raises(ValueError, match="at least 1 a class, got 0 for the class 0"):
        fitted.select(0)
    with pytest.raises(ValueError, match="must name each class of y and no other"):
        fitted.select({0: 3})


@pytest.mark.parametrize("baseline", [MedoidSubset(), ClusterMeans()])
def test_k_means_needs_a_run(baseline):
    with pytest.raises(ValueError, match="'n_init' parameter .* must be an int in the range"):
        clone(baseline).set_params(n_init=0).fit(X, Y)
