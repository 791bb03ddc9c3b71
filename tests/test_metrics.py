import json
import math
import re
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from drawn_sets import grid_rows, property_test, two_sets
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn import config_context

from skdistill import metrics
from skdistill.datasets import load_digits_split
from skdistill.subsets import RandomSubset

X, X_TEST, Y, Y_TEST = load_digits_split()


def figures(real, synthetic, **sampling):
    """All figures of two sets but the Fréchet distance, which needs torchmetrics."""
    check = metrics.copying(real, synthetic, **sampling)
    return {
        "mean_distance": metrics.mean_distance(real, synthetic),
        "mean_cosine": metrics.mean_cosine(real, synthetic),
        "mmd": metrics.mmd(real, synthetic, **sampling),
        "representativeness": metrics.representativeness(real, synthetic),
        "diversity": metrics.diversity(synthetic),
        "coverage": metrics.coverage(real, synthetic, **sampling),
        "density": metrics.density(real, synthetic, **sampling),
        "nearest_real_ratio": check.ratio,
        "copied_share": check.copied_share,
    }


EUCLIDEAN = ("mean_distance", "mmd", "coverage", "density", "nearest_real_ratio", "copied_share")
ANGULAR = ("mean_cosine", "representativeness", "diversity")


def assert_same_figures(actual, expected, names=EUCLIDEAN + ANGULAR):
    for name in names:
        assert_allclose(actual[name], expected[name], rtol=1e-8, atol=1e-9, err_msg=name)


# Known values of sets that are alike, and order of sets that are not.


