import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from skdistill.backbones import ClosedFormBackbone, GaussianMixtureScore


def draw(mixture, n):
    """Draw points of the mixture itself, without the errors of a diffusion's steps."""
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": mixture.means.dtype}
    k = torch.multinomial(mixture.weights, n, replacement=True, generator=generator)
    along = mixture.variances[k].sqrt() * torch.randn(n, mixture.bases.shape[1], **options)
    noise = mixture.isotropic[k, None].sqrt() * torch.randn(n, mixture.means.shape[1], **options)
    return (mixture.means[k] + torch.einsum("nr,nrf->nf", along, mixture.bases[k]) + noise).numpy()


@pytest.fixture(scope="module", params=[3, 4, 5])
def few_rows(request):
    """A class of a few standardised rows of 13 features, and 2,000 samples of its mixture."""
    X, y = load_wine(return_X_y=True)
    rows = scale(X)[y == 1][: request.param]
    return rows, draw(GaussianMixtureScore.fit(rows, random_state=0), 2000)


def test_samples_of_a_class_of_few_rows_keep_away_from_them(few_rows):
    rows, samples = few_rows
    between_rows = cdist(rows, rows)
    np.fill_diagonal(between_rows, np.inf)
    to_rows = cdist(samples, rows).min(axis=1) / np.median(between_rows.min(axis=1))
    assert to_rows.min() > 0.2
    assert np.quantile(to_rows, 0.01) > 0.4
    # Nor are they off the data altogether.
    assert 0.75 < np.median(to_rows) < 1.5


def test_samples_of_a_class_of_few_rows_are_no_mere_blends_of_them(few_rows):
    """Blends lie in the plane through the rows, which is small against the space."""
    rows, samples = few_rows
    _, _, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    plane = directions[: len(rows) - 1]
    deviations = samples - rows.mean(axis=0)
    within = np.sum((deviations @ plane.T) ** 2) / np.sum(deviations**2)
    assert 0.25 < 1 - within < 0.65


def test_covariance_of_few_rows_is_their_scatter_and_five_rows_worth_of_isotropic_prior(few_rows):
    rows, _ = few_rows
    mixture = GaussianMixtureScore.fit(rows, random_state=0)
    deviations = rows - rows.mean(axis=0)
    prior = np.mean(deviations**2) * np.eye(13)
    (basis,), (variances,) = mixture.bases.numpy(), mixture.variances.numpy()
    np.testing.assert_allclose(
        basis.T @ np.diag(variances) @ basis + mixture.isotropic.item() * np.eye(13),
        (deviations.T @ deviations + 5 * prior) / (len(rows) + 5),
        atol=1e-12,
    )


def test_what_is_kept_of_many_directions_has_the_variance_of_all(monkeypatch):
    """A hundred rows of 60 features, one component: 32 directions are kept, the rest averaged."""
    monkeypatch.setattr("skdistill.backbones.closed_form.ROWS_PER_COMPONENT", 1000)
    rows = np.random.default_rng(0).normal(size=(100, 60))
    mixture = GaussianMixtureScore.fit(rows, random_state=0)
    assert mixture.variances.shape == (1, 32)
    scatter = np.sum((rows - rows.mean(axis=0)) ** 2)
    expected = (scatter + 5 * scatter / 100) / 105
    np.testing.assert_allclose(mixture.variances.sum() + 60 * mixture.isotropic.sum(), expected)


def test_classes_have_their_shares_of_the_marginal():
    X = np.random.default_rng(0).normal(size=(100, 3))
    backbone = ClosedFormBackbone(random_state=0).fit(X, np.arange(100) % 10 // 9, 2)
    first = len(backbone.mixtures[0].weights)
    np.testing.assert_allclose(backbone.marginal.weights[:first].sum(), 0.9)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 0.1])
def test_what_rounding_leaves_of_a_constant_feature_is_no_latent(value):
    # The mean of eleven such numbers is not quite the number.
    X = np.column_stack([np.full(11, value), np.arange(11.0)])
    backbone = ClosedFormBackbone().fit(X, np.zeros(11, dtype=int), 1)
    z = backbone.encode(X)
    assert not z[:, 0].any()
    np.testing.assert_allclose(backbone.decode(torch.from_numpy(z)), X)


@pytest.mark.parametrize("offset", [1e6, 16e6])
def test_large_whole_numbers_in_float32_are_no_rounding(offset):
    """As dates are, 20240131."""
    X = (offset + np.arange(21.0)).astype(np.float32)[:, None]
    backbone = ClosedFormBackbone().fit(X, np.zeros(21, dtype=int), 1)
    z = backbone.encode(X)
    np.testing.assert_allclose(z.std(), 1.0, rtol=0.01)
    np.testing.assert_allclose(backbone.decode(torch.from_numpy(z)), X, rtol=1e-6)


def test_noise_over_signal_grows_geometrically():
    alpha_bar = ClosedFormBackbone().default_scheduler.alphas_cumprod.double()
    ratio = ((1 - alpha_bar) / alpha_bar).sqrt()
    # Where there is next to no noise, diffusers' float32 has few digits left for it.
    np.testing.assert_allclose(ratio[[0, 500, -1]], [0.00125, 0.317, 80], rtol=0.03)
    np.testing.assert_allclose(ratio.log().diff()[300:], np.log(64_000) / 999, rtol=0.02)
