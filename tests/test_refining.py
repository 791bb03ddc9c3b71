from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import feature_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split
from skdistill.matching import RandomFeatures
from skdistill.refining import MatchingRefiner, SupportPointsRefiner

X, _, Y, _ = load_digits_split()
THREES, FIVES = (torch.from_numpy(X[label == Y] / 8 - 1).float()[:, None] for label in (3, 5))
FEW = np.concatenate([np.flatnonzero(label == Y)[:40] for label in (3, 5)])


def refine(z=FIVES[:5], real=THREES, decode=torch.clone, seed=0, **settings):
    refiner = MatchingRefiner(**{"steps": 30, "width": 32} | settings)
    return refiner.refine(z, real, decode, torch.Generator().manual_seed(seed))


def distil(**settings):
    refiner = MatchingRefiner(10, width=16)
    defaults = {"num_inference_steps": 5, "random_state": 0, "refiner": refiner}
    return ManifoldGDDistiller(3, "digits", **defaults | settings).fit(X[FEW], Y[FEW])


@pytest.mark.parametrize("start", [THREES, FIVES], ids=["threes", "fives"])
def test_a_set_comes_nearer_to_its_class_in_unseen_networks(start):
    refined = refine(start[:5])
    assert feature_distance(THREES, refined) < 0.7 * feature_distance(THREES, start[:5])


def test_latents_are_followed_through_the_decoder():
    """Half the pixels are of the decoder's making: latents cannot change them."""

    def decode(z):
        return torch.cat([z, -torch.ones_like(z)], dim=-1)

    halves, real = FIVES[:5, ..., :4], THREES[..., :4]
    refined = refine(halves, real, decode=decode)
    assert refined.shape == halves.shape
    wanted = decode(real)
    assert feature_distance(wanted, decode(refined)) < feature_distance(wanted, decode(halves))


def test_what_is_decoded_at_once_does_not_matter():
    real = THREES[:4]
    few = refine(FIVES[:10], real, batch_size=4, steps=5)
    all_of_them = refine(FIVES[:10], real, batch_size=64, steps=5)
    assert_allclose(few, all_of_them, atol=1e-4)
    assert not torch.allclose(few, FIVES[:10], atol=1e-2)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_the_gradient_is_that_of_the_squared_distance_of_means(batch_size):
    features = RandomFeatures(
        THREES,
        augmentation=["rotate"],
        generator=torch.Generator().manual_seed(0),
        depth=None,
        width=16,
        dtype=torch.float32,
    )
    wanted = features.draw(64)
    z = FIVES[:5].clone().requires_grad_()
    loss = (features(torch.tanh(z)).mean(dim=0) - wanted).square().sum()
    (expected,) = torch.autograd.grad(loss, z)
    found = MatchingRefiner(batch_size=batch_size)._gradient(
        z.detach(), wanted, features, torch.tanh
    )
    assert expected.abs().max() > 1e-3
    assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_the_loss_weighs_pixels_by_their_number_and_that_of_features():
    refiner = MatchingRefiner(pixel_weight=0.3)
    rng = np.random.default_rng(0)
    features, pixels = (torch.from_numpy(rng.normal(size=(2, n))) for n in (6, 4))
    first, second = refiner._with_pixels(features, pixels)
    expected = (features[0] - features[1]).square().sum()
    expected += 0.3 * 6 / 4 * (pixels[0] - pixels[1]).square().sum()
    assert_allclose((first - second).square().sum(), expected)


def test_pixels_come_nearer_to_the_mean_of_the_class_the_more_they_weigh():
    distances = [
        float(torch.linalg.vector_norm(refine(pixel_weight=w).mean(dim=0) - THREES.mean(dim=0)))
        for w in (0.0, 0.1, 10.0)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.5 * distances[0]


def test_a_seed_fixes_the_result_and_the_caller_keeps_their_latents():
    start = FIVES[:5].clone()
    assert torch.equal(refine(start), refine(start))
    assert not torch.equal(refine(start), refine(start, seed=1))
    assert torch.equal(start, FIVES[:5])
    assert torch.equal(refine(start, steps=0), start)
    assert not refine(start).requires_grad


@pytest.mark.parametrize("seed", range(3))
def test_the_last_bit_of_the_latents_is_not_magnified(seed):
    start = FIVES[:5] / 2
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed))
    refined, nearby = (
        refine(z, decode=torch.tanh, seed=seed, steps=200) for z in (start, start + 1e-6 * noise)
    )
    assert (refined - start).abs().max() > 0.1
    assert_allclose(torch.tanh(nearby), torch.tanh(refined), rtol=0, atol=1e-4)


