"""The architectures that the field judges distilled sets by, with random weights."""

import contextlib
import math
import threading

import torch
from torch import nn

__all__ = ["conv_net", "own_random_state", "resnet"]

# Pixels a side from which a ResNet begins with a wide filter and two halvings.
LARGE = 64
# Layers draw their weights from the generator that all threads of a process share.
DRAWING = threading.Lock()


@contextlib.contextmanager
def own_random_state():
    """Let layers draw weights from torch's CPU generator, and give it back as it was.

    One thread at a time: of two, each would go on from the state of the other.

    Yields
    ------
    generator : torch.Generator
        The one that layers draw from.

    Examples
    --------
    >>> import torch
    >>> from skdistill.networks import own_random_state
    >>> before = torch.get_rng_state()
    >>> with own_random_state():
    ...     layer = torch.nn.Linear(2, 2)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    with DRAWING, torch.random.fork_rng(devices=[]):
        yield torch.random.default_generator


def conv_net(image_shape, n_classes, *, depth=None, width=128, activation=nn.ReLU):
    """Build a ConvNet-d: d blocks that halve the image, then a linear layer.

    A block is a 3 x 3 convolution, instance normalisation with a scale and a shift per channel,
    an activation and 2 x 2 average pooling.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, channels).

    n_classes : int
        Number of logits.

    depth : int, default=None
        Number of blocks. None takes what leaves about 4 x 4 pixels, and two at least where the
        images allow it: 2 for 8 x 8 images, 3 for 32 x 32, 6 for 256 x 256.

    width : int, default=128
        Channels of each convolution.

    activation : type, default=torch.nn.ReLU
        Module without parameters, of which each block has one.

    Returns
    -------
    network : torch.nn.Sequential
        From images (n, channels, height, width) to logits (n, n_classes). Its last layer is the
        linear one, what comes before it makes features.

    Raises
    ------
    ValueError
        If the images are too small for `depth`, or have fewer than 2 pixels a side.

    References
    ----------
    S. Gidaris, N. Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018.

    Examples
    --------
    >>> from skdistill.networks import conv_net
    >>> network = conv_net((32, 32, 3), 10)
    >>> network[-1]
    Linear(in_features=2048, out_features=10, bias=True)
    """
    height, width_of_image = image_shape[:2]
    shorter = min(height, width_of_image)
    if shorter < 2:
        raise ValueError(
            f"Images of {height} x {width_of_image} pixels are too small for a ConvNet; give at "
            "least 2 pixels a side."
        )
    # Instance normalisation of a single pixel would leave nothing of it.
    deepest = math.floor(math.log2(shorter))
    if depth is None:
        depth = min(max(2, round(math.log2(shorter / 4))), deepest)
    if not 1 <= depth <= deepest:
        raise ValueError(
            f"Images of {height} x {width_of_image} pixels allow a depth of at most {deepest}, "
            f"got {depth}."
        )
    layers = []
    n_channels = math.prod(image_shape[2:])
    for _ in range(depth):
        layers += [
            nn.Conv2d(n_channels, width, kernel_size=3, padding=1),
            _instance_norm(width),
            activation(),
            nn.AvgPool2d(2),
        ]
        n_channels = width
    n_pixels = (height >> depth) * (width_of_image >> depth)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * n_pixels, n_classes))


def resnet(image_shape, n_classes, *, layers=18, pooling=False, width=64):
    """Build a ResNet-18 or ResNet-10 with instance normalisation.

    Four stages of 1 (ResNet-10) or 2 (ResNet-18) basic blocks, each stage after the first with
    half the pixels and twice the channels; then the mean over pixels and a linear layer. Images of
    fewer than 64 pixels a side enter by a 3 x 3 convolution at full size, as is usual for CIFAR;
    larger ones by a 7 x 7 convolution and two halvings. A ResNetAP pools after the ReLU.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, channels), at least 16 pixels a side.

    n_classes : int
        Number of logits.

    layers : {10, 18}, default=18
        Number of layers with weights.

    pooling : bool, default=False
        Whether average pooling halves the images, which makes a ResNet-10 the ResNetAP-10 of the
        literature; otherwise strided convolutions (and max pooling at the entrance) do.

    width : int, default=64
        Channels of the first stage.

    Returns
    -------
    network : torch.nn.Sequential
        From images (n, channels, height, width) to logits (n, n_classes). Its last layer is the
        linear one, what comes before it makes features.

    Raises
    ------
    ValueError
        If the images have fewer than 16 pixels a side, or `layers` is neither 10 nor 18.

    References
    ----------
    K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    J.-H. Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML
    2022, for average pooling.

    Examples
    --------
    >>> from skdistill.networks import resnet
    >>> network = resnet((32, 32, 3), 10, layers=10, pooling=True)
    >>> sum(weights.numel() for weights in network.parameters())
    4903242
    """
    shorter = min(image_shape[:2])
    if shorter < 16:
        raise ValueError(
            f"Images of {image_shape[0]} x {image_shape[1]} pixels are too small for a ResNet, "
            "which halves them three times; give at least 16 pixels a side, or take a ConvNet."
        )
    if layers not in (10, 18):
        raise ValueError(f"layers must be 10 or 18, got {layers!r}.")
    n_channels = math.prod(image_shape[2:])
    if shorter < LARGE:
        first, pools = _conv(n_channels, width, 3), []
    elif pooling:
        first, pools = _conv(n_channels, width, 7), [nn.AvgPool2d(4)]
    else:
        first = _conv(n_channels, width, 7, stride=2)
        pools = [nn.MaxPool2d(3, stride=2, padding=1)]
    entrance = [first, _instance_norm(width), nn.ReLU(), *pools]

    blocks = []
    n_channels = width
    for stage in range(4):
        for block in range(layers // 8):
            halve = stage > 0 and block == 0
            n_out = width * 2**stage
            blocks.append(_BasicBlock(n_channels, n_out, halve=halve, pooling=pooling))
            n_channels = n_out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_channels, n_classes)]
    return nn.Sequential(*entrance, *blocks, *head)


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to their input."""

    def __init__(self, n_in, n_out, *, halve, pooling):
        super().__init__()
        stride = 2 if halve and not pooling else 1
        pools = [nn.AvgPool2d(2)] if halve and pooling else []
        self.residual = nn.Sequential(
            _conv(n_in, n_out, 3, stride=stride),
            _instance_norm(n_out),
            nn.ReLU(),
            *pools,
            _conv(n_out, n_out, 3),
            _instance_norm(n_out),
        )
        self.shortcut = nn.Sequential()
        if n_in != n_out:
            self.shortcut.extend(
                [_conv(n_in, n_out, 1, stride=stride), *pools, _instance_norm(n_out)]
            )

    def forward(self, x):
        return nn.functional.relu(self.residual(x) + self.shortcut(x))


def _conv(n_in, n_out, kernel_size, *, stride=1):
    return nn.Conv2d(n_in, n_out, kernel_size, stride, padding=kernel_size // 2, bias=False)


def _instance_norm(n_channels):
    return nn.InstanceNorm2d(n_channels, affine=True)
