"""The VAE of a backbone: its loss, and latents of zero mean and unit variance."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from sklearn.utils import gen_batches

from skdistill.pixels import from_networks, to_networks

__all__ = [
    "NORM_GROUPS",
    "encode",
    "fold_scale",
    "make_vae",
    "n_channels",
    "reconstruction_rmse",
    "vae_loss",
]

NORM_GROUPS = 8
# Sampling the posterior then costs about 1% of the value range; its mode, used later, does not.
KL_WEIGHT = 1e-3
# Of so many pixels at once, activations take some hundred megabytes.
PIXELS_AT_ONCE = 2**19
# Images that tell the scale of latents.
SCALE_ROWS = 10_000


def n_channels(X):
    """Return how many channels images have.

    Parameters
    ----------
    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    Returns
    -------
    n_channels : int
        1 for grey images, which need no axis for it.
    """
    return 1 if X.ndim == 3 else X.shape[3]


def make_vae(X, settings):
    """Make a VAE of random weights.

    Parameters
    ----------
    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    vae : AutoencoderKL
        Of "vae_width" channels at full size, with "latent_channels" after "downsamplings" halvings.
    """
    n_levels = settings["downsamplings"] + 1
    return AutoencoderKL(
        in_channels=n_channels(X),
        out_channels=n_channels(X),
        down_block_types=["DownEncoderBlock2D"] * n_levels,
        up_block_types=["UpDecoderBlock2D"] * n_levels,
        block_out_channels=[settings["vae_width"] * 2**level for level in range(n_levels)],
        latent_channels=settings["latent_channels"],
        norm_num_groups=NORM_GROUPS,
        sample_size=X.shape[1],
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def vae_loss(vae, X, settings):
    """Make the loss of a VAE: the squared error plus a slight Kullback-Leibler term.

    Parameters
    ----------
    vae : AutoencoderKL
        As it is when the loss is asked for.

    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    loss : callable
        Draws a batch of images and returns the loss on it.
    """
    batch_size = min(settings["batch_size"], len(X))

    def loss():
        rows = torch.randperm(len(X))[:batch_size].numpy()
        x = torch.from_numpy(to_networks(X[rows], settings["value_range"])).to(vae.device)
        if settings["flip"]:
            mirrored = torch.rand(batch_size, 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        posterior = vae.encode(x).latent_dist
        error = (vae.decode(posterior.sample()).sample.float() - x).square().mean()
        return error + KL_WEIGHT * posterior.kl().mean() / x[0].numel()

    return loss


@torch.no_grad()
def encode(vae, X, settings):
    """Encode images by the modes of their posteriors.

    Parameters
    ----------
    vae : AutoencoderKL
        Trained.

    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    latents : tensor of shape (n_views, n_samples, n_channels, height, width)
        Of the images, and where "flip" is set of the mirrored ones.
    """
    latents = []
    for rows in _batches(X):
        x = to_networks(X[rows], settings["value_range"])
        x = torch.from_numpy(x).to(vae.device)
        views = [x, x.flip(-1)] if settings["flip"] else [x]
        latents.append(torch.stack([vae.encode(view).latent_dist.mode() for view in views]))
    return torch.cat(latents, dim=1)


@torch.no_grad()
def fold_scale(vae, X, settings):
    """Make the latents of a VAE zero in mean and unit in variance, channel by channel, in place.

    The weights are rounded to half precision.

    Parameters
    ----------
    vae : AutoencoderKL
        Trained.

    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Raises
    ------
    FloatingPointError
        If the weights exceed half precision, as they do where latents hardly vary.
    """
    # So many images tell a mean and a deviation to a fraction of a per cent.
    few = X[np.linspace(0, len(X) - 1, min(len(X), SCALE_ROWS)).astype(int)]
    latents = encode(vae, few, settings).transpose(0, 2).flatten(1)
    mean, std = latents.mean(1), latents.std(1).clamp(min=1e-6)
    into, back = vae.quant_conv, vae.post_quant_conv
    # quant_conv gives the means and then the log variances of the posterior.
    into.weight /= torch.cat([std, torch.ones_like(std)])[:, None, None, None]
    into.bias /= torch.cat([std, torch.ones_like(std)])
    into.bias -= torch.cat([mean / std, 2 * std.log()])
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= std[:, None, None]
    # Rounded now, so that the DiT learns the latents of the VAE that is written.
    vae.half().float()
    if not all(torch.isfinite(weights).all() for weights in vae.parameters()):
        raise FloatingPointError(
            f"The VAE does not fit half precision; its latents have standard deviations down to "
            f"{std.min().item():.1e}. Do the images of X differ? If they do, try another "
            "learning_rate or fewer latent_channels."
        )


def _batches(X):
    """Return slices of a few images each."""
    return gen_batches(len(X), max(1, PIXELS_AT_ONCE // X.shape[1] ** 2))


@torch.no_grad()
def reconstruction_rmse(vae, X, latents, settings):
    """Measure what encoding loses.

    Parameters
    ----------
    vae : AutoencoderKL
        Trained.

    X : ndarray of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Images.

    latents : tensor of shape (n_samples, n_channels, height, width)
        Theirs.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    rmse : float
        Root mean squared error of decoded latents, in the units of `X`.
    """
    total = 0.0
    for rows in _batches(X):
        x = vae.decode(latents[rows]).sample.float().cpu().numpy()
        x = from_networks(x, settings["value_range"], shape=X.shape[1:], dtype=np.float64)
        total += np.square(x - X[rows]).sum()
    return float(f"{np.sqrt(total / X.size):.4g}")