def test_a_first_gradient_of_next_to_nothing_moves_next_to_nothing():
    """Its sign is the last bit's, and must not be followed by a whole learning rate."""

    def refine_from(weight):
        weights = iter([weight])

        def decode(z):
            faded = torch.ones_like(z)
            faded[0, 0, 4, 4] = next(weights, 1.0)
            return z * faded

        return refine(decode=decode, steps=3, augmentation=())

    up, down = refine_from(1e-4), refine_from(-1e-4)
    assert (up - FIVES[:5])[0, 0, 4, 4].abs() > 1e-3
    assert_allclose(up, down, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "'steps' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"augmentation": ["twist"]}, "'twist'"),
        ({"depth": 9}, "depth of at most 3, got 9"),
        ({"pixel_weight": -0.1}, "'pixel_weight' parameter"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        refine(**settings)


def test_a_refined_set_is_nearer_to_its_class_and_stays_in_the_callers_terms():
    plain, labels = distil(refiner="passthrough").sample()
    refined, refined_labels = distil(refiner=MatchingRefiner(60, width=32)).sample()
    assert refined.dtype == X.dtype
    assert refined.min() >= 0.0
    assert refined.max() <= 16.0
    assert_array_equal(refined_labels, labels)
    for label in (3, 5):
        real, before, after = (
            torch.from_numpy(images[of == label] / 8 - 1).float()[:, None]
            for images, of in ((X[FEW], Y[FEW]), (plain, labels), (refined, labels))
        )
        assert feature_distance(real, after) < 0.8 * feature_distance(real, before)


@pytest.mark.parametrize("settings", [{"batch_size": 2}, {"n_jobs": 2}], ids=str)
def test_a_seed_fixes_the_refined_set(settings):
    difference = np.abs(distil(**settings).sample()[0] - distil().sample()[0])
    # Whole numbers may be rounded up in one of them and down in the other, if hardly ever.
    assert difference.max() <= 1.0
    assert np.mean(difference > 0) < 0.01


def test_threads_draw_the_same_networks():
    def draw(seed):
        features = RandomFeatures(
            THREES,
            augmentation=(),
            generator=torch.Generator().manual_seed(seed),
            depth=None,
            width=32,
            dtype=torch.float32,
        )
        return torch.stack([features.draw(16) for _ in range(40)])

    before = torch.get_rng_state()
    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for drawn, expected in zip(pool.map(draw, range(8)), alone, strict=True):
            assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_sets_are_refined_where_gradients_are_off():
    alone = distil().sample()[0]
    with torch.no_grad():
        assert_array_equal(distil().sample()[0], alone)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": -1}, "The 'steps' parameter"),
        ({"steps": "a"}, "The 'steps' parameter"),
        ({"learning_rate": 0.0}, "The 'learning_rate' parameter"),
        ({"augmentation": ["twist"]}, "'twist'"),
        ({"depth": 9}, "depth of at most 3, got 9"),
    ],
    ids=str,
)
def test_fit_refuses_what_cannot_refine(params, message):
    with pytest.raises(ValueError, match=message):
        distil(refiner=MatchingRefiner(**params))


