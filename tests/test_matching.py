import inspect
import pickle
import sys

import numpy as np
import pytest
import torch
from conftest import feature_distance, rows_of
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from torch import nn

import skdistill.matching
from skdistill.augmentation import AUGMENTATIONS
from skdistill.datasets import load_digits_split
from skdistill.matching import DistributionMatching, match_distribution
from skdistill.networks import conv_net

X, _, Y, _ = load_digits_split()
THREES, FIVES = (torch.from_numpy(X[label == Y] / 8 - 1).float()[:, None] for label in (3, 5))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def match(real=THREES, synthetic=THREES[:5], **settings):
    defaults = {
        "steps": 60,
        "batch_size": 64,
        "learning_rate": 1.0,
        # Crops would reflect ink at the edges, of which images as small as these have much.
        "augmentation": ["scale", "rotate"],
        "generator": seeded(),
        "width": 32,
    }
    return match_distribution(real, synthetic, **defaults | settings)


@pytest.mark.parametrize("real", [THREES, FIVES], ids=["threes", "fives"])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_mean_features_approach_those_of_the_class_in_unseen_networks(real, n):
    start = real[:n]
    matched = match(real, start)
    assert matched.shape == start.shape
    assert matched.dtype == start.dtype
    assert feature_distance(real, matched) < 0.7 * feature_distance(real, start)


def test_they_approach_those_of_their_own_class():
    matched = match(THREES, FIVES[:5])
    assert feature_distance(THREES, matched) < 0.5 * feature_distance(THREES, FIVES[:5])
    assert feature_distance(FIVES, matched) > 1.5 * feature_distance(FIVES, FIVES[:5])


def test_more_steps_bring_them_nearer():
    distances = [feature_distance(THREES, match(steps=steps)) for steps in (0, 5, 80)]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.9 * distances[1]


def test_images_stay_within_black_and_white():
    matched = match(learning_rate=100.0, steps=10)
    assert matched.min() == -1.0
    assert matched.max() == 1.0


def test_no_steps_leave_the_start_as_it_is():
    start = THREES[:5].clone()
    assert torch.equal(match(synthetic=start, steps=0), start)
    moved = match(synthetic=start, steps=1)
    assert not torch.equal(moved, start)
    # What the caller passes is the caller's.
    assert torch.equal(start, THREES[:5])
    assert not start.requires_grad
    assert not moved.requires_grad


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_one_draw_changes_real_and_synthetic_images_alike(kind):
    """The loss of an image against itself is zero whatever the change, and so is its gradient."""
    alone = THREES[:1]
    torch.testing.assert_close(match(alone, alone, augmentation=[kind], steps=10), alone)


def test_each_step_takes_one_kind_of_change(monkeypatch):
    seen = []

    def spy(x, names, generator, *, shared):
        seen.append((tuple(names), shared))
        return x

    monkeypatch.setattr(skdistill.matching, "augment", spy)
    match(augmentation=("crop", "scale", "rotate"), steps=30, width=2)
    # Once for the real images and once for the synthetic ones.
    assert len(seen) == 60
    assert seen[::2] == seen[1::2]
    assert set(seen) == {(("crop",), True), (("scale",), True), (("rotate",), True)}


def test_batches_hold_as_many_real_images_as_asked_for():
    far = torch.cat([THREES[:1], -THREES[:9]])
    alone = match(far, THREES[:1], batch_size=1, augmentation=(), steps=30)
    all_of_them = match(far, THREES[:1], batch_size=1000, augmentation=(), steps=30)
    mean = far.mean(dim=0)
    assert (all_of_them - mean).norm() < (THREES[:1] - mean).norm()
    assert not torch.equal(alone, all_of_them)
    # All real images are one batch, however they are ordered.
    shuffled = match(far.flip(0), THREES[:1], batch_size=1000, augmentation=(), steps=3)
    ordered = match(far, THREES[:1], batch_size=1000, augmentation=(), steps=3)
    torch.testing.assert_close(shuffled, ordered, atol=1e-4, rtol=1e-4)


