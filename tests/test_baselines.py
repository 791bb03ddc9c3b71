import inspect
import itertools
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise_distances
from sklearn.utils import get_tags

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.baselines import (
    ClusterMeans,
    DistributionMatching,
    HerdingSubset,
    HierarchySubset,
    KCenterSubset,
    MedoidSubset,
    RandomSubset,
    rivals,
)
from skdistill.datasets import load_digits_split
from skdistill.networks import conv_net

X, _, Y, _ = load_digits_split()
SUBSETS = [
    RandomSubset(random_state=0),
    HerdingSubset(),
    KCenterSubset(),
    MedoidSubset(n_init=1, random_state=0),
    HierarchySubset(random_state=0),
]
BASELINES = [*SUBSETS, ClusterMeans(n_init=1, random_state=0)]
NESTED = SUBSETS[:3]

each_baseline = pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: type(b).__name__)
each_subset = pytest.mark.parametrize("baseline", SUBSETS, ids=lambda b: type(b).__name__)
each_nested = pytest.mark.parametrize("baseline", NESTED, ids=lambda b: type(b).__name__)


def rows_of(X):
    return {row.tobytes() for row in X}


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


@each_subset
def test_large_data_is_measured_in_parts(baseline, monkeypatch):
    expected = clone(baseline).fit(X, Y).select()
    monkeypatch.setattr("skdistill.baselines.VALUES_AT_ONCE", 1000)
    assert_array_equal(clone(baseline).fit(X, Y).select(), expected)


def test_cluster_means_are_rounded_not_truncated():
    rows = np.array([[0], [3], [3]], dtype=np.int16)
    X_syn, _ = ClusterMeans(ipc=1).fit(rows, ["a"] * 3).sample()
    assert_array_equal(X_syn, [[2]])
    rows = np.array([[0], [2], [3]], dtype=np.int16)
    assert_array_equal(ClusterMeans(ipc=1).fit(rows, ["a"] * 3).sample()[0], [[2]])


def test_cluster_means_of_booleans_are_the_majority():
    rows = np.array([[True, False, True]] * 3 + [[False, False, True]] * 2)
    X_syn, _ = ClusterMeans(ipc=1).fit(rows, np.zeros(5)).sample()
    assert X_syn.dtype == bool
    assert_array_equal(X_syn, [[True, False, True]])
    mirrored, _ = ClusterMeans(ipc=1).fit(~rows, np.zeros(5)).sample()
    assert_array_equal(mirrored, ~X_syn)


def test_one_cluster_is_the_class_mean():
    X_syn, _ = ClusterMeans(ipc=1, n_init=1).fit(X, Y).sample()
    assert_allclose(X_syn, [X[label == Y].mean(axis=0) for label in range(10)], atol=1e-10)


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
    monkeypatch.setattr("skdistill.baselines._kmeans_centers", lambda *_: centres)
    chosen = MedoidSubset(ipc=3).fit(rows, np.zeros(5)).select()
    assert_array_equal(chosen, [1, 3, 4])


@pytest.mark.parametrize("ipc", [1, 5, 20])
def test_hierarchy_medoids_are_those_of_the_distillers_nodes(ipc):
    features, labels = load_iris(return_X_y=True)
    # An odd scale tells the latents, which are standardised, from the features.
    features = features * [1, 10, 1, 1]
    distiller = ManifoldGDDistiller(ipc, random_state=3).fit(features, labels)
    latents = distiller.backbone_.encode(features)
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


@pytest.fixture(scope="module")
def matched():
    return matching().fit(X, Y).sample()


def matching(**params):
    settings = {"ipc": 2, "steps": 8, "width": 16, "augmentation": ["crop"], "random_state": 0}
    return DistributionMatching(**settings | {"value_range": (0, 16), "device": "cpu"} | params)


def start_of(X, Y, **params):
    return matching(steps=0, **params).fit(X, Y).sample()[0]