def test_sets_are_refined_where_layers_are_made_in_double_precision():
    torch.set_default_dtype(torch.float64)
    try:
        refined, X_syn = refine(FIVES[:5]), distil().sample()[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert refined.dtype == torch.float32
    assert feature_distance(THREES, refined) < 0.7 * feature_distance(THREES, FIVES[:5])
    assert X_syn.dtype == X.dtype


def test_a_refined_run_goes_on_with_the_classes_that_it_lacks(tmp_path):
    distiller = distil()
    whole, _ = distiller.sample(out_dir=tmp_path / "whole")
    distiller.sample(out_dir=tmp_path / "cut")
    (tmp_path / "cut" / "distilled.npz").unlink()
    (tmp_path / "cut" / "images" / "3" / "0001.png").unlink()
    again, _ = distiller.sample(out_dir=tmp_path / "cut")
    assert_array_equal(again, whole)


class Copying(BaseEstimator):
    """A refiner that nobody would want: real rows in place of the samples."""

    steps, n_real = 0, 20

    def check(self, backbone):
        pass

    def refine(self, z, real, decode, generator, *, dtype, progress):
        return real[: len(z)]


def test_a_refiner_may_be_anything_that_refines():
    X, y = load_iris(return_X_y=True)
    X_syn, y_syn = ManifoldGDDistiller(4, refiner=Copying()).fit(X, y).sample()
    distances = cdist(X_syn, X)
    assert_allclose(distances.min(axis=1), 0, atol=1e-6)
    assert_array_equal(y[distances.argmin(axis=1)], y_syn)


def test_its_settings_can_be_searched():
    distiller = clone(distil()).set_params(refiner__steps=3)
    assert distiller.refiner.steps == 3


def test_the_closed_form_cannot_be_refined():
    with pytest.raises(ValueError, match="can; got a ClosedFormBackbone"):
        ManifoldGDDistiller(2, refiner=MatchingRefiner()).fit(X[FEW].reshape(80, -1), Y[FEW])


def test_what_is_small_is_refined_unasked_and_nothing_else(monkeypatch):
    default = distil(refiner=None)
    assert default.refiner_.get_params() == MatchingRefiner().get_params()
    assert default.refiner is None
    monkeypatch.setattr("skdistill.distiller.LARGEST_REFINED", 7)
    assert distil(refiner=None).refiner_ is None
    assert distil(refiner="passthrough").refiner_ is None
    table = ManifoldGDDistiller(2).fit(X[FEW].reshape(80, -1), Y[FEW])
    assert isinstance(table.refiner_, SupportPointsRefiner)


@pytest.mark.parametrize("native", [False, True])
def test_features_are_in_half_precision_where_the_device_has_it(native, monkeypatch):
    monkeypatch.setattr("skdistill.matching.has_bfloat16", lambda device: native)
    full, half = (
        RandomFeatures(
            THREES,
            augmentation=[],
            generator=torch.Generator().manual_seed(0),
            depth=None,
            width=16,
            dtype=dtype,
        ).draw(8)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(full, half) == (not native)


def energy(z, real):
    return 2 * cdist(z, real).mean() - cdist(z, z).mean()


def points(seed, n=5, n_real=30, n_features=3):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    real = torch.randn(n_real, n_features, **options)
    # Some far from all, some as good as on top of real ones.
    z = torch.cat([3.0 * torch.randn(n - 1, n_features, **options), real[:1] + 1e-9])
    return z, real


seeds = st.integers(0, 10_000)


class TestSupportPoints:
    @settings(deadline=None, max_examples=30)
    @given(seeds, st.integers(1, 12))
    def test_no_step_raises_the_energy_distance(self, seed, n):
        z, real = points(seed, n)
        for _ in range(20):
            moved = SupportPointsRefiner(1).refine(z, real)
            assert energy(moved, real) <= energy(z, real) + 1e-9
            z = moved

    @settings(deadline=None, max_examples=30)
    @given(seeds, st.floats(1e-3, 1e3), st.floats(-100.0, 100.0))
    def test_it_commutes_with_shifts_scales_and_rotations(self, seed, scale, shift):
        z, real = points(seed)
        rotation, _ = torch.linalg.qr(real[:3])

        def mapped(x):
            return scale * (x @ rotation + shift)

        refiner = SupportPointsRefiner(5)
        expected = mapped(refiner.refine(z, real))
        assert_allclose(refiner.refine(mapped(z), mapped(real)), expected, atol=1e-5 * scale)

    @settings(deadline=None, max_examples=30)
    @given(seeds)
    def test_no_order_matters(self, seed):
        z, real = points(seed)
        refiner = SupportPointsRefiner(5)
        backwards = refiner.refine(z.flip(0), real.flip(0)).flip(0)
        assert_allclose(backwards, refiner.refine(z, real), atol=1e-7)

    @settings(deadline=None, max_examples=30)
    @given(seeds, st.integers(1, 12))
    def test_float32_is_enough(self, seed, n):
        z, real = points(seed, n)
        expected = SupportPointsRefiner().refine(z, real)
        actual = SupportPointsRefiner().refine(z.float(), real.float())
        assert_allclose(actual.double(), expected, atol=1e-4)

    def test_samples_at_the_same_place_stay_together(self):
        z, real = points(0)
        z = torch.cat([z, z])
        for dtype in (torch.float32, torch.float64):
            refined = SupportPointsRefiner().refine(z.to(dtype), real.to(dtype))
            assert_allclose(refined[: len(z) // 2], refined[len(z) // 2 :], atol=1e-5)

    def test_it_finds_the_spatial_median_and_leaves_a_whole_class_alone(self):
        z, real = points(0)
        (median,) = SupportPointsRefiner(200).refine(z[:1], real)
        # At the median, the unit vectors to all rows cancel, but for the rounding off of distances.
        directions = torch.nn.functional.normalize(real - median, dim=1)
        assert_allclose(directions.sum(dim=0), 0, atol=1e-4)
        assert_allclose(SupportPointsRefiner().refine(real, real), real, atol=1e-3)

    def test_they_are_spread_as_the_class_is(self):
        z, real = points(0, n_real=500)
        real = torch.cat([real, real + 20.0])
        refined = SupportPointsRefiner().refine(z[:4], real)
        assert (refined[:, 0] > 10.0).sum() == 2

    def test_what_is_computed_at_once_does_not_matter(self, monkeypatch):
        z, real = points(0)
        expected = SupportPointsRefiner().refine(z, real)
        monkeypatch.setattr("skdistill.refining.DISTANCES_AT_ONCE", 70)
        assert_allclose(SupportPointsRefiner().refine(z, real), expected, atol=1e-9)

    def test_no_steps_move_nothing_and_identical_rows_attract_all(self):
        z, real = points(0)
        assert_allclose(SupportPointsRefiner(0).refine(z, real), z, atol=1e-12)
        same = torch.full_like(real, 3.0)
        refined = SupportPointsRefiner(1).refine(z, same)
        assert_allclose(refined, same[: len(z)])

    def test_bad_settings_are_named(self):
        z, real = points(0)
        with pytest.raises(ValueError, match="'steps' parameter"):
            SupportPointsRefiner(-1).refine(z, real)
        with pytest.raises(ValueError, match="'steps' parameter"):
            ManifoldGDDistiller(refiner=SupportPointsRefiner("a")).fit(*load_iris(return_X_y=True))

    def test_tables_are_refined_unasked_and_nearer_to_their_class_for_it(self):
        X, y = load_iris(return_X_y=True)
        refined = ManifoldGDDistiller(5, random_state=0).fit(X, y)
        alone = clone(refined).set_params(refiner="passthrough").fit(X, y)
        assert isinstance(refined.refiner_, SupportPointsRefiner)
        assert alone.refiner_ is None
        scale = X.std(axis=0)
        for k in range(3):
            real = X[y == k] / scale
            own, other = (
                (X_syn[y_syn == k]) / scale for X_syn, y_syn in (refined.sample(), alone.sample())
            )
            assert energy(own, real) < energy(other, real)

    def test_it_needs_no_decoder(self):
        refined = distil(refiner=SupportPointsRefiner(5)).sample()[0]
        alone = distil(refiner="passthrough").sample()[0]
        assert refined.shape == alone.shape
        assert not np.array_equal(refined, alone)

    def test_no_more_than_so_many_rows_are_looked_at(self, monkeypatch):
        monkeypatch.setattr(SupportPointsRefiner, "n_real", 10)
        seen = []

        def refine(self, z, real, *_, **options):
            seen.append(len(real))
            return z

        monkeypatch.setattr(SupportPointsRefiner, "refine", refine)
        ManifoldGDDistiller(2).fit(*load_iris(return_X_y=True)).sample()
        assert seen == [10] * 3
