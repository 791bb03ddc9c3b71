"""A training run: what is asked for is checked, recorded, done in two stages and written."""

import hashlib
import json
import shutil
import warnings
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers import __version__ as diffusers_version
from safetensors import SafetensorError
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.atomic import checkpoint_folder, write_atomically
from skdistill.backbones.card import write_card
from skdistill.backbones.folder import shipped_backbones
from skdistill.pixels import check_value_range, infer_value_range
from skdistill.training.dit import HEAD_DIM, dit_loss, make_dit, use_plain_attention
from skdistill.training.loop import set_seed, train
from skdistill.training.vae import (
    NORM_GROUPS,
    encode,
    fold_scale,
    make_vae,
    n_channels,
    reconstruction_rmse,
    vae_loss,
)
from skdistill.validation import has_bfloat16, pick_device

__all__ = ["pretrain"]

POSITIVE = Interval(Integral, 1, None, closed="left")


@validate_params(
    {
        "steps": [POSITIVE],
        "vae_steps": [POSITIVE],
        "batch_size": [POSITIVE],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "latent_channels": [POSITIVE, None],
        "downsamplings": [Interval(Integral, 0, None, closed="left"), None],
        "vae_width": [POSITIVE, None],
        "width": [POSITIVE, None],
        "depth": [POSITIVE, None],
        "patch_size": [POSITIVE, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "flip": ["boolean"],
        "guidance_scale": [Interval(Real, 1, None, closed="left")],
        "random_state": [Interval(Integral, 0, None, closed="left")],
        "checkpoint_every": [POSITIVE],
        "verbose": ["verbose"],
        "data": [str],
        "license": [str],
        "command": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def pretrain(
    X,
    y,
    out,
    *,
    steps=10_000,
    vae_steps=5_000,
    batch_size=128,
    learning_rate=1e-3,
    latent_channels=None,
    downsamplings=None,
    vae_width=None,
    width=None,
    depth=None,
    patch_size=None,
    dropout=0.0,
    flip=False,
    guidance_scale=1.5,
    value_range=None,
    random_state=0,
    device="auto",
    checkpoint_every=500,
    verbose=1,
    data="images of the caller",
    license="unknown",
    command=None,
):
    """Train a backbone on labelled images: a small VAE, then a class-conditional DiT.

    The result is a folder in the format of diffusers that holds an `AutoencoderKL`, a
    `DiTTransformer2DModel` and a noise schedule, in half precision, with a model card.

    A run that was stopped goes on from its last checkpoint when the function is called again with
    the same images and settings; it ends with the weights that it would have had undisturbed.

    Parameters
    ----------
    X : array-like of shape (n_samples, size, size) or (n_samples, size, size, n_channels)
        Square images of any integer or floating dtype.

    y : array-like of shape (n_samples,)
        Their labels, at least two images a class. The model's class k is `np.unique(y)[k]`.

    out : str or path-like
        Folder to write. It appears when training has ended; until then checkpoints are kept
        beside it, in a folder of the same name with `.partial` appended.

    steps : int, default=10_000
        Optimisation steps of the DiT.

    vae_steps : int, default=5_000
        Optimisation steps of the VAE.

    batch_size : int, default=128
        Images a step.

    learning_rate : float, default=1e-3
        Largest learning rate of AdamW, in both stages; it falls to zero over the last 30% of steps.

    latent_channels : int, default=None
        Channels of the latents; by default 4 for grey images and 8 for colour.

    downsamplings : int, default=None
        How often the VAE halves the size; by default once up to 32 pixels, else twice. Fewer keep
        edges sharper.

    vae_width : int, default=None
        Channels of the VAE at full size, doubled with every halving; a multiple of 8. By default
        24 up to 16 pixels, else 32.

    width : int, default=None
        Width of the DiT, a multiple of 32; by default 128 up to 16 pixels, 192 up to 32, else 256.

    depth : int, default=None
        Blocks of the DiT; by default 3 up to 16 pixels, 6 up to 32, else 8.

    patch_size : int, default=None
        Side of the latent patch that becomes one token of the DiT; by default 1 for latents of
        up to 8 x 8, else 2.

    dropout : float, default=0.0
        Dropout within the blocks of the DiT, against learning a small data set by heart.

    flip : bool, default=False
        Whether to train on mirrored images too, which suits classes that a mirror does not change.

    guidance_scale : float, default=1.5
        Scale of classifier-free guidance to record as this backbone's default.

    value_range : tuple of float, default=None
        The values that stand for black and white; see :func:`skdistill.pixels.infer_value_range`
        for the default.

    random_state : int, default=0
        Seed of the run. Every step has its own random stream, made from the seed and its number.

    device : {"auto", "cpu", "cuda", "mps"} or torch.device, default="auto"
        Where to train; "auto" takes an accelerator where there is one.

    checkpoint_every : int, default=500
        Steps between checkpoints.

    verbose : int, default=1
        0 for silence; otherwise a terminal shows a progress bar with loss and time left.

    data : str, default="images of the caller"
        What the images are and which split of them, for the model card.

    license : str, default="unknown"
        Licence of the weights, for the model card.

    command : str, default=None
        The command line that started the run, for the model card; by default the Python call.

    Returns
    -------
    out : pathlib.Path
        The folder written.

    Notes
    -----
    The VAE minimises the squared error plus a slight Kullback-Leibler term. Mean and scale of its
    latents, channel by channel, are folded into its `quant_conv` and `post_quant_conv`, so that
    latents have zero mean and unit variance at a `scaling_factor` of one. The DiT predicts the
    velocity [1]_ with min-SNR weighting [2]_; a tenth of the labels are replaced by the null class
    (`num_embeds_ada_norm`) for classifier-free guidance. What is written is the exponential moving
    average of the weights.

    References
    ----------
    .. [1] Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR
       2022.
    .. [2] Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.training import pretrain
    >>> X, _, y, _ = load_digits_split()
    >>> with TemporaryDirectory() as folder:
    ...     out = pretrain(X, y, Path(folder) / "digits", steps=2, vae_steps=2, width=32, depth=1)
    ...     sorted(path.name for path in out.iterdir())
    ['README.md', 'model_index.json', 'scheduler', 'training.json', 'transformer', 'vae']
    """
    X, y, classes = _check_images(X, y)
    value_range = check_value_range(infer_value_range(X) if value_range is None else value_range)
    sizes = (latent_channels, downsamplings, vae_width, width, depth, patch_size)
    settings = {
        "steps": steps,
        "vae_steps": vae_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        **_architecture(X, *sizes),
        "dropout": dropout,
        "flip": flip,
        "guidance_scale": guidance_scale,
        "value_range": value_range,
        "random_state": random_state,
    }
    device = pick_device(device)
    out = _check_out(out)
    # Where a link leads: it would not let itself be replaced by a folder.
    folder, partial = out.resolve(), checkpoint_folder(out)
    run = json.loads(_to_json({"settings": settings, "data": _fingerprint(X, y)}))
    if (folder / "training.json").exists():
        _check_same_run(folder / "training.json", run)
        if (partial / "run.json").exists():
            # Of a run that was killed between its last two steps.
            shutil.rmtree(partial)
        return out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out={str(out)!r} exists and holds no backbone; give another folder.")
    _warn_of_clipped_values(X, value_range)
    if any(partial.glob("*.safetensors")):
        _check_same_run(partial / "run.json", run)
    else:
        write_atomically(partial / "run.json", _to_json(run).encode())

    loop = {
        "run": hashlib.sha256(_to_json(run).encode()).hexdigest(),
        "learning_rate": learning_rate,
        "checkpoint_every": checkpoint_every,
        "verbose": verbose,
    }
    # The linear schedule leaves small latents almost no signal over half of the run, and guidance
    # nothing to act on; the cosine one spreads it. In 50 steps DDIM keeps more of their variance
    # than DDPM does.
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed = (random_state, 0)
        set_seed(*seed, 0)
        vae = make_vae(X, settings).to(device)
        loss = vae_loss(vae, X, settings)
        vae, vae_log = train(vae, loss, vae_steps, seed, partial / "vae.safetensors", **loop)
        fold_scale(vae, X, settings)
        latents = encode(vae, X, settings)

        seed = (random_state, 1)
        set_seed(*seed, 0)
        dit = make_dit(latents, len(classes), settings).to(device)
        if device.type == "cpu":
            use_plain_attention(dit)
        loss = dit_loss(dit, latents, np.searchsorted(classes, y), scheduler, settings)
        dit, dit_log = train(dit, loss, steps, seed, partial / "dit.safetensors", **loop)

    run["vae"] = vae_log
    run["dit"] = dit_log
    run["reconstruction_rmse"] = reconstruction_rmse(vae, X, latents[0], settings)
    run["machine"] = _describe(device)
    run["precision"] = "bfloat16 autocast" if has_bfloat16(device) else "float32"
    if command is None:
        arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        command = f"skdistill.training.pretrain(X, y, out, {arguments})"
    run["source"] = {"data": data, "license": license, "command": command}
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": diffusers_version,
        "guidance_scale": guidance_scale,
        "id2label": {str(k): str(label) for k, label in enumerate(classes)},
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        # Images in other units, bytes instead of floats say, have to be converted first.
        "value_range": value_range,
        "vae": ["diffusers", "AutoencoderKL"],
    }
    finished = partial / "finished"
    _save_half(vae, finished / "vae")
    _save_half(dit, finished / "transformer")
    scheduler.save_pretrained(finished / "scheduler")
    (finished / "model_index.json").write_text(_to_json(index), encoding="utf-8")
    (finished / "training.json").write_text(_to_json(run), encoding="utf-8")
    write_card(finished)
    if folder.exists():
        folder.rmdir()
    finished.rename(folder)
    shutil.rmtree(partial)
    return out


def _check_out(out):
    """Return the folder to write as a path, or raise ValueError."""
    out = Path(out).expanduser()
    if str(out) in shipped_backbones():
        raise ValueError(
            f"out={str(out)!r} is the name of a shipped backbone, which would be loaded in place "
            "of this one; give another folder."
        )
    if not out.name:
        raise ValueError(f"out={str(out)!r} must name a folder that is not there yet.")
    return out


def _warn_of_clipped_values(X, value_range):
    low, high = value_range
    outside = 1.0 - np.mean((low <= X) & (high >= X))
    if outside > 0.01:
        warnings.warn(
            f"{outside:.0%} of the values of X lie outside value_range={value_range} and are "
            "clipped to it.",
            UserWarning,
            stacklevel=4,
        )


def _save_half(network, path):
    """Write a network in half precision."""
    network = network.half()
    if not all(torch.isfinite(weights).all() for weights in network.parameters()):
        raise FloatingPointError(
            f"The weights for {str(path)!r} exceed half precision; try a smaller learning_rate."
        )
    try:
        network.save_pretrained(path)
    except SafetensorError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error}") from error


def _check_images(X, y):
    """Return images and labels as arrays, and the classes, or raise ValueError."""
    shapes = {np.shape(image) for image in X}
    if not shapes:
        raise ValueError("X is empty: there is nothing to train on.")
    if len(shapes) > 1:
        raise ValueError(
            f"X must hold images of one shape, got {len(shapes)}: "
            f"{', '.join(map(str, sorted(shapes)[:5]))}. Resize or pad them to one."
        )
    X, y = np.asarray(X), np.asarray(y)
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold numbers, got dtype {X.dtype}.")
    if X.ndim not in (3, 4) or X.shape[1] != X.shape[2]:
        raise ValueError(
            "X must have shape (n_samples, size, size) or (n_samples, size, size, n_channels) with "
            f"square images, got {X.shape}. Pad or crop the images to a square."
        )
    if not X.size:
        raise ValueError(f"X must hold images of at least one pixel, got the shape {X.shape}.")
    if not np.isfinite(X).all():
        raise ValueError("X contains NaN or infinity; every value must be finite.")
    if y.shape != (len(X),):
        raise ValueError(
            f"y must hold one label for each of the {len(X)} images of X, got shape {y.shape}."
        )
    try:
        classes, counts = np.unique(y, return_counts=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in y.tolist()})
        raise ValueError(
            f"y must hold labels of one type, got {', '.join(kinds)}; None and NaN are no labels."
        ) from error
    if np.issubdtype(classes.dtype, np.inexact) and not np.isfinite(classes).all():
        raise ValueError("y contains NaN or infinity; every label must be known.")
    if counts.min() < 2:
        raise ValueError(
            f"y must have at least two images a class, class {classes[counts.argmin()]!s} has one."
        )
    if np.array_equal(X, np.broadcast_to(X[0], X.shape)):
        raise ValueError(f"X must hold images that differ; all {len(X)} are the same.")
    return X, y, classes