def test_identical_sets_are_at_the_best_value(torchmetrics):
    found = figures(X, X, max_samples=len(X))
    assert found["mean_distance"] == 0.0
    assert found["mean_cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found["representativeness"] == pytest.approx(1.0, abs=1e-12)
    assert found["coverage"] == 1.0
    # Digits are whole numbers: now and then two neighbours are equally far, and none is inside.
    assert found["density"] == pytest.approx(1.0, abs=0.01)
    no_ties = X + 0.01 * np.random.default_rng(0).random(X.shape)
    assert metrics.density(no_ties, no_ties) == pytest.approx(1.0, rel=1e-12)
    assert found["nearest_real_ratio"] == 0.0
    assert found["copied_share"] == 1.0
    # The pairs of a row with its own copy are all that is in the last term and not in the others.
    assert -2.0 / len(X) < found["mmd"] < 0.0
    assert metrics.frechet_distance(X, X) == pytest.approx(0.0, abs=1e-4)


def test_copies_have_no_diversity():
    assert metrics.diversity(X[[0, 1, 0]]) == pytest.approx(0.0, abs=1e-12)


def test_real_subset_against_the_real_set(torchmetrics):
    subset = X[::13]
    found = figures(X, subset)
    assert found["representativeness"] == pytest.approx(1.0, abs=1e-12)
    assert found["copied_share"] == 1.0
    assert found["nearest_real_ratio"] == 0.0
    assert metrics.density(X, subset, max_samples=len(X)) == pytest.approx(1.0, abs=0.2)
    assert_array_equal(metrics.copying(X, subset).indices, np.arange(0, len(X), 13))
    assert_array_equal(metrics.copying(X, subset).distances, 0.0)


@pytest.mark.parametrize("options", [{"bandwidth": 1.5}, {"bandwidth": 1.5, "max_samples": 16}, {}])
def test_mmd_is_zero_on_average_for_independent_draws(options):
    rng = np.random.default_rng(0)
    values = [
        metrics.mmd(rng.normal(size=(40, 3)), rng.normal(size=(15, 3)), random_state=i, **options)
        for i in range(400)
    ]
    assert abs(np.mean(values)) < 4.0 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0.0


def test_mmd_of_independent_digits_is_zero_on_average():
    rng = np.random.default_rng(0)
    values = []
    for seed in range(100):
        order = rng.permutation(len(X))
        synthetic, real = np.split(X[order], [100])
        values.append(metrics.mmd(real, synthetic, bandwidth=30.0, random_state=seed))
    assert abs(np.mean(values)) < 4.0 * np.std(values) / np.sqrt(len(values))
    assert metrics.mmd(X[Y != 3], X[Y == 3]) > 10.0 * np.std(values)


@given(two_sets(), st.floats(0.1, 5.0))
@property_test
def test_means_move_by_the_shift(sets, length):
    real, _, rng = sets
    shift = rng.normal(size=real.shape[1])
    shift *= length / np.linalg.norm(shift)
    assert metrics.mean_distance(real, real + shift) == pytest.approx(length, rel=1e-9)


def test_figures_worsen_with_the_shift(torchmetrics):
    shift = np.random.default_rng(0).normal(size=X[0].shape)
    shifted = [X_TEST + size * shift for size in (0.0, 1.0, 2.0, 4.0)]
    found = [figures(X, synthetic) for synthetic in shifted]
    for name in ("mean_distance", "mmd", "nearest_real_ratio"):
        assert all(np.diff([f[name] for f in found]) > 0.0), name
    for name in ("mean_cosine", "representativeness", "coverage", "density"):
        assert all(np.diff([f[name] for f in found]) < 0.0), name
    distances = [metrics.frechet_distance(X, synthetic) for synthetic in shifted]
    assert all(np.diff(distances) > 0.0)


# Invariances.


@given(two_sets())
@property_test
def test_order_of_rows_does_not_matter(sets):
    real, synthetic, rng = sets
    shuffled = figures(rng.permutation(real), rng.permutation(synthetic))
    assert_same_figures(shuffled, figures(real, synthetic))


@given(two_sets(), st.floats(-100.0, 100.0))
@property_test
def test_rigid_motions_keep_distances_and_rotations_keep_angles(sets, shift):
    real, synthetic, rng = sets
    n_features = real.shape[1]
    rotation = ortho_group.rvs(n_features, random_state=rng) if n_features > 1 else -np.eye(1)
    before = figures(real, synthetic)
    rotated = figures(real @ rotation, synthetic @ rotation)
    assert_same_figures(rotated, before)
    assert_same_figures(figures(real + shift, synthetic + shift), before, EUCLIDEAN)
    assert_same_figures(figures(3.0 * real, 3.0 * synthetic), before, ANGULAR)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_keep_their_digits_far_from_zero(dtype):
    real, synthetic = X[:300].astype(dtype), X_TEST[:50].astype(dtype)
    far = figures(real + dtype(4096), synthetic + dtype(4096))
    assert_same_figures(far, figures(real, synthetic), EUCLIDEAN)


# Against naive definitions.


@given(two_sets(min_real=2))
@property_test
def test_means_and_angles_against_loops(sets):
    real, synthetic, _ = sets

    def cosine(a, b):
        return a @ b / np.sqrt((a @ a) * (b @ b))

    mean, mean_synthetic = real.mean(axis=0), synthetic.mean(axis=0)
    best = [max(cosine(x, y) for x in real) for y in synthetic]
    pairs = [cosine(synthetic[i], synthetic[j]) for i in range(len(synthetic)) for j in range(i)]
    assert_allclose(
        [
            metrics.mean_distance(real, synthetic),
            metrics.mean_cosine(real, synthetic),
            metrics.representativeness(real, synthetic),
            metrics.diversity(synthetic),
        ],
        [
            math.dist(mean, mean_synthetic),
            cosine(mean, mean_synthetic),
            min(best),
            1.0 - max(pairs),
        ],
        rtol=1e-10,
        atol=1e-10,
    )


@given(two_sets(min_real=2), st.sampled_from([None, 0.3, 2.0]))
@property_test
def test_mmd_against_loops(sets, bandwidth):
    real, synthetic, _ = sets
    n, m = len(real), len(synthetic)
    distances = [math.dist(real[i], real[j]) for i in range(n) for j in range(i)]
    h = np.median(distances) if bandwidth is None else bandwidth

    def kernel(a, b):
        return math.exp(-(math.dist(a, b) ** 2) / (2.0 * h**2))

    within_real = np.mean([kernel(real[i], real[j]) for i in range(n) for j in range(n) if i != j])
    within_synthetic = np.mean(
        [kernel(synthetic[i], synthetic[j]) for i in range(m) for j in range(m) if i != j]
    )
    between = np.mean([kernel(x, y) for x in real for y in synthetic])
    assert metrics.mmd(real, synthetic, bandwidth=bandwidth) == pytest.approx(
        within_real + within_synthetic - 2.0 * between, rel=1e-9, abs=1e-11
    )


def naive_balls(real, synthetic, k):
    """Whether each synthetic row is in the ball of each real one."""
    distances = cdist(real.astype(float), real.astype(float))
    np.fill_diagonal(distances, np.inf)
    radii = np.sort(distances, axis=1)[:, k - 1]
    return cdist(real.astype(float), synthetic.astype(float)) < radii[:, None]


@given(grid_rows(6), grid_rows(1), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_coverage_and_density_against_their_definitions(real, synthetic, k):
    inside = naive_balls(real, synthetic, k)
    assert metrics.coverage(real, synthetic, n_neighbors=k) == pytest.approx(
        inside.any(axis=1).mean(), abs=1e-12
    )
    assert metrics.density(real, synthetic, n_neighbors=k) == pytest.approx(
        inside.sum() / (k * len(synthetic)), abs=1e-12
    )


# Size.


@pytest.mark.parametrize("n_synthetic", [20, 90])
def test_chunks_do_not_change_the_figures(torchmetrics, n_synthetic):
    real, synthetic = X[:300], X_TEST[:n_synthetic]
    whole = figures(real, synthetic), metrics.frechet_distance(real, synthetic)
    with config_context(working_memory=0.02):
        chunked = figures(real, synthetic), metrics.frechet_distance(real, synthetic)
    assert_same_figures(chunked[0], whole[0])
    assert chunked[1] == pytest.approx(whole[1], rel=1e-8)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_values_of_any_dtype_are_those_in_float64(dtype):
    real, synthetic = ((rows > 8.0).astype(dtype) for rows in (X[:200], X_TEST[:30]))
    expected = figures(real.astype(np.float64), synthetic.astype(np.float64))
    assert_same_figures(figures(real, synthetic), expected)


@pytest.mark.parametrize("name", ["mmd", "coverage", "density"])
def test_samples_of_the_real_rows_estimate_the_figure_of_all(name):
    metric = getattr(metrics, name)
    options = {"bandwidth": 20.0} if name == "mmd" else {}
    real, synthetic = X[:400], X_TEST[:200] + 1.0
    full = metric(real, synthetic, max_samples=400, **options)
    values = [
        metric(real, synthetic, max_samples=50, random_state=seed, **options) for seed in range(100)
    ]
    assert abs(np.mean(values) - full) < 4.0 * np.std(values) / np.sqrt(len(values))
    assert np.std(values) > 0.0
    assert metric(real, synthetic, max_samples=50, random_state=3, **options) == values[3]


def test_no_matrix_of_all_pairs_of_real_rows(torchmetrics):
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(60_000, 8)), rng.normal(size=(50, 8))
    y_real, y_syn = np.zeros(len(real), dtype=int), np.zeros(len(synthetic), dtype=int)
    tracemalloc.start()
    try:
        metrics.compare_sets(real, y_real, synthetic, y_syn, max_samples=100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All pairs would take 28.8 GB.
    assert peak < 150e6


@pytest.mark.slow
def test_time_and_memory_grow_linearly_with_the_real_set(torchmetrics):
    rng = np.random.default_rng(0)
    synthetic = rng.normal(size=(200, 32))
    spent = []
    for n_real in (20_000, 200_000):
        real = rng.normal(size=(n_real, 32)).astype(np.float32)
        labels = np.arange(n_real) % 10, np.arange(200) % 10
        tracemalloc.start()
        start = time.perf_counter()
        with config_context(working_memory=16):
            metrics.compare_sets(real, labels[0], synthetic, labels[1])
        seconds = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        spent.append((seconds, peak))
    (seconds, peak), (more_seconds, more_peak) = spent
    assert more_seconds < 20.0 * seconds
    assert more_peak < 10.0 * peak


# Labelled sets.


@pytest.fixture(scope="module")
def small_sets():
    real, synthetic = Y < 3, Y_TEST < 3
    return X[real], Y[real], X_TEST[synthetic][:40], Y_TEST[synthetic][:40]


def test_sets_are_compared_by_the_documented_figures(torchmetrics, small_sets):
    X_real, y_real, X_syn, y_syn = small_sets
    comparison = metrics.compare_sets(X_real, y_real, X_syn, y_syn, max_samples=50, random_state=1)
    assert list(comparison) == ["overall", "by_class"]
    assert list(comparison["by_class"]) == [0, 1, 2]
    parts = {label: (X_real[y_real == label], X_syn[y_syn == label]) for label in range(3)}
    for found, sets in [
        (comparison["overall"], (X_real, X_syn)),
        *((comparison["by_class"][label], parts[label]) for label in range(3)),
    ]:
        expected = figures(*sets, max_samples=50, random_state=1)
        expected["fid"] = metrics.frechet_distance(*sets)
        assert found == expected
    assert json.loads(json.dumps(comparison))["by_class"]["2"] == comparison["by_class"][2]


def test_embedding_is_asked_for_in_batches_and_copying_is_judged_in_both_spaces(torchmetrics):
    shapes = set()

    def embed(images):
        shapes.add((*images.shape[1:], images.dtype.name))
        assert len(images) <= 256
        return torch.from_numpy(images[:, ::2, ::2].astype(np.float32))

    images, images_syn = np.rint(X).astype(np.uint8), np.rint(X_TEST[:50]).astype(np.uint8)
    comparison = metrics.compare_sets(images, Y, images_syn, Y_TEST[:50], embed=embed)
    assert shapes == {(8, 8, "uint8")}
    overall = comparison["overall"]
    expected = figures(images[:, ::2, ::2], images_syn[:, ::2, ::2], random_state=0)
    in_pixels = figures(images, images_syn, random_state=0)
    for name in expected:
        if name in ("nearest_real_ratio", "copied_share"):
            assert overall[name] == pytest.approx(in_pixels[name])
            assert overall[f"embedded_{name}"] == pytest.approx(expected[name])
        else:
            assert overall[name] == pytest.approx(expected[name])
    assert set(comparison["by_class"][0]) == set(overall)


def test_undefined_figures_are_none(torchmetrics):
    X_syn, y_syn = RandomSubset(ipc=1, random_state=0).fit(X, Y).sample()
    comparison = metrics.compare_sets(X, Y, X_syn, y_syn)
    assert None not in comparison["overall"].values()
    for found in comparison["by_class"].values():
        missing = {name for name, figure in found.items() if figure is None}
        assert missing == {"fid", "mmd", "diversity"}
    one = metrics.compare_sets(X[:1], Y[:1], X[:1], Y[:1])["overall"]
    defined = {name for name, figure in one.items() if figure is not None}
    assert defined == {"mean_distance", "mean_cosine", "representativeness"}
    json.dumps(comparison, allow_nan=False)


def test_labels_are_kept_and_classes_without_synthetic_rows_left_out(torchmetrics):
    names = np.array(list("abcdefghij"), dtype=object)
    comparison = metrics.compare_sets(X, names[Y], X[Y < 2][:20], names[Y[Y < 2]][:20])
    assert list(comparison["by_class"]) == ["a", "b"]


def test_labels_and_embeddings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"y_syn has the labels \[3\], which y_real lacks; it has"):
        metrics.compare_sets(X[Y != 3], Y[Y != 3], X[:9], np.r_[3, Y[Y != 3][:8]])
    with pytest.raises(ValueError, match="which y_real lacks"):
        metrics.compare_sets(X, Y, X[:9], Y[:9].astype(str))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.compare_sets(X, Y[1:], X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metrics.compare_sets(X, Y, X, Y[1:])
    with pytest.raises(ValueError, match="embed must turn n rows into features"):
        metrics.compare_sets(X, Y, X, Y, embed=lambda rows: rows[1:])
    with pytest.raises(ValueError, match="embed must turn n rows into features"):
        metrics.compare_sets(X, Y, X, Y, embed=lambda rows: rows.mean(axis=(1, 2)))
    with pytest.raises(ValueError, match="'embed' parameter"):
        metrics.compare_sets(X, Y, X, Y, embed="vae")


# Bad input.

each_metric = pytest.mark.parametrize(
    "metric",
    [
        metrics.frechet_distance,
        metrics.mean_distance,
        metrics.mean_cosine,
        metrics.mmd,
        metrics.representativeness,
        metrics.coverage,
        metrics.density,
        metrics.copying,
    ],
    ids=lambda metric: metric.__name__,
)


@each_metric
def test_sets_that_do_not_fit_are_refused(metric):
    rows = X.reshape(len(X), -1)
    with pytest.raises(ValueError, match="synthetic has 63 features a row and real has 64"):
        metric(X, rows[:, 1:])
    with pytest.raises(ValueError, match="synthetic contains NaN"):
        metric(X, np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="real contains infinity"):
        metric(np.full_like(X, np.inf), X)
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        metric(X, X[:0])
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        metric(X[:0], X)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        metric(X[0, 0], X)
    with pytest.raises(ValueError, match="numeric"):
        metric([["a"]], [["b"]])


@pytest.mark.parametrize("bandwidth", [0, -1.0, 1e-200, 1e200, "median"])
def test_bandwidth_must_be_positive_with_a_square(bandwidth):
    message = r"'bandwidth' parameter of mmd .* range \[1e-150, 1e\+150\] or None. Got "
    with pytest.raises(ValueError, match=message + re.escape(repr(bandwidth))):
        metrics.mmd(X, X, bandwidth=bandwidth)


def test_the_ends_of_the_bandwidths_tell_all_rows_apart_or_none():
    rows = np.arange(12.0).reshape(6, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.mmd(rows, rows + 0.5, bandwidth=1e-150) == 0.0
        assert metrics.mmd(rows, np.ones((2, 2)), bandwidth=1e-150) == 1.0
        assert metrics.mmd(rows, np.ones((2, 2)), bandwidth=1e150) == 0.0
        assert math.isnan(metrics.mmd(rows * 1e-160, rows * 1e-160))


def test_numbers_of_samples_and_neighbors_are_checked():
    for metric in (metrics.mmd, metrics.coverage, metrics.density, metrics.copying):
        with pytest.raises(ValueError, match="'max_samples' parameter"):
            metric(X, X, max_samples=1)
    for metric in (metrics.coverage, metrics.density):
        with pytest.raises(ValueError, match="'n_neighbors' parameter"):
            metric(X, X, n_neighbors=0)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        metrics.copying(X[:1], X)


def test_too_few_rows_leave_a_figure_undefined():
    assert math.isnan(metrics.frechet_distance(X, X[:1]))
    assert math.isnan(metrics.mmd(X, X[:1]))
    assert math.isnan(metrics.mmd(X[:1], X))
    assert math.isnan(metrics.mmd(X[[0, 0, 0, 0, 1]], X))
    assert math.isnan(metrics.diversity(X[:1]))
    assert math.isnan(metrics.coverage(X[:5], X))
    assert math.isnan(metrics.density(X[:5], X))
    assert not math.isnan(metrics.coverage(X[:6], X))
    assert math.isnan(metrics.mean_cosine([[1.0], [-1.0]], [[1.0]]))


def test_the_bandwidth_of_mmd_is_that_of_rows_from_everywhere():
    """Rows sorted by cluster: the first hundred are one, and lie close together."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(600, 2)) + 100.0 * np.repeat(np.arange(6), 100)[:, None]
    synthetic = real[::6] + 30.0
    found = metrics.mmd(real, synthetic, max_samples=100, random_state=0)
    assert found == pytest.approx(metrics.mmd(real, synthetic, max_samples=600), abs=0.05)