class TestDistributionMatching:
    def test_mean_features_are_nearer_to_the_class_than_those_of_the_start(self):
        few = Y < 3
        settings = {"ipc": 5, "steps": 40, "width": 32}
        X_syn, y_syn = matching(**settings).fit(X[few], Y[few]).sample()
        start = start_of(X[few], Y[few], ipc=5)
        torch_state = torch.get_rng_state()

        def distance(images, label):
            gap = 0.0
            for seed in range(5):
                torch.manual_seed(10_000 + seed)
                features = conv_net((8, 8), 2, width=48)[:-1]
                real, other = (
                    features(torch.from_numpy(x[:, None] / 8 - 1).float()).mean(dim=0)
                    for x in (X[label == Y], images[y_syn == label])
                )
                gap += (real - other).square().sum().item()
            return gap

        for label in range(3):
            assert distance(X_syn, label) < 0.7 * distance(start, label)
        torch.set_rng_state(torch_state)

    @pytest.mark.parametrize(
        ("convert", "value_range"),
        [
            (lambda X: X, (0, 16)),
            (lambda X: (X / 16).astype(np.float32), None),
            (lambda X: np.rint(X * 15).astype(np.uint8), None),
            (lambda X: X.reshape(len(X), 64), (0, 16)),
            (lambda X: X[..., None], (0, 16)),
            (lambda X: np.stack([X, X[:, ::-1], 16 - X], axis=-1).astype(np.uint16), (0, 16)),
            (lambda X: X[:, :7, :5] - 20, (-20, -4)),
        ],
        ids=["images", "unit floats", "bytes", "rows", "a channel", "colour", "odd sizes"],
    )
    def test_samples_are_in_the_shape_dtype_and_range_of_the_data(self, convert, value_range):
        few = Y < 2
        data = convert(X)[few]
        image_shape = (8, 8) if data.ndim == 2 else None
        rival = matching(value_range=value_range, image_shape=image_shape, learning_rate=50.0)
        X_syn, y_syn = rival.fit(data, Y[few]).sample()
        assert X_syn.shape == (4, *data.shape[1:])
        assert X_syn.dtype == data.dtype
        assert_array_equal(y_syn, [0, 0, 1, 1])
        low, high = value_range or ((0, 255) if data.dtype == np.uint8 else (0, 1))
        # Large steps go to the ends of the range, and are stopped there.
        assert_allclose([X_syn.min(), X_syn.max()], [low, high], atol=1e-5)

    def test_rows_and_images_give_the_same_set(self, matched):
        rows = matching(image_shape=(8, 8)).fit(X.reshape(-1, 64), Y).sample()[0]
        assert_allclose(rows.reshape(-1, 8, 8), matched[0], atol=1e-5)

    def test_seed_fixes_the_set_and_leaves_the_global_generator_alone(self, matched):
        state = torch.get_rng_state()
        fitted = matching().fit(X, Y)
        assert_array_equal(fitted.sample()[0], matched[0])
        assert_array_equal(fitted.sample()[0], matched[0])
        assert_array_equal(fitted.fit(X, Y).sample()[0], matched[0])
        assert torch.equal(torch.get_rng_state(), state)
        assert not np.array_equal(matching(random_state=1).fit(X, Y).sample()[0], matched[0])

    def test_no_steps_give_random_real_images(self):
        start, y_syn = matching(steps=0).fit(X, Y).sample()
        for label in range(10):
            assert rows_of(start[y_syn == label]) <= rows_of(X[label == Y])
        assert len(rows_of(start)) == 20
        assert not np.array_equal(start, start_of(X, Y, random_state=1))
        data = np.rint(X * 15).astype(np.uint8)
        assert rows_of(start_of(data, Y, value_range=None)) <= rows_of(data)

    def test_steps_leave_the_start_behind(self, matched):
        assert (np.abs(matched[0] - start_of(X, Y)).max(axis=(1, 2)) > 1e-3).all()

    def test_a_class_does_not_see_the_others(self, matched):
        few = Y < 3
        data = np.where((Y == 2)[:, None, None], 16 - X, X)[few]
        X_syn, y_syn = matching().fit(data, Y[few]).sample()
        assert_array_equal(X_syn[y_syn < 2], matched[0][matched[1] < 2])
        assert not np.array_equal(X_syn[y_syn == 2], matched[0][matched[1] == 2])

    def test_counts_may_differ_by_class(self):
        few = Y < 2
        fitted = matching(ipc={0: 3, 1: 1}, steps=1).fit(X[few], Y[few])
        assert_array_equal(fitted.sample()[1], [0] * 3 + [1])
        assert_array_equal(fitted.sample({0: 1, 1: 2})[1], [0, 1, 1])

    def test_small_class_gives_all_its_rows_with_a_warning(self):
        keep = np.r_[np.flatnonzero(Y == 0)[:4], np.flatnonzero(Y == 1)]
        fitted = matching(ipc=10, steps=0).fit(X[keep], Y[keep])
        with pytest.warns(UserWarning, match="Class 0 has rows for 4 samples, fewer than") as w:
            X_syn, y_syn = fitted.sample()
        assert w[0].filename == __file__
        assert_array_equal(y_syn, [0] * 4 + [1] * 10)
        assert rows_of(X_syn[:4]) == rows_of(X[keep][:4])

    def test_one_image_a_class_stays_as_it_is(self):
        # Whatever the change, the only real image is the start.
        everything = list(
            inspect.signature(DistributionMatching).parameters["augmentation"].default
        )
        X_syn, _ = matching(ipc=1, augmentation=everything).fit(X[:1], Y[:1]).sample()
        assert_allclose(X_syn, X[:1], atol=1e-4)

    def test_labels_and_parameters_are_kept(self):
        few = Y < 2
        labels = Y[few].astype(str).astype(object)
        rival = matching(steps=1)
        params = rival.get_params()
        fitted = pickle.loads(pickle.dumps(clone(rival).fit(X[few], labels)))
        X_syn, y_syn = fitted.sample()
        assert y_syn.dtype == object
        assert_array_equal(X_syn, rival.fit(X[few], labels).sample()[0])
        assert rival.get_params() == params
        tags = get_tags(rival)
        assert tags.input_tags.three_d_array
        assert tags.target_tags.required

    def test_half_precision_and_verbosity(self, matched, capsys, monkeypatch):
        few = Y < 1
        half = matching(dtype="bfloat16").fit(X[few], Y[few]).sample()[0]
        assert_allclose(half, matched[0][:2], atol=4)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        matching(verbose=1).fit(X[few], Y[few]).sample()
        assert "/8 " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("params", "data", "message"),
        [
            ({}, X.reshape(-1, 64), r"flat rows, its shape is \(1257, 64\); give image_shape="),
            ({"image_shape": (7, 8)}, X.reshape(-1, 64), r"image_shape=\(7, 8\) must be"),
            ({"image_shape": (-8, -8)}, X.reshape(-1, 64), r"got \(-8, -8\)"),
            ({}, X.reshape(-1, 2, 4, 4, 2), r"got \(2, 4, 4, 2\)"),
            ({}, np.full_like(X, np.nan), "X contains NaN"),
            ({}, X[1:], "inconsistent numbers of samples"),
            ({"value_range": (16, 0)}, X, "value_range must be"),
            ({"augmentation": "flip"}, X, "'augmentation' parameter"),
            ({"augmentation": {"flip"}}, X, "must be a sequence of names among 'flip'"),
            ({"augmentation": ["crop", "zoom"]}, X, "'flip', 'crop', .*, got 'zoom'"),
            ({"steps": -1}, X, "'steps' parameter"),
            ({"batch_size": 0}, X, "'batch_size' parameter"),
            ({"dtype": "float16"}, X, "'dtype' parameter"),
        ],
    )
    def test_bad_input_is_refused_by_fit(self, params, data, message):
        with pytest.raises(ValueError, match=message):
            matching(**params).fit(data, Y)

    def test_bad_use_is_refused_by_sample(self):
        with pytest.raises(NotFittedError):
            matching().sample()
        with pytest.raises(ValueError, match="8 x 8 pixels allow a depth of at most 3, got 4"):
            matching(depth=4).fit(X, Y).sample()
        with pytest.raises(ValueError, match="1 x 8 pixels are too small for a ConvNet"):
            matching().fit(X[:, :1], Y).sample()
        with pytest.raises(ValueError, match="device='abacus' is not there"):
            matching(device="abacus").fit(X, Y).sample()


