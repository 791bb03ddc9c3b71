"""Class-conditional latent diffusion transformers in diffusers' folder format."""

import hashlib
import json
import warnings
from numbers import Integral
from pathlib import Path

import diffusers
import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

__all__ = ["DiTBackbone", "find_backbone", "shipped_backbones"]

WEIGHTS = Path(__file__).parents[1] / "weights"
# What facebook/DiT-XL-2-256 was published with, for folders that do not name their own.
DEFAULT_GUIDANCE_SCALE = 4.0


def shipped_backbones():
    """Return the names of the backbones that come with the package.

    Returns
    -------
    names : list of str
        Sorted.

    Examples
    --------
    >>> from skdistill.backbones import shipped_backbones
    >>> "digits" in shipped_backbones()
    True
    """
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model_index.json"))


def find_backbone(backbone, *, revision=None, local_files_only=False, weights=True):
    """Return the folder of a backbone, downloading it if it is named by a hub id.

    Parameters
    ----------
    backbone : str or path-like
        A shipped name, a folder in diffusers' format, or a hub id "owner/name".

    revision : str, default=None
        Branch, tag or commit of a hub id.

    local_files_only : bool, default=False
        Whether a hub id may only be taken from the local cache.

    weights : bool, default=True
        Whether weights are downloaded, or the configuration alone.

    Returns
    -------
    folder : Path
        With ``model_index.json``, ``vae``, ``transformer`` and ``scheduler``.

    Raises
    ------
    ValueError
        If there is no such backbone, or if its weights are not safetensors.
    """
    name = str(backbone)
    if name in shipped_backbones():
        return WEIGHTS / name
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise ValueError(
            f"backbone={name!r} is neither 'closed-form', nor shipped "
            f"({', '.join(map(repr, shipped_backbones()))}), nor an existing folder, nor a hub id "
            "'owner/name'."
        )
    try:
        # Pickled weights are left where they are.
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=["*.json", "*.safetensors"] if weights else "*.json",
            )
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"backbone={name!r} is no existing folder, and as a hub id it could not be had "
            f"(revision={revision!r}, local_files_only={local_files_only}): {error}"
        ) from error


