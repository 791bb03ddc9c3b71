"""What a folder with a backbone holds, in words: its model card, and the facts behind it."""

from pathlib import Path

import diffusers
import torch

from skdistill.atomic import write_atomically
from skdistill.backbones import dit, stable_diffusion
from skdistill.backbones.folder import (
    WEIGHTS,
    find_backbone,
    networks_of,
    read_config,
    read_json,
    weight_files,
)
from skdistill.backbones.latent_diffusion import latent_and_image_shape

__all__ = ["describe_backbone", "write_card"]

CARD = """\
---
library_name: diffusers
license: {license}
tags:
- skdistill
- dataset-distillation
---

# Backbone for skdistill

A variational autoencoder (`vae`) and a class-conditional diffusion transformer (`transformer`) in
the folder format of diffusers, in half precision. `model_index.json` names the classes;
`training.json` holds every setting and the loss curves.

| | |
|---|---|
{facts}
{measured}
Made by

    {command}
"""
MEASURED = """
## Measured

{method}

| | |
|---|---|
{figures}

![Samples, a row a class]({picture})
"""


def write_card(folder):
    """Write the model card of a backbone that :func:`skdistill.training.pretrain` has made.

    Parameters
    ----------
    folder : str or path-like
        With ``training.json`` and, where the backbone was measured, ``evaluation.json``: a dict
        with ``method``, a text; ``figures``, from names to texts; and ``picture``, a file's name.
    """
    folder = Path(folder)
    run = read_json(folder / "training.json")
    settings, (n_samples, *shape) = run["settings"], run["data"]["shape"]
    low, high = settings["value_range"]
    error, source = run["reconstruction_rmse"], run["source"]
    n_classes = len(read_json(folder / "model_index.json")["id2label"])
    facts = {
        "Data": source["data"],
        "Images": f"{n_samples} of shape {' x '.join(map(str, shape))} in {n_classes} classes",
        "Values": f"{low:g} to {high:g}",
        "VAE": f"{settings['vae_steps']} steps, last loss {run['vae']['loss'][-1]:.4g}, "
        f"{run['vae']['seconds']:.0f} s",
        "DiT": f"{settings['steps']} steps, last loss {run['dit']['loss'][-1]:.4g}, "
        f"{run['dit']['seconds']:.0f} s",
        "Reconstruction": f"root mean squared error {error:.4g} on the training images, "
        f"{100 * error / (high - low):.2f}% of the value range",
        "Trained on": f"{run['machine']}, in {run['precision']}",
        "Sampling": "velocity prediction, classifier-free guidance scale "
        f"{settings['guidance_scale']:g}",
        "Licence": source["license"],
    }
    evaluation = read_json(folder / "evaluation.json")
    measured = ""
    if evaluation:
        figures = _rows(evaluation["figures"])
        measured = MEASURED.format_map(evaluation | {"figures": figures})
    card = CARD.format(
        license=source["license"].lower(),
        facts=_rows(facts),
        measured=measured,
        command=source["command"],
    )
    write_atomically(folder / "README.md", card.encode(errors="backslashreplace"))


def describe_backbone(backbone, *, revision=None, local_files_only=False):
    """Return what a backbone is, without loading its weights.

    Parameters
    ----------
    backbone : str or path-like
        A shipped name, a folder in diffusers' format, or a hub id "owner/name", which is
        downloaded.

    revision : str, default=None
        Branch, tag or commit of a hub id.

    local_files_only : bool, default=False
        Whether a hub id may only be taken from the local cache.

    Returns
    -------
    description : dict
        ``name``, ``folder``, ``shipped``; ``image_shape``, (height, width, channels), and
        ``latent_shape``, (channels, height, width); ``n_classes`` and ``classes``, their names, a
        list that may be empty, both None where a class is a prompt; ``n_parameters``, a dict of
        the VAE and the network that denoises; ``bytes``, of all files; ``scheduler``,
        ``prediction_type``, ``guidance_scale`` and ``value_range``; and what
        :func:`skdistill.training.pretrain` and the model card's script recorded, None where they
        did not: ``data``, ``license``, ``fid``, ``training_seconds``.

    Raises
    ------
    ValueError
        If there is no such backbone, or the folder is incomplete or damaged.

    Examples
    --------
    >>> from skdistill.backbones import describe_backbone
    >>> description = describe_backbone("digits")
    >>> description["image_shape"], description["n_classes"]
    ((8, 8, 1), 10)
    """
    folder = find_backbone(
        backbone, revision=revision, local_files_only=local_files_only, weights=False
    )
    kinds = networks_of(folder)
    configs = {part: read_config(folder, part, kind) for part, kind in kinds.items()}
    is_local = folder == WEIGHTS / str(backbone) or folder == Path(backbone).expanduser()
    if is_local:
        for part in kinds:
            weight_files(folder, part)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    index, run = read_json(folder / "model_index.json"), read_json(folder / "training.json")
    takes_prompts = "text_encoder" in kinds
    part = "unet" if takes_prompts else "transformer"
    networks = {name: _made(kinds[name], configs[name]) for name in ("vae", part)}
    vae, denoiser = (network.config for network in networks.values())
    latent_shape, (channels, height, width) = latent_and_image_shape(vae, denoiser)
    default_scale = (stable_diffusion if takes_prompts else dit).DEFAULT_GUIDANCE_SCALE
    source = run.get("source", {})
    return {
        "name": str(backbone),
        "folder": str(folder),
        "shipped": folder.parent == WEIGHTS,
        "image_shape": (height, width, channels),
        "latent_shape": latent_shape,
        "n_classes": None if takes_prompts else denoiser["num_embeds_ada_norm"],
        "classes": None if takes_prompts else list(index.get("id2label", {}).values()),
        "n_parameters": {
            name: sum(weights.numel() for weights in network.parameters())
            for name, network in networks.items()
        },
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        if is_local
        else None,
        "scheduler": scheduler.get("_class_name"),
        "prediction_type": scheduler.get("prediction_type", "epsilon"),
        "guidance_scale": index.get("guidance_scale", default_scale),
        "value_range": index.get("value_range"),
        "data": source.get("data"),
        "license": source.get("license"),
        "fid": read_json(folder / "evaluation.json").get("fid"),
        "training_seconds": run["vae"]["seconds"] + run["dit"]["seconds"] if run else None,
    }


def _rows(facts):
    return "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())


def _made(kind, config):
    """Return a network of diffusers without weights."""
    with torch.device("meta"):
        return getattr(diffusers, kind).from_config(config)
