import warnings

import numpy as np
import pytest
from conftest import rows_of
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

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
BASELINES = [
    RandomSubset(random_state=0),
    HerdingSubset(),
    KCenterSubset(),
    MedoidSubset(n_init=1, random_state=0),
    HierarchySubset(random_state=0),
    ClusterMeans(n_init=1, random_state=0),
]

each_baseline = pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: type(b).__name__)


@each_baseline
@pytest.mark.parametrize("ipc", [1, 7])
@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X,
        lambda X: X.reshape(len(X), -1).astype(np.float32),
        lambda X: np.rint(X * 15).astype(np.uint8)[..., None],
    ],
    ids=["images", "float32 rows", "bytes with a channel"],
)
def test_exact_counts_in_the_shape_and_dtype_of_the_data(baseline, ipc, convert):
    data, labels = convert(X), np.array(list("abcdefghij"))[Y]
    X_syn, y_syn = clone(baseline).set_params(ipc=ipc).fit(data, labels).sample()
    assert X_syn.shape == (10 * ipc, *data.shape[1:])
    assert X_syn.dtype == data.dtype
    assert_array_equal(y_syn, np.repeat(list("abcdefghij"), ipc))
    assert data.min() <= X_syn.min()
    assert X_syn.max() <= data.max()


@each_baseline
def test_seed_and_fit_fix_the_set(baseline):
    fitted = clone(baseline).set_params(ipc=3).fit(X, Y)
    assert_array_equal(fitted.sample()[0], fitted.sample()[0])
    assert_array_equal(fitted.sample()[0], clone(fitted).fit(X, Y).sample()[0])


def test_seeds_differ_and_unseeded_sets_repeat_until_the_next_fit():
    first, second = (RandomSubset(random_state=seed).fit(X, Y).sample()[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
    unseeded = RandomSubset().fit(X, Y)
    before = unseeded.sample()[0]
    assert_array_equal(before, unseeded.sample()[0])
    assert not np.array_equal(before, unseeded.fit(X, Y).sample()[0])


@each_baseline
def test_counts_may_differ_by_class(baseline):
    few = Y < 2
    fitted = clone(baseline).set_params(ipc={0: 3, 1: 5}).fit(X[few], Y[few])
    assert_array_equal(fitted.sample()[1], [0] * 3 + [1] * 5)
    assert_array_equal(fitted.sample({1: 1, 0: 2})[1], [0, 0, 1])


@each_baseline
def test_labels_keep_their_dtype(baseline):
    for labels in (Y.astype(np.int16), Y.astype(str), Y.astype(str).astype(object)):
        fitted = clone(baseline).set_params(ipc=2).fit(X, labels)
        assert fitted.sample()[1].dtype == labels.dtype


@each_baseline
def test_small_class_gives_all_its_rows_with_a_warning(baseline):
    keep = np.r_[np.flatnonzero(Y == 0)[:4], np.flatnonzero(Y == 1)]
    fitted = clone(baseline).fit(X[keep], Y[keep])
    with pytest.warns(UserWarning, match="Class 0 has rows for 4 samples, fewer than ipc=10") as w:
        X_syn, y_syn = fitted.sample()
    assert w[0].filename == __file__
    assert_array_equal(y_syn, [0] * 4 + [1] * 10)
    assert_allclose(
        np.sort(X_syn[:4].reshape(4, -1), axis=0), np.sort(X[keep][:4].reshape(4, -1), axis=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.sample(4)


@pytest.mark.parametrize("baseline", BASELINES[2:], ids=lambda b: type(b).__name__)
def test_duplicates_give_their_distinct_rows(baseline):
    rows = np.repeat([[0, 1], [2, 3], [9, 9]], 5, axis=0)
    with pytest.warns(UserWarning, match="rows for 3 samples"):
        X_syn, _ = clone(baseline).set_params(ipc=4).fit(rows, np.ones(15)).sample()
    assert len(X_syn) == 3
    assert rows_of(X_syn) == rows_of(rows)


@each_baseline
def test_bad_input_is_refused(baseline):
    baseline = clone(baseline)
    with pytest.raises(NotFittedError):
        baseline.sample()
    with pytest.raises(ValueError, match="X contains NaN"):
        baseline.fit(np.full_like(X, np.nan), Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        baseline.fit(X, Y[1:])
    with pytest.raises(ValueError, match="'ipc' parameter"):
        clone(baseline).set_params(ipc=0).fit(X, Y)
    baseline.fit(X, Y)
    with pytest.raises(ValueError, match="at least 1 a class, got 0 for the class 0"):
        baseline.sample(0)
    with pytest.raises(ValueError, match="must name each class of y and no other"):
        baseline.sample({0: 3})
