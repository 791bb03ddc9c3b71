"""What every latent diffusion backbone shares: a VAE around a network that denoises latents."""

import math
import warnings
from pathlib import Path

import numpy as np
import torch

from skdistill.backbones.folder import load_denoiser, load_scheduler, read_json
from skdistill.pixels import check_value_range

__all__ = ["LatentDiffusion", "latent_and_image_shape", "warn_if_poor"]


def latent_and_image_shape(vae, denoiser):
    """Return the shapes that two networks work on.

    Parameters
    ----------
    vae, denoiser : mapping
        Their configurations.

    Returns
    -------
    latent_shape, image_shape : tuple of int
        (channels, height, width) each.

    Raises
    ------
    ValueError
        If the networks do not belong together, or the configuration gives no size.

    Examples
    --------
    >>> from skdistill.backbones.latent_diffusion import latent_and_image_shape
    >>> vae = {"in_channels": 3, "latent_channels": 4, "block_out_channels": (128, 256, 512, 512)}
    >>> latent_and_image_shape(vae, {"in_channels": 4, "sample_size": 64})
    ((4, 64, 64), (3, 512, 512))
    """
    size, channels = denoiser["sample_size"], denoiser["in_channels"]
    if size is None:
        raise ValueError(
            "The configuration of the network that denoises has no sample_size, the height and "
            "width of its latents."
        )
    if channels != vae["latent_channels"]:
        raise ValueError(
            f"The network that denoises takes {channels} channels, but latents have "
            f"{vae['latent_channels']}; models for inpainting, upscaling and the like, which see "
            "more than the latent, are not supported."
        )
    height, width = (size, size) if isinstance(size, int) else size
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return (channels, height, width), (vae["in_channels"], height * factor, width * factor)


