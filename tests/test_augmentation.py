import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skdistill.augmentation import AUGMENTATIONS, augment
from skdistill.datasets import load_digits_split

DIGITS = torch.from_numpy(load_digits_split()[0][:50] / 8 - 1).float()[:, None]

each_kind = pytest.mark.parametrize("name", AUGMENTATIONS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@each_kind
@pytest.mark.parametrize("shape", [(6, 1, 8, 8), (6, 3, 12, 9)])
def test_shapes_stay_and_seeds_repeat(name, shape):
    x = torch.rand(shape, generator=seeded()) * 2 - 1
    changed = augment(x, [name], seeded(1))
    assert changed.shape == shape
    assert torch.equal(changed, augment(x, [name], seeded(1)))
    assert not torch.equal(changed, augment(x, [name], seeded(2)))
    assert not torch.equal(changed, x)


@each_kind
@given(seed=st.integers(0, 2**31 - 1))
def test_shared_changes_are_alike_and_others_are_not(name, seed):
    x = DIGITS[:1].expand(16, 1, 8, 8)
    alike = augment(x, [name], seeded(seed), shared=True)
    torch.testing.assert_close(alike, alike[:1].expand_as(alike))
    own = augment(x, [name], seeded(seed))
    assert not torch.equal(own, own[:1].expand_as(own))


@each_kind
def test_gradients_flow_to_the_images(name):
    x = DIGITS[:20].clone().requires_grad_()
    augment(x, [name], seeded()).square().sum().backward()
    assert x.grad.abs().sum() > 0


@given(seed=st.integers(0, 2**31 - 1))
def test_flips_are_the_image_or_its_mirror(seed):
    flipped = augment(DIGITS, ["flip"], seeded(seed))
    same = (flipped == DIGITS).all(dim=(1, 2, 3))
    mirrored = (flipped == DIGITS.flip(-1)).all(dim=(1, 2, 3))
    assert (same | mirrored).all()


def test_flips_are_as_often_as_not():
    x = DIGITS[:1].expand(4000, 1, 8, 8)
    share = (augment(x, ["flip"], seeded()) == x).all(dim=(1, 2, 3)).float().mean()
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 4000)


@given(seed=st.integers(0, 2**31 - 1))
def test_crops_move_by_a_sixteenth_at_most(seed):
    # A single white pixel tells where the image went.
    x = torch.full((30, 1, 32, 48), -1.0)
    x[:, :, 16, 20] = 1.0
    white = (augment(x, ["crop"], seeded(seed)) == 1.0).nonzero()
    assert len(white) == 30
    assert (white[:, 2] - 16).abs().max() <= 2
    assert (white[:, 3] - 20).abs().max() <= 3


def test_crops_reach_every_place():
    x = torch.full((2000, 1, 8, 8), -1.0)
    x[:, :, 4, 4] = 1.0
    white = (augment(x, ["crop"], seeded()) == 1.0).nonzero()[:, 2:]
    _, counts = white.unique(dim=0, return_counts=True)
    assert len(counts) == 9
    assert counts.min() > 2000 / 9 * 0.7


@given(seed=st.integers(0, 2**31 - 1))
def test_cutouts_hide_a_quarter_at_most(seed):
    x = torch.ones(30, 3, 16, 16)
    hidden = (augment(x, ["cutout"], seeded(seed)) == 0.0).float().mean(dim=(1, 2, 3))
    assert hidden.max() <= 0.25
    assert hidden.min() > 0.0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 32), (6, 12), (28, 28)])
def test_cutouts_within_the_image_have_half_its_height_and_width(height, width):
    hidden = augment(torch.ones(3000, 1, height, width), ["cutout"], seeded())[:, 0] == 0.0
    assert hidden.any(dim=2).sum(dim=1).max() == height // 2
    assert hidden.any(dim=1).sum(dim=1).max() == width // 2
    # Either edge loses as much as the other.
    often = hidden.float().mean(dim=0)
    torch.testing.assert_close(often, often.flip(0, 1), atol=0.06, rtol=0)


def test_rotations_turn_about_the_centre_by_fifteen_degrees_at_most():
    # A disc stays, but for interpolation, whatever the angle and the aspect of the image.
    rows, columns = torch.meshgrid(torch.arange(41.0), torch.arange(61.0), indexing="ij")
    radius = ((rows - 20) ** 2 + (columns - 30) ** 2).sqrt()
    disc = torch.tanh(12 - radius)[None, None].expand(40, 1, 41, 61)
    torch.testing.assert_close(augment(disc, ["rotate"], seeded()), disc, atol=0.15, rtol=0)
    # A line to the right ends where its angle says.
    line = torch.where((rows - 20).abs() < 1, 1.0, -1.0)[None, None].expand(200, 1, 41, 61)
    ends = augment(line, ["rotate"], seeded())[:, 0, :, 55].argmax(dim=1)
    angles = torch.atan2(ends - 20.0, torch.tensor(25.0)).rad2deg()
    assert angles.abs().max() < 17
    assert angles.max() > 12
    assert angles.min() < -12


def test_scales_stretch_by_a_fifth_at_most():
    bar = torch.full((200, 1, 60, 60), -1.0)
    bar[:, :, :, 20:40] = 1.0
    widths = (augment(bar, ["scale"], seeded()) > 0).float().sum(dim=3)[:, 0, 30]
    assert widths.min() >= 20 / 1.2 - 1
    assert widths.max() <= 20 * 1.2 + 1
    assert widths.max() - widths.min() > 5


def test_colours_move_brightness_saturation_and_contrast():
    x = torch.rand(500, 3, 8, 8, generator=seeded()) - 0.5
    changed = augment(x, ["color"], seeded(1))
    shift = changed.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))
    assert -0.5 <= shift.min() < -0.4
    assert 0.4 < shift.max() <= 0.5
    # Grey images have no saturation to lose: contrast alone scales them.
    grey = x[:, :1]
    changed = augment(grey, ["color"], seeded(1))
    ratio = changed.std(dim=(1, 2, 3)) / grey.std(dim=(1, 2, 3))
    assert_allclose([ratio.min(), ratio.max()], [0.5, 1.5], atol=0.02)


def test_unknown_names_are_refused():
    for name in ("zoom", 3, ["flip"]):
        with pytest.raises(ValueError, match="must be among 'flip', .*, got .*(zoom|3|flip)"):
            augment(DIGITS, ["flip", name], seeded())


@pytest.mark.parametrize("names", ["flip", {"flip"}, {"flip": 0.5}, None])
def test_what_has_no_order_of_names_is_refused(names):
    with pytest.raises(ValueError, match="must be a sequence of names among 'flip', .*, got .*"):
        augment(DIGITS, names, seeded())


@pytest.mark.parametrize("convert", [list, tuple, np.array])
def test_names_come_in_any_sequence(convert):
    expected = augment(DIGITS, ["flip", "crop"], seeded())
    assert torch.equal(augment(DIGITS, convert(["flip", "crop"]), seeded()), expected)
