import json
import math
import re
import subprocess
import sys
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn import config_context

from skdistill import metrics
from skdistill.datasets import load_digits_split
from skdistill.subsets import RandomSubset

X, X_TEST, Y, Y_TEST = load_digits_split()

property_test = settings(max_examples=25, deadline=None)


@pytest.fixture
def torchmetrics():
    return pytest.importorskip("torchmetrics", reason="the Fréchet distance is torchmetrics'")


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


@st.composite
def two_sets(draw, min_real=7, min_synthetic=2):
    """Gaussian rows of two sets, with their random generator."""
    n_features = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    real = rng.normal(size=(draw(st.integers(min_real, 30)), n_features))
    synthetic = rng.normal(size=(draw(st.integers(min_synthetic, 20)), n_features))
    return real, synthetic + draw(st.floats(-2, 2)), rng


def grid_rows(min_rows, n_features=2):
    """Rows of small whole numbers, full of ties and duplicates."""
    shape = st.tuples(st.integers(min_rows, 12), st.just(n_features))
    return arrays(np.int16, shape, elements=st.integers(0, 4))


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


@given(two_sets())
@property_test
def test_frechet_distance_is_symmetric_and_invariant(sets):
    pytest.importorskip("torchmetrics", reason="the Fréchet distance is torchmetrics'")
    real, synthetic, rng = sets
    n_features = real.shape[1]
    rotation = ortho_group.rvs(n_features, random_state=rng) if n_features > 1 else -np.eye(1)
    expected = pytest.approx(metrics.frechet_distance(real, synthetic), rel=1e-5, abs=1e-6)
    assert metrics.frechet_distance(synthetic, real) == expected
    assert metrics.frechet_distance(rng.permutation(real), rng.permutation(synthetic)) == expected
    moved = metrics.frechet_distance(real @ rotation + 5.0, synthetic @ rotation + 5.0)
    assert moved == expected


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


@given(grid_rows(2), grid_rows(1))
@settings(max_examples=100, deadline=None)
def test_copying_against_its_definition(real, synthetic):
    check = metrics.copying(real, synthetic)
    to_real = cdist(synthetic.astype(float), real.astype(float))
    among_real = cdist(real.astype(float), real.astype(float))
    np.fill_diagonal(among_real, np.inf)
    assert_allclose(check.distances, to_real.min(axis=1), atol=1e-12)
    assert_allclose(check.real_distances, among_real.min(axis=1), atol=1e-12)
    assert_allclose(to_real[np.arange(len(synthetic)), check.indices], check.distances, atol=1e-12)


def test_frechet_distance_against_scipy(torchmetrics):
    rng = np.random.default_rng(0)
    for n_synthetic in (5, 40):
        real = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + 100.0
        synthetic = rng.normal(size=(n_synthetic, 12)) + 99.0
        a, b = np.cov(real.T), np.cov(synthetic.T)
        expected = np.sum((real.mean(axis=0) - synthetic.mean(axis=0)) ** 2)
        # The root of a product that is singular, as it is with few rows, is real but for rounding.
        expected += np.trace(a + b - 2.0 * np.real(sqrtm(a @ b)))
        assert metrics.frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@property_test
def test_frechet_distance_of_commuting_covariances(seed, n_features):
    pytest.importorskip("torchmetrics", reason="the Fréchet distance is torchmetrics'")
    rng = np.random.default_rng(seed)
    axes = ortho_group.rvs(n_features, random_state=rng) if n_features > 1 else np.eye(1)

    def draw(n, scales, mean):
        rows = rng.normal(size=(n, n_features))
        rows -= rows.mean(axis=0)
        white = np.linalg.qr(rows)[0] * np.sqrt(n - 1)
        return white * scales @ axes + mean

    scales = rng.uniform(0.5, 3.0, size=(2, n_features))
    means = rng.normal(size=(2, n_features))
    real, synthetic = (
        draw(n, *moments) for n, *moments in zip((30, 9), scales, means, strict=True)
    )
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((scales[0] - scales[1]) ** 2)
    assert metrics.frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("n_synthetic", [5, 300])
def test_frechet_distance_is_that_of_torchmetrics_in_all_coordinates(torchmetrics, n_synthetic):
    from torchmetrics.image.fid import FrechetInceptionDistance

    rows = torch.nn.Flatten()
    rows.num_features = 64
    metric = FrechetInceptionDistance(feature=rows)
    metric.update(torch.from_numpy(X), real=True)
    metric.update(torch.from_numpy(X_TEST[:n_synthetic]), real=False)
    expected = metric.compute().item()
    # Rounding under the root of torchmetrics' many zero eigenvalues is what differs.
    assert metrics.frechet_distance(X, X_TEST[:n_synthetic]) == pytest.approx(expected, rel=1e-6)


# Images.