class LatentDiffusion:
    """A pretrained VAE and a pretrained network that denoises its latents.

    A subclass sets `n_classes`, `fingerprint` and, by ``class_indices``, how a class conditions
    the network; :meth:`_call` calls it.

    Parameters
    ----------
    folder : Path
        In diffusers' format. ``model_index.json`` may give ``guidance_scale`` and
        ``value_range``.

    part : str
        Where in it the network is that denoises.

    dtype : {"float32", "bfloat16", "float16"}
        Of that network; the VAE and all geometry stay in float32.

    name : str or None
        What messages call the backbone; None for the folder's name.

    guidance_scale : float
        Classifier-free guidance where the folder does not say.

    compile : bool
        Whether the network that denoises goes through :func:`torch.compile`.
    """

    def __init__(self, folder, part, dtype, *, name, guidance_scale, compile):
        folder = Path(folder)
        # Absolute, since other processes may have other working directories.
        self.folder, self.dtype, self.compile = folder.absolute(), dtype, compile
        self.name = folder.name if name is None else name
        self.denoiser = load_denoiser(folder, part, dtype)
        if compile:
            # In place, so that it stays a network that pickles. Batches come in few sizes.
            self.denoiser.compile(dynamic=False)
        self.vae = load_denoiser(folder, "vae", "float32")
        self.default_scheduler = load_scheduler(folder)
        settings = read_json(folder / "model_index.json")
        try:
            found = settings.get("value_range")
            self.value_range = None if found is None else list(check_value_range(found))
            self.guidance_scale = float(settings.get("guidance_scale", guidance_scale))
            if not math.isfinite(self.guidance_scale):
                raise ValueError(f"guidance_scale={self.guidance_scale} must be finite.")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{str(folder / 'model_index.json')!r} has a value_range or a guidance_scale that "
                f"cannot be used: {error}"
            ) from error
        self.latent_shape, self.image_shape = latent_and_image_shape(
            self.vae.config, self.denoiser.config
        )

    def to(self, device):
        """Move the networks to a device.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        self : LatentDiffusion
            With its networks there.
        """
        self.denoiser.to(device)
        self.vae.to(device)
        return self

    @torch.no_grad()
    def encode(self, x, calls):
        """Encode images: scaling_factor times the mode of q(z | x).

        Parameters
        ----------
        x : ndarray of shape (n_samples, channels, height, width), dtype float32
            Images in [-1, 1].

        calls : BatchedCalls
            Splits the network's calls.

        Returns
        -------
        z : ndarray of shape (n_samples, *latent_shape), dtype float32
            Latents.
        """
        scale = self.vae.config.scaling_factor
        return calls(
            lambda rows: (
                scale * self.vae.encode(rows.to(self.vae.device)).latent_dist.mode()
            ).cpu(),
            torch.from_numpy(x),
        ).numpy()

    @torch.no_grad()
    def decode(self, z, calls):
        """Decode latents to images.

        Parameters
        ----------
        z : Tensor of shape (n_samples, *latent_shape)
            Latents.

        calls : BatchedCalls
            Splits the network's calls.

        Returns
        -------
        x : ndarray of shape (n_samples, channels, height, width), dtype float32
            Images, in [-1, 1] or nearly.
        """
        return calls(lambda rows: self.to_images(rows.to(self.vae.device)).cpu(), z).numpy()

    def to_images(self, z):
        """Decode latents as :meth:`decode` does, where their gradient is wanted.

        Parameters
        ----------
        z : Tensor of shape (n_samples, *latent_shape)
            Latents, on the device of the VAE.

        Returns
        -------
        x : Tensor of shape (n_samples, channels, height, width)
            Images, in [-1, 1] or nearly.
        """
        return self.vae.decode(z / self.vae.config.scaling_factor).sample

    @torch.no_grad()
    def predict(self, x_t, t, alpha_bar, labels, guidance_scale=None):
        """Predict noise, sample or velocity, as the scheduler's configuration says.

        Parameters
        ----------
        x_t : Tensor of shape (n_samples, *latent_shape)
            Noisy latents, sqrt(alpha_bar) z + sqrt(1 - alpha_bar) eps.

        t : Tensor of shape ()
            The timestep.

        alpha_bar : Tensor of shape ()
            Noise level; the timestep says the same to the network.

        labels : Tensor of shape (n_samples,), dtype int64
            The model's classes.

        guidance_scale : float, default=None
            Classifier-free guidance, in one call with the null class; None for the backbone's own.

        Returns
        -------
        prediction : Tensor of shape (n_samples, channels or 2 * channels, height, width)
            Twice the latent's channels where the model has a learned variance.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        x = x_t.to(self.denoiser.dtype)
        if scale != 1.0:
            x = torch.cat([x, x])
            labels = torch.cat([labels, torch.full_like(labels, self.n_classes)])
        # Filled in there: a copy to the device would wait for all that the device has yet to do.
        timesteps = torch.full((len(x),), t.item(), dtype=t.dtype, device=x.device)
        output = self._call(x, timesteps, labels).to(x_t.dtype)
        if scale == 1.0:
            return output
        output, unconditional = output.chunk(2)
        channels = x_t.shape[1]
        mean, null = output[:, :channels], unconditional[:, :channels]
        return torch.cat([null + scale * (mean - null), output[:, channels:]], dim=1)


def warn_if_poor(x, decoded, name):
    """Warn where a VAE loses much of the caller's images.

    Parameters
    ----------
    x : ndarray of shape (n_samples, channels, height, width)
        Images in [-1, 1].

    decoded : ndarray of the same shape
        Their reconstructions.

    name : str
        The backbone's name.

    Warns
    -----
    UserWarning
        If the mean squared error exceeds a tenth of the images' variance.
    """
    lost = float(np.mean((x - decoded) ** 2) / max(np.var(x), 1e-12))
    if not lost <= 0.1:
        filled = float(np.ptp(x)) / 2.0
        advice = "A backbone made for such images does better: see skdistill.training.pretrain."
        if filled < 0.25:
            advice = (
                f"Their values fill {filled:.0%} of the range from black to white; if they reach "
                "from one to the other, say so with value_range."
            )
        warnings.warn(
            f"The VAE of backbone {name!r} loses {lost:.0%} of the variance of these images, which "
            f"bounds what a distilled set can be worth. {advice}",
            UserWarning,
            stacklevel=5,
        )