def _hash_weights(folder):
    """Return one hash of all weights of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_config(folder, part, kind):
    """Return the configuration of one network of a backbone.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.

    kind : type
        The class of diffusers that it must be.

    Returns
    -------
    config : dict
        As in ``config.json``.

    Raises
    ------
    ValueError
        If there is none, or it is another network's.
    """
    path = folder / part / "config.json"
    if not path.is_file():
        raise ValueError(
            f"backbone folder {str(folder)!r} has no {part}/config.json; it must be in diffusers' "
            "format, with vae, transformer and scheduler."
        )
    config = read_json(path)
    declared = config.get("_class_name", kind.__name__)
    if declared != kind.__name__:
        raise ValueError(
            f"backbone folder {str(folder)!r} holds a {declared} in {part}; only "
            f"{kind.__name__} is supported there."
        )
    return config


def read_json(path):
    """Return what a file of JSON holds.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    content : object
        What it holds; an empty dict where there is no such file.

    Raises
    ------
    ValueError
        If it is no JSON.
    """
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from error


def check_weights(folder, part):
    """Raise ValueError if a network of a backbone has no weights that may be loaded.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.
    """
    path = folder / part
    if not list(path.glob("*.safetensors")):
        pickled = [p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        found = f"only pickled weights ({', '.join(sorted(pickled))})" if pickled else "no weights"
        raise ValueError(
            f"backbone folder {str(folder)!r} has {found} in {part}; only safetensors are loaded. "
            "For a hub id, name a revision that has them: revision='refs/pr/1', for example."
        )


def _load_model(kind, folder, part, dtype):
    """Load one network of a folder from safetensors, or raise ValueError saying what is wrong."""
    read_config(folder, part, kind)
    check_weights(folder, part)
    path = folder / part
    try:
        model = kind.from_pretrained(
            path,
            use_safetensors=True,
            local_files_only=True,
            # The other way of loading wants a package of its own.
            low_cpu_mem_usage=False,
            torch_dtype=getattr(torch, dtype),
        )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"The weights in {str(path)!r} cannot be read; they are damaged or do not belong to "
            f"the config.json beside them: {error}"
        ) from error
    return model.eval().requires_grad_(False)


class DiTBackbone:
    """A pretrained VAE and class-conditional diffusion transformer (DiT, Peebles & Xie, 2023).

    Parameters
    ----------
    folder : Path
        ``vae`` (AutoencoderKL), ``transformer`` (DiTTransformer2DModel), ``scheduler`` and
        ``model_index.json``, which may give ``id2label``, names of the classes, and
        ``guidance_scale``.

    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Of the transformer; the VAE and all geometry stay in float32.

    name : str, default=None
        What messages call it; None for the folder's name.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of the weights.

    latent_shape : tuple of int
        (channels, height, width) of a latent.

    image_shape : tuple of int
        (channels, height, width) of an image.

    n_classes : int
        Number of classes; its null class has this index.

    id2label : dict of int to str
        Names of the classes, empty where the folder has none.

    value_range : list of float or None
        Values of black and white in the images it was trained on, where the folder says so.

    guidance_scale : float
        Classifier-free guidance the folder asks for, 4.0 if it does not say.

    default_scheduler : diffusers scheduler
        As configured in the folder.
    """

    def __init__(self, folder, dtype="float32", *, name=None):
        folder = Path(folder)
        self.name = folder.name if name is None else name
        self.fingerprint = _hash_weights(folder)
        transformer = diffusers.DiTTransformer2DModel
        self.transformer = _load_model(transformer, folder, "transformer", dtype)
        self.vae = _load_model(diffusers.AutoencoderKL, folder, "vae", "float32")
        self.default_scheduler = self._load_scheduler(folder)
        settings = read_json(folder / "model_index.json")
        self.id2label = {int(k): str(v) for k, v in settings.get("id2label", {}).items()}
        self.value_range = settings.get("value_range")
        self.guidance_scale = float(settings.get("guidance_scale", DEFAULT_GUIDANCE_SCALE))
        config = self.transformer.config
        self.n_classes = config.num_embeds_ada_norm
        self.latent_shape = (config.in_channels, config.sample_size, config.sample_size)
        size = config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_shape = (self.vae.config.in_channels, size, size)

    @staticmethod
    def _load_scheduler(folder):
        path = folder / "scheduler" / "scheduler_config.json"
        if not path.is_file():
            raise ValueError(f"backbone folder {str(folder)!r} has no scheduler configuration.")
        name = read_json(path).get("_class_name", "DDPMScheduler")
        return getattr(diffusers, name).from_pretrained(path.parent)

    def class_indices(self, classes, class_map=None):
        """Find the model's class for each of the caller's.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            The caller's labels.

        class_map : mapping, default=None
            From each label to an index or a name of the model's classes. None matches names, and
            takes integers for indices where the model has no names.

        Returns
        -------
        indices : ndarray of shape (n_classes,), dtype int64
            The model's class of each label.

        Raises
        ------
        ValueError
            If a label has no class, or `class_map` names one that the model or `classes` lacks.
        """
        by_name = {}
        for index, names in self.id2label.items():
            # ImageNet's classes carry all their synonyms: "tench, Tinca tinca".
            for name in (names, *(part.strip() for part in names.split(","))):
                by_name.setdefault(name, index)
        strangers = [] if class_map is None else [k for k in class_map if k not in set(classes)]
        if strangers:
            raise ValueError(
                f"class_map names {strangers[0]!r}, which is not in y; y has {classes.tolist()}."
            )

        indices = []
        for label in classes.tolist():
            if class_map is not None and label not in class_map:
                raise ValueError(f"class_map says nothing of the class {label!r} of y.")
            wanted = label if class_map is None else class_map[label]
            is_index = isinstance(wanted, Integral) and not isinstance(wanted, bool)
            if is_index and (class_map is not None or not by_name):
                index = wanted
            else:
                index = by_name.get(str(wanted), -1)
            if not 0 <= index < self.n_classes:
                known = ", ".join(map(repr, list(self.id2label.values())[:12])) or "without names"
                raise ValueError(
                    f"The class {label!r} of y is to be {wanted!r}, which the backbone "
                    f"{self.name!r} does not know; it has {self.n_classes} classes ({known}). Give "
                    "class_map={label of y: index or name of the backbone's class}."
                )
            indices.append(index)
        return np.asarray(indices, dtype=np.int64)

    def to(self, device):
        """Move the networks to a device.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        self : DiTBackbone
            With its networks there.
        """
        self.transformer.to(device)
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
        return calls(
            lambda rows: self.vae.decode(rows.to(self.vae.device)).sample.cpu(),
            z / self.vae.config.scaling_factor,
        ).numpy()

    @torch.no_grad()
    def predict(self, x_t, t, alpha_bar, labels, guidance_scale=None):
        """Predict noise, sample or velocity, as the scheduler's configuration says.

        Parameters
        ----------
        x_t : Tensor of shape (n_samples, *latent_shape)
            sqrt(alpha_bar) z + sqrt(1 - alpha_bar) eps.

        t : Tensor of shape ()
            The timestep.

        alpha_bar : Tensor of shape ()
            Noise level; the timestep says the same to the network.

        labels : Tensor of shape (n_samples,), dtype int64
            The model's classes.

        guidance_scale : float, default=None
            Classifier-free guidance, in one call with the null class; None for the folder's own.

        Returns
        -------
        prediction : Tensor of shape (n_samples, channels or 2 * channels, height, width)
            Twice the latent's channels where the model has a learned variance.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        x = x_t.to(self.transformer.dtype)
        if scale != 1.0:
            x = torch.cat([x, x])
            labels = torch.cat([labels, torch.full_like(labels, self.n_classes)])
        timesteps = t.to(x.device).expand(len(x))
        output = self.transformer(x, timestep=timesteps, class_labels=labels).sample.to(x_t.dtype)
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
    if lost > 0.1:
        warnings.warn(
            f"The VAE of backbone {name!r} loses {lost:.0%} of the variance of these images, which "
            "bounds what a distilled set can be worth. A backbone made for such images does "
            "better: see skdistill.training.pretrain.",
            UserWarning,
            stacklevel=3,
        )