def test_generator_fixes_the_result_and_the_global_one_is_left_alone():
    before = torch.get_rng_state()
    first = match(steps=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(match(steps=5), first)
    assert not torch.equal(match(steps=5, generator=seeded(1)), first)


def test_each_step_draws_a_network_on_the_cpu_before_it_moves(monkeypatch):
    """Redrawn on an accelerator, weights would come of its own generator, which has no seed."""
    moved, drawn = set(), []
    to, reset_parameters = nn.Module.to, nn.Conv2d.reset_parameters

    def spy_on_moves(self, *args, **kwargs):
        moved.update(self.modules())
        return to(self, *args, **kwargs)

    def spy_on_draws(self):
        assert self not in moved
        drawn.append(self)
        reset_parameters(self)

    monkeypatch.setattr(nn.Module, "to", spy_on_moves)
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", spy_on_draws)
    match(steps=4, depth=2)
    assert moved
    # Each of the two convolutions once a step, besides when they are made.
    assert len(drawn) == 2 * (1 + 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_means_the_same_on_every_device():
    before = torch.cuda.get_rng_state()
    on_gpu = match(THREES.cuda(), THREES[:5].cuda(), steps=5)
    assert on_gpu.device.type == "cuda"
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.testing.assert_close(on_gpu.cpu(), match(steps=5), atol=1e-2, rtol=1e-2)


def test_colour_depth_half_precision_and_progress():
    calls = []
    colour = torch.cat([THREES, THREES.flip(-1), -THREES], dim=1)
    matched = match(
        colour,
        colour[:3],
        augmentation=list(AUGMENTATIONS),
        depth=1,
        dtype=torch.bfloat16,
        progress=lambda: calls.append(1),
    )
    assert len(calls) == 60
    assert matched.dtype == torch.float32
    assert feature_distance(colour, matched) < feature_distance(colour, colour[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "crop"}, "must be a sequence of names among 'flip', .*, got 'crop'"),
        ({"augmentation": ["crop", "zoom"], "steps": 0}, "must be among 'flip', .*, got 'zoom'"),
        ({"depth": 4}, "depth of at most 3, got 4"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        match(**settings)


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
        monkeypatch.setattr("skdistill.progress.DELAY", 0)
        matching(verbose=1).fit(X[few], Y[few]).sample()
        assert "/8 " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("params", "data", "message"),
        [
            ({}, X.reshape(-1, 64), r"flat rows, its shape is \(1257, 64\); give image_shape="),
            ({"image_shape": (7, 8)}, X.reshape(-1, 64), r"image_shape=\(7, 8\) must be"),
            ({"image_shape": (-8, -8)}, X.reshape(-1, 64), r"image_shape=\(-8, -8\) must be"),
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

    @pytest.mark.parametrize(
        ("data", "labels", "message"),
        [(X.reshape(-1, 64), Y, "flat rows"), (X, Y[1:], "inconsistent numbers of samples")],
        ids=["data", "labels"],
    )
    def test_a_fit_that_fails_leaves_what_was_there(self, data, labels, message):
        rival = matching(steps=0, value_range=None)
        with pytest.raises(ValueError, match=message):
            rival.fit(data, labels)
        with pytest.raises(NotFittedError):
            rival.sample()
        before = rival.fit(np.rint(X * 15).astype(np.uint8), Y).sample()[0]
        with pytest.raises(ValueError, match=message):
            rival.fit(data, labels)
        assert_array_equal(rival.sample()[0], before)

    def test_bad_use_is_refused_by_sample(self):
        with pytest.raises(NotFittedError):
            matching().sample()
        with pytest.raises(ValueError, match="8 x 8 pixels allow a depth of at most 3, got 4"):
            matching(depth=4).fit(X, Y).sample()
        with pytest.raises(ValueError, match="1 x 8 pixels are too small for a ConvNet"):
            matching().fit(X[:, :1], Y).sample()
        with pytest.raises(ValueError, match="device='abacus' is not there"):
            matching(device="abacus").fit(X, Y).sample()
