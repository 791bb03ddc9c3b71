import pytest
import torch
from torch import nn

import skdistill.matching
from skdistill.augmentation import AUGMENTATIONS
from skdistill.datasets import load_digits_split
from skdistill.matching import match_distribution
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


def feature_distance(real, synthetic, n_networks=10, width=48):
    """Mean squared distance of mean features, in networks that no matching has seen."""
    n_channels, *size = real.shape[1:]
    total = 0.0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for seed in range(n_networks):
            torch.manual_seed(10_000 + seed)
            features = conv_net((*size, n_channels), 2, width=width)[:-1]
            gap = features(real).mean(dim=0) - features(synthetic).mean(dim=0)
            total += gap.square().sum().item() / n_networks
    return total


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
    assert len(seen) == 30
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
