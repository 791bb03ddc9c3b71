"""Random, differentiable changes to images that keep their class."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["AUGMENTATIONS", "augment", "check_augmentation"]


def check_augmentation(names):
    """Return kinds of change as a tuple.

    Parameters
    ----------
    names : sequence of str
        Kinds of change, of :func:`augment`.

    Returns
    -------
    names : tuple of str
        The same.

    Raises
    ------
    ValueError
        If it is no sequence, as a set is none, or a name is unknown.

    Examples
    --------
    >>> from skdistill.augmentation import check_augmentation
    >>> check_augmentation(["flip", "crop"])
    ('flip', 'crop')
    """
    known = ", ".join(map(repr, AUGMENTATIONS))
    if isinstance(names, str) or not isinstance(names, (Sequence, np.ndarray)):
        raise ValueError(f"Augmentations must be a sequence of names among {known}, got {names!r}.")
    for name in names:
        if not isinstance(name, str) or name not in AUGMENTATIONS:
            raise ValueError(f"Augmentations must be among {known}, got {name!r}.")
    return tuple(names)


def augment(x, names, generator, *, shared=False):
    r"""Change images at random, one kind of change after the other.

    Parameters
    ----------
    x : Tensor of shape (n_images, channels, height, width)
        Images in [-1, 1]. Gradients flow through all changes.

    names : sequence of {"flip", "crop", "cutout", "scale", "rotate", "color"}
        Kinds of change, in their order:

        - "flip": mirrored left to right, or not;
        - "crop": moved by up to a sixteenth of the image, black from outside;
        - "cutout": half the height by half the width turned grey, less of it at an edge;
        - "scale": each axis stretched by a factor in [1 / 1.2, 1.2];
        - "rotate": turned by an angle in [-15, 15] degrees;
        - "color": brightness, contrast and, of colour images, saturation.

    generator : torch.Generator
        On the CPU: draws are the same on every device.

    shared : bool, default=False
        Whether all images are changed alike ("siamese" augmentation) rather than each by a draw of
        its own.

    Returns
    -------
    x : Tensor of shape (n_images, channels, height, width)
        Changed images.

    Raises
    ------
    ValueError
        If `names` is no sequence, or a name is unknown.

    Notes
    -----
    The changes and their ranges are those of Differentiable Siamese Augmentation [1]_, except for
    crops, which move half as far and are filled by reflection: black borders harmed a ConvNet-3 on
    a split of CIFAR-10's training images more than crops helped it. There, images are standardised,
    where here they are in [-1, 1]: so the same shift of brightness is a larger one. Stretched and
    turned images have black outside.

    References
    ----------
    .. [1] B. Zhao, H. Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML
       2021.

    Examples
    --------
    >>> import torch
    >>> from skdistill.augmentation import augment
    >>> generator = torch.Generator().manual_seed(0)
    >>> augment(torch.eye(3)[None, None], ["flip"], generator)
    tensor([[[[0., 0., 1.],
              [0., 1., 0.],
              [1., 0., 0.]]]])
    """
    n_draws = 1 if shared else len(x)

    def uniform():
        return torch.rand(n_draws, 1, 1, 1, generator=generator).to(x)

    for name in check_augmentation(names):
        x = AUGMENTATIONS[name](x, uniform)
    return x


def _flip(x, uniform):
    return torch.where(uniform() < 0.5, x.flip(-1), x)


def _crop(x, uniform):
    height, width = x.shape[-2:]
    rows = _shifted(uniform(), height).expand(len(x), 1, -1)
    columns = _shifted(uniform(), width).expand(len(x), 1, -1)
    margins = [math.ceil(width / 16)] * 2 + [math.ceil(height / 16)] * 2
    # Channels last, so that one gather takes whole pixels.
    padded = F.pad(x, margins, mode="reflect").permute(0, 2, 3, 1)
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[images, rows.transpose(1, 2), columns].permute(0, 3, 1, 2)


def _shifted(uniform, size):
    """Return the places that are read of an axis with a margin: shape (n_draws, 1, size)."""
    start = (uniform[:, 0] * (2 * math.ceil(size / 16) + 1)).long()
    return start + torch.arange(size, device=start.device)


def _cutout(x, uniform):
    hidden = []
    for size in x.shape[-2:]:
        n_hidden = round(size / 2)
        # An even length has one centre more, so that both edges lose as much.
        center = torch.floor(uniform()[:, 0, 0] * (size + 1 - n_hidden % 2))
        offset = torch.arange(size, device=x.device) - center + n_hidden // 2
        hidden.append((offset >= 0) & (offset < n_hidden))
    rows, columns = hidden
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _scale(x, uniform):
    zero = torch.zeros_like(uniform())
    height, width = (1.2 ** (2.0 * uniform() - 1.0) for _ in range(2))
    return _warped(x, [[width, zero], [zero, height]])


def _rotate(x, uniform):
    angle = (2.0 * uniform() - 1.0) * math.radians(15.0)
    aspect = x.shape[-2] / x.shape[-1]
    # The sampling grid spans [-1, 1] along both axes, however long they are.
    return _warped(
        x,
        [[angle.cos(), -angle.sin() * aspect], [angle.sin() / aspect, angle.cos()]],
    )


def _warped(x, matrix):
    """Sample images at linearly mapped places; `matrix` has entries of shape (n_draws, 1, 1, 1)."""
    matrix = torch.cat([torch.cat(row, dim=3) for row in matrix], dim=2)[:, 0]
    affine = F.pad(matrix, (0, 1)).expand(len(x), 2, 3)
    grid = F.affine_grid(affine, x.shape, align_corners=False)
    # Shifted by one, so that what lies outside is black, not grey.
    return F.grid_sample(x + 1.0, grid, align_corners=False) - 1.0


def _color(x, uniform):
    x = x + (uniform() - 0.5)
    if x.shape[1] > 1:
        grey = x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * (2.0 * uniform())
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + uniform())


AUGMENTATIONS = {
    "flip": _flip,
    "crop": _crop,
    "cutout": _cutout,
    "scale": _scale,
    "rotate": _rotate,
    "color": _color,
}
