"""Distribution matching: images whose features have the mean of the real ones, in any network."""

import copy

import torch
from torch import nn

from skdistill.augmentation import augment, check_augmentation
from skdistill.networks import conv_net

__all__ = ["match_distribution"]


def match_distribution(
    real,
    synthetic,
    *,
    steps,
    batch_size,
    learning_rate,
    augmentation,
    generator,
    depth=None,
    width=128,
    dtype=torch.float32,
    progress=None,
):
    r"""Optimise the pixels of images so that random networks take them for the real ones.

    Each step draws a ConvNet :math:`\psi` with random weights, a change :math:`\omega` of
    `augmentation` and a batch of real images, and follows the gradient of

    .. math:: \Bigl\| \frac{1}{|B|} \sum_{x \in B} \psi(\omega(x))
              - \frac{1}{|S|} \sum_{s \in S} \psi(\omega(s)) \Bigr\|^2

    with respect to the synthetic images s, where :math:`\psi` are the features before the last
    layer, then clips them to [-1, 1]. No network is trained.

    Parameters
    ----------
    real : Tensor of shape (n_real, channels, height, width)
        Real images of one class in [-1, 1].

    synthetic : Tensor of shape (n_synthetic, channels, height, width)
        Images to start from, in [-1, 1]; the same device and dtype.

    steps : int
        Number of updates.

    batch_size : int
        Real images an update.

    learning_rate : float
        Of gradient descent with a momentum of 0.5.

    augmentation : sequence of str
        Kinds of change, of which each step takes one: :func:`skdistill.augmentation.augment`. The
        same draw changes real and synthetic images.

    generator : torch.Generator
        On the CPU; draws weights, batches and changes.

    depth : int, default=None
        Blocks of the ConvNet, :func:`skdistill.networks.conv_net`.

    width : int, default=128
        Channels of the ConvNet.

    dtype : torch.dtype, default=torch.float32
        In what convolutions are computed, by autocast.

    progress : callable, default=None
        Called after each step.

    Returns
    -------
    synthetic : Tensor of shape (n_synthetic, channels, height, width)
        Optimised images in [-1, 1].

    Raises
    ------
    ValueError
        If `augmentation` is no sequence of known names, or the images are too small for `depth`.

    References
    ----------
    B. Zhao, H. Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.

    Examples
    --------
    Real images are white on the left; those that start white on the right follow them:

    >>> import torch
    >>> from skdistill.matching import match_distribution
    >>> real = -torch.ones(4, 1, 8, 8)
    >>> real[..., :4] = 1.0
    >>> matched = match_distribution(
    ...     real,
    ...     real[:2].flip(-1),
    ...     steps=50,
    ...     batch_size=4,
    ...     learning_rate=1.0,
    ...     augmentation=["crop"],
    ...     generator=torch.Generator().manual_seed(0),
    ...     width=8,
    ... )
    >>> bool(matched[..., :4].mean() > 0.5), bool(matched[..., 4:].mean() < -0.5)
    (True, True)
    """
    augmentation = check_augmentation(augmentation)
    n_channels, *size = real.shape[1:]
    synthetic = synthetic.clone().requires_grad_()
    optimizer = torch.optim.SGD([synthetic], lr=learning_rate, momentum=0.5)
    autocast = torch.autocast(real.device.type, dtype, enabled=dtype != torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(_draw(generator, 2**63 - 1))
        # It stays on the CPU, so that a seed means the same weights on every device.
        network = conv_net((*size, n_channels), 2, depth=depth, width=width).requires_grad_(False)
        features = copy.deepcopy(network[:-1]).to(real.device)
        for _ in range(steps):
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
            features.load_state_dict(network[:-1].state_dict())
            batch = torch.randperm(len(real), generator=generator)[:batch_size].to(real.device)
            both = torch.cat([real[batch], synthetic])
            if augmentation:
                name = augmentation[_draw(generator, len(augmentation))]
                both = augment(both, [name], generator, shared=True)
            with autocast:
                with torch.no_grad():
                    wanted = features(both[: len(batch)]).float().mean(dim=0)
                found = features(both[len(batch) :]).float().mean(dim=0)
            loss = torch.sum((wanted - found) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                synthetic.clamp_(-1.0, 1.0)
            if progress is not None:
                progress()
    return synthetic.detach()


def _draw(generator, high):
    return int(torch.randint(high, (), generator=generator))