def test_fid_is_the_frechet_distance_of_an_extractors_features(torchmetrics):
    torch.manual_seed(0)
    extractor = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Dropout())
    real, synthetic = X[:100], X_TEST[:30]

    def rows(images):
        x = torch.from_numpy(images[:, None] / 8.0 - 1.0).float()
        return extractor[:2](x).detach().double().numpy()

    expected = metrics.frechet_distance(rows(real), rows(synthetic))
    for batch_size in (7, 256):
        found = metrics.fid(real, synthetic, extractor=extractor, batch_size=batch_size)
        assert found == pytest.approx(expected, rel=1e-5)
    assert extractor.training


def test_fid_takes_one_value_range_for_both_sets_and_a_callable(torchmetrics):
    found = metrics.fid(X, X_TEST / 2.0, extractor=torch.nn.Identity())
    expected = metrics.frechet_distance(X / 8.0, X_TEST / 16.0)
    assert found == pytest.approx(expected, rel=1e-4)
    assert metrics.fid(
        X / 16.0, X_TEST / 32.0, extractor=lambda x: x.flatten(1), value_range=(0.0, 1.0)
    ) == pytest.approx(expected, rel=1e-4)


def test_fid_of_colour_bytes(torchmetrics):
    images = np.repeat(np.rint(X * 15.9).astype(np.uint8)[..., None], 3, axis=-1)
    extractor = torch.nn.AvgPool2d(4)
    found = metrics.fid(images, images[:200], extractor=extractor)
    assert 0.0 < found < 0.1
    assert found < metrics.fid(images, 255 - images[:200], extractor=extractor)


def test_fid_refuses_what_is_no_image_and_what_is_no_feature_row(torchmetrics):
    extractor = torch.nn.Identity()
    with pytest.raises(ValueError, match="must be images of one shape"):
        metrics.fid(X.reshape(len(X), -1), X.reshape(len(X), -1), extractor=extractor)
    with pytest.raises(ValueError, match="must be images of one shape"):
        metrics.fid(X, X[:, 1:], extractor=extractor)
    with pytest.raises(ValueError, match=r"features of shape \(n, n_features\)"):
        metrics.fid(X, X, extractor=lambda x: x.mean(dim=(1, 2, 3)))
    with pytest.raises(ValueError, match="must give a torch.Tensor, got ndarray"):
        metrics.fid(X, X, extractor=lambda x: x.flatten(1).numpy())
    with pytest.raises(ValueError, match="features that are not finite"):
        metrics.fid(X, X, extractor=lambda x: x / 0.0)
    with pytest.raises(ValueError, match="low < high"):
        metrics.fid(X, X, extractor=extractor, value_range=(1, 0))
    with pytest.raises(ValueError, match="device='nowhere'"):
        metrics.fid(X, X, extractor=extractor, device="nowhere")
    with pytest.raises(ValueError, match="'extractor' parameter"):
        metrics.fid(X, X, extractor="inception")
    assert math.isnan(metrics.fid(X, X[:1], extractor=extractor))


def test_fid_without_its_network_names_the_way_out(torchmetrics):
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pass a network of your own as extractor"):
            metrics.fid(X, X_TEST)
    else:
        pytest.skip("torch-fidelity is installed")


def test_torchmetrics_is_asked_for_only_where_it_is_needed(monkeypatch):
    code = "import sys, skdistill.metrics; sys.exit('torchmetrics' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(ImportError, match=r"pip install skdistill\[evaluation\]"):
        metrics.frechet_distance(X, X_TEST)
    with pytest.raises(ImportError, match=r"pip install skdistill\[evaluation\]"):
        metrics.fid(X, X_TEST)


# Copying.


def test_exact_and_near_copies_are_found():
    rng = np.random.default_rng(0)
    originals = rng.choice(len(X), size=50, replace=False)
    for noise in (0.0, 0.5):
        copies = X[originals] + noise * rng.normal(size=X[originals].shape)
        check = metrics.copying(X, copies)
        assert_array_equal(check.indices, originals)
        assert check.copied_share == 1.0
        assert check.ratio < 0.3
    mixed = metrics.copying(X, np.concatenate([X[originals], X_TEST[:50]]))
    assert_array_equal(mixed.distances[:50], 0.0)
    assert 0.5 <= mixed.copied_share < 0.65


def test_independent_real_images_are_no_copies():
    check = metrics.copying(X, X_TEST)
    assert check.ratio == pytest.approx(1.0, abs=0.1)
    assert check.copied_share < 0.1


def test_exact_copies_are_found_among_duplicates():
    real = np.repeat(X[:200], 2, axis=0)
    check = metrics.copying(real, np.concatenate([X[:10], X_TEST[:30]]))
    assert_array_equal(check.real_distances, 0.0)
    assert check.copied_share == 0.25
    assert math.isnan(check.ratio)


def test_rows_are_told_from_their_near_duplicates_by_their_index():
    rows = np.random.default_rng(0).normal(size=(50, 20))
    # So near that rounding decides which of the two seems the nearer.
    check = metrics.copying(np.concatenate([rows, rows + 1e-10]), rows)
    assert_allclose(check.real_distances, 1e-10 * np.sqrt(20), rtol=1e-4)


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
