import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from drawn_sets import property_test, two_sets
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from skdistill import metrics
from skdistill.datasets import load_digits_split
from skdistill.metrics.frechet import _Inception

X, X_TEST, _, _ = load_digits_split()


@given(two_sets())
@property_test
def test_frechet_distance_is_symmetric_and_invariant(torchmetrics, sets):
    real, synthetic, rng = sets
    n_features = real.shape[1]
    rotation = ortho_group.rvs(n_features, random_state=rng) if n_features > 1 else -np.eye(1)
    expected = pytest.approx(metrics.frechet_distance(real, synthetic), rel=1e-5, abs=1e-6)
    assert metrics.frechet_distance(synthetic, real) == expected
    assert metrics.frechet_distance(rng.permutation(real), rng.permutation(synthetic)) == expected
    moved = metrics.frechet_distance(real @ rotation + 5.0, synthetic @ rotation + 5.0)
    assert moved == expected


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
def test_frechet_distance_of_commuting_covariances(torchmetrics, seed, n_features):
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
    with pytest.raises(ImportError, match=r"pip install 'skdistill\[evaluation\]'"):
        metrics.frechet_distance(X, X_TEST)
    with pytest.raises(ImportError, match=r"pip install 'skdistill\[evaluation\]'"):
        metrics.fid(X, X_TEST)


def test_inception_is_given_the_bytes_of_images():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    found = _Inception(torch.nn.Identity())(pixels / 127.5 - 1.0)
    assert found.dtype == torch.uint8
    assert torch.equal(found, pixels.expand(-1, 3, -1, -1))