@pytest.fixture(scope="module")
def fitted():
    made = rivals(15, random_state=0, num_inference_steps=20, strength=0.3)
    return {name: rival.fit(*load_iris(return_X_y=True)) for name, rival in made.items()}


class TestRivals:
    IRIS = load_iris(return_X_y=True)

    def distance_to_centroids(self, distiller):
        z = distiller.backbone_.encode(distiller.sample()[0])
        return np.linalg.norm(z - distiller.cluster_centers_, axis=1).mean()

    def test_all_make_sets_of_the_same_kind(self, fitted):
        sets = [rival.sample() for rival in fitted.values()]
        assert len(sets) == 11
        for X_syn, y_syn in sets:
            assert X_syn.shape == (45, 4)
            assert X_syn.dtype == np.float64
            assert_array_equal(y_syn, np.repeat([0, 1, 2], 15))
            assert np.isfinite(X_syn).all()
        assert len({X_syn.tobytes() for X_syn, _ in sets}) == 11
        for name, rival in fitted.items():
            assert len(rival.sample({0: 1, 1: 2, 2: 3})[0]) == 6, name

    def test_a_seed_fixes_all_of_them(self, fitted):
        again = rivals(15, random_state=0, num_inference_steps=20, strength=0.3)
        for name, rival in again.items():
            assert_array_equal(rival.fit(*self.IRIS).sample()[0], fitted[name].sample()[0])

    def test_images_stay_images_and_bytes_bytes(self, small_images):
        images, labels = small_images
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Images through the closed-form")
            for rival in rivals(2, random_state=0, num_inference_steps=5).values():
                X_syn, y_syn = rival.fit(images, labels).sample()
                assert X_syn.shape == (6, 8, 8)
                assert X_syn.dtype == np.uint8
                assert_array_equal(y_syn, [0, 0, 1, 1, 2, 2])

    def test_decoded_centroids_are_those_of_k_means_on_the_latents(self, fitted):
        features, labels = self.IRIS
        X_syn, y_syn = fitted["decoded centroids"].sample()
        z = (features - features.mean(axis=0)) / features.std(axis=0)
        seed = fitted["decoded centroids"].seed_
        for label in range(3):
            centres = KMeans(15, random_state=seed).fit(z[labels == label]).cluster_centers_
            expected = centres * features.std(axis=0) + features.mean(axis=0)
            assert_allclose(X_syn[y_syn == label], expected, rtol=1e-6)

    def test_d4m_starts_from_the_decoded_centroids_and_goes_its_way(self, fitted):
        decoded, d4m, unguided = (fitted[name] for name in ("decoded centroids", "D4M", "unguided"))
        assert_array_equal(d4m.cluster_centers_, decoded.cluster_centers_)
        assert clone(d4m).set_params(init_noise=0).fit(*self.IRIS).sample()[0].tolist() == (
            decoded.sample()[0].tolist()
        )
        far = clone(unguided).set_params(clusterer=KMeans()).fit(*self.IRIS)
        assert_array_equal(far.cluster_centers_, d4m.cluster_centers_)
        assert 0 < self.distance_to_centroids(d4m) < self.distance_to_centroids(far)

    def test_unguided_is_the_model_alone(self, fitted):
        plain = ManifoldGDDistiller(15, strength=0, num_inference_steps=20, random_state=0)
        expected, _ = plain.fit(*self.IRIS).sample()
        assert_array_equal(fitted["unguided"].sample()[0], expected)

    def test_mode_guidance_pulls_to_the_centres_of_k_means(self, fitted):
        mgd = fitted["MGD"]
        assert_array_equal(mgd.cluster_centers_, fitted["D4M"].cluster_centers_)
        free = clone(mgd).set_params(strength=0).fit(*self.IRIS)
        assert self.distance_to_centroids(mgd) < self.distance_to_centroids(free)

    def test_the_last_one_is_the_distiller_itself(self):
        made = rivals(7, "digits", value_range=(0, 16), strength=0.1)["ManifoldGD"]
        expected = ManifoldGDDistiller(7, "digits", value_range=(0, 16), strength=0.1)
        assert made.get_params() == expected.get_params()

    def test_parameters_reach_all_distillers_but_leave_rivals_what_they_are(self):
        params = {
            "device": "cpu",
            "resize": "bilinear",
            "strength": 0.9,
            "normal_strength": 0.2,
            "init_noise": 0.3,
            "scheduler": "EulerDiscreteScheduler",
        }
        made = rivals(**params)
        distillers = {k: r for k, r in made.items() if isinstance(r, ManifoldGDDistiller)}
        assert len(distillers) == 5
        for distiller in distillers.values():
            assert distiller.device == "cpu"
            assert distiller.resize == "bilinear"
        assert made["ManifoldGD"].get_params().items() >= params.items()
        settings = {
            name: (r.strength, r.normal_strength, r.init_noise, r.scheduler)
            for name, r in distillers.items()
            if name != "ManifoldGD"
        }
        assert settings == {
            "decoded centroids": (0, 0, 0, "EulerDiscreteScheduler"),
            "D4M": (0, 0, 0.7, "EulerDiscreteScheduler"),
            "unguided": (0, 0, 1, "EulerDiscreteScheduler"),
            "MGD": (0.1, 0, 1, "DDPMScheduler"),
        }

    def test_budget_and_seed_reach_all(self):
        for name, rival in rivals(ipc=4, random_state=5).items():
            assert rival.ipc == 4
            if "random_state" in inspect.signature(type(rival)).parameters:
                assert rival.random_state == 5, name

    def test_unknown_parameters_are_refused(self):
        with pytest.raises(TypeError, match="n_steps"):
            rivals(n_steps=3)