def _architecture(X, latent_channels, downsamplings, vae_width, width, depth, patch_size):
    """Fill in what follows from the images' shape; raise ValueError where sizes do not fit."""
    size = X.shape[1]
    tier = 0 if size <= 16 else 1 if size <= 32 else 2
    if downsamplings is None:
        downsamplings = (1, 1, 2)[tier]
    if size % 2**downsamplings:
        raise ValueError(
            f"downsamplings={downsamplings} needs an image size that is a multiple of "
            f"{2**downsamplings}, got {size} x {size}: pad the images or give a smaller number."
        )
    latent_size = size // 2**downsamplings
    if patch_size is None:
        patch_size = 2 if latent_size > 8 and latent_size % 2 == 0 else 1
    if latent_size % patch_size:
        raise ValueError(
            f"patch_size={patch_size} must divide the size of the latents, {latent_size}."
        )
    width = width or (128, 192, 256)[tier]
    if width % HEAD_DIM:
        raise ValueError(f"width must be a multiple of {HEAD_DIM}, got {width}.")
    vae_width = vae_width or (24, 32, 32)[tier]
    if vae_width % NORM_GROUPS:
        raise ValueError(f"vae_width must be a multiple of {NORM_GROUPS}, got {vae_width}.")
    return {
        "latent_channels": latent_channels or (4 if n_channels(X) == 1 else 8),
        "downsamplings": downsamplings,
        "vae_width": vae_width,
        "width": width,
        "depth": depth or (3, 6, 8)[tier],
        "patch_size": patch_size,
    }


def _fingerprint(X, y):
    digest = hashlib.sha256(np.ascontiguousarray(X))
    digest.update(repr(y.tolist()).encode())
    return {"shape": list(X.shape), "dtype": str(X.dtype), "sha256": digest.hexdigest()}


def _to_json(content):
    return json.dumps(content, indent=2, default=lambda scalar: scalar.item()) + "\n"


def _check_same_run(record, run):
    """Raise ValueError if the run that `record` describes is another one."""
    try:
        other = json.loads(record.read_text(encoding="utf-8"))
        other_data, other_settings = other["data"], dict(other["settings"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"out: {str(record)!r} is missing or was not written by a training of this version; "
            "give another folder."
        ) from error
    if other_data != run["data"]:
        raise ValueError(f"out: {record.parent} holds a run on other data; give another folder.")
    differing = [
        f"{name}={other_settings.get(name)!r} there, {value!r} here"
        for name, value in run["settings"].items()
        if other_settings.get(name) != value
    ]
    if differing:
        raise ValueError(
            f"out: {record.parent} holds a run with other settings ({'; '.join(differing)}); give "
            "the same settings to go on, or another folder."
        )


def _describe(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s'[: threads > 1]}" if device.type == "cpu" else device.type
