"""Folders in diffusers' format: where they are, what lies in them, and how it is loaded safely."""

import hashlib
import json
from pathlib import Path

import diffusers
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

__all__ = ["find_backbone", "shipped_backbones"]

WEIGHTS = Path(__file__).parents[1] / "weights"
# The networks of each kind of backbone, by the folders that hold them.
DIT = {"vae": "AutoencoderKL", "transformer": "DiTTransformer2DModel"}
STABLE_DIFFUSION = {
    "vae": "AutoencoderKL",
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
}
# Such as are loaded: in one file or many, and no variant of them.
WEIGHT_FILES = tuple(
    f"{stem}{shard}.safetensors"
    for stem in ("diffusion_pytorch_model", "model")
    for shard in ("", "-?????-of-?????")
)
# Text, beside what is JSON, that a tokenizer reads.
TOKENIZER_TEXT = "tokenizer/merges.txt"


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

    Of a hub id, the configuration is downloaded, and then those weights alone that are loaded:
    no other pipeline's, no variants, nothing pickled.

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
        With ``model_index.json``, ``scheduler`` and the networks: ``vae`` and ``transformer``, or
        ``vae``, ``unet``, ``text_encoder`` and ``tokenizer``.

    Raises
    ------
    ValueError
        If there is no such backbone, it is of no kind that is supported, or `revision` is given
        for what is no hub id.
    """
    name = str(backbone)
    folder = WEIGHTS / name if name in shipped_backbones() else Path(name).expanduser()
    if name and folder.is_dir():
        if revision is not None:
            raise ValueError(
                f"revision={revision!r} is for a hub id 'owner/name', but backbone={name!r} is "
                f"{'shipped' if folder.parent == WEIGHTS else 'a folder'} and has no revisions."
            )
        return folder
    if name == "closed-form":
        raise ValueError(
            "backbone='closed-form' is no pretrained model: ManifoldGDDistiller fits it, and it "
            "encodes nothing. Give a shipped name "
            f"({', '.join(map(repr, shipped_backbones()))}), a folder or a hub id 'owner/name'."
        )
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise ValueError(
            f"backbone={name!r} is neither 'closed-form', nor shipped "
            f"({', '.join(map(repr, shipped_backbones()))}), nor an existing folder, nor a hub id "
            "'owner/name'."
        )
    configuration = ["*.json"]
    folder = _download(name, revision, local_files_only, configuration)
    if not weights:
        return folder
    networks = networks_of(folder)
    files = [f"{part}/{file}" for part in networks for file in WEIGHT_FILES]
    if "text_encoder" in networks:
        files.append(TOKENIZER_TEXT)
    return _download(name, revision, local_files_only, configuration + files)


def _download(name, revision, local_files_only, patterns):
    """Return the folder of the cache with the files of a hub id that match a pattern."""
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=patterns,
            )
        )
    except (OSError, ValueError) as error:
        # The hub's reasons are several lines long.
        reason = " ".join(str(error).split())
        raise ValueError(
            f"backbone={name!r} is no existing folder, and as a hub id it could not be had "
            f"(revision={revision!r}, local_files_only={local_files_only}): {reason}"
        ) from error


def networks_of(folder):
    """Return the networks that the backbone in a folder is to have.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    Returns
    -------
    networks : dict of str to str
        From the part of the folder to the name of the class: `STABLE_DIFFUSION` where there is a
        U-Net, otherwise `DIT`.

    Raises
    ------
    ValueError
        If it has more than one text encoder, as Stable Diffusion XL has.
    """
    index = read_json(folder / "model_index.json")
    parts = set(index) | {path.name for path in folder.iterdir() if path.is_dir()}
    if "text_encoder_2" in parts:
        raise ValueError(
            f"backbone folder {str(folder)!r} has two text encoders, as Stable Diffusion XL has "
            f"({index.get('_class_name', 'text_encoder_2')}); those of the Stable Diffusion family "
            "that have one are supported, such as Stable Diffusion 1 and 2."
        )
    return STABLE_DIFFUSION if "unet" in parts else DIT


def read_json(path):
    """Return what a file of JSON holds.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    content : dict
        What it holds; an empty dict where there is no such file.

    Raises
    ------
    ValueError
        If it is no JSON, or no object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold an object, but holds a {type(content).__name__}")
    return content


def read_config(folder, part, kind):
    """Return the configuration of one network of a backbone.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.

    kind : str
        Name of the class that it must be.

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
        networks = networks_of(folder)
        rest = "tokenizer and scheduler" if "text_encoder" in networks else "scheduler"
        raise ValueError(
            f"backbone folder {str(folder)!r} has no {part}/config.json; it must be in diffusers' "
            f"format, with {', '.join(networks)}, {rest}."
        )
    config = read_json(path)
    declared = config.get("_class_name") or (config.get("architectures") or [kind])[0]
    if declared != kind:
        raise ValueError(
            f"backbone folder {str(folder)!r} holds a {declared} in {part}; only {kind} is "
            "supported there."
        )
    return config


def weight_files(folder, part):
    """Return the files that the weights of one network are in.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.

    Returns
    -------
    files : list of Path
        Sorted.

    Raises
    ------
    ValueError
        If there are none that may be loaded.
    """
    path = folder / part
    files = sorted(file for pattern in WEIGHT_FILES for file in path.glob(pattern))
    if not files:
        others = sorted(file.name for file in path.iterdir())
        pickled = [name for name in others if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        variants = [name for name in others if name.endswith(".safetensors")]
        if variants:
            found = f"only variants of weights ({', '.join(variants)})"
        elif pickled:
            found = f"only pickled weights ({', '.join(pickled)})"
        else:
            found = "no weights"
        raise ValueError(
            f"backbone folder {str(folder)!r} has {found} in {part}; only safetensors are loaded, "
            f"such as {WEIGHT_FILES[0 if part != 'text_encoder' else 2]}. For a hub id, name a "
            "revision that has them: revision='refs/pr/1', for example."
        )
    return files


def hash_files(files):
    """Return one hash of many files.

    Parameters
    ----------
    files : iterable of Path
        The files, in an order that does not change.

    Returns
    -------
    digest : str
        The SHA-256, in hexadecimal, of the files' own.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_network(kind, folder, part, **options):
    """Load one network of a backbone.

    Parameters
    ----------
    kind : type
        Its class, of diffusers or transformers.

    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.

    **options
        For ``from_pretrained``.

    Returns
    -------
    network : torch.nn.Module
        In evaluation mode, without gradients.

    Raises
    ------
    ValueError
        If its weights are no safetensors, damaged, or not those of its configuration.
    """
    read_config(folder, part, kind.__name__)
    weight_files(folder, part)
    path = folder / part
    wrong = f"The weights in {str(path)!r} cannot be read; they are damaged or do not belong to"
    try:
        network, found = kind.from_pretrained(
            path,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{wrong} the config.json beside them: {error}") from error
    # Which would be made up at random.
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(
            f"{wrong} the config.json beside them: {missing[0]!r} is missing, one of {len(missing)}"
        )
    for name, weights in network.state_dict().items():
        if not torch.isfinite(weights).all():
            raise ValueError(
                f"The weights in {str(path)!r} cannot be used: {name!r} has values that are not "
                "finite."
            )
    return network.eval().requires_grad_(False)


def load_denoiser(folder, part, dtype):
    """Load the network that denoises, or the VAE, of a backbone.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    part : str
        The network's folder in it.

    dtype : {"float32", "bfloat16", "float16"}
        Of its weights.

    Returns
    -------
    network : diffusers model
        Of the class that :func:`networks_of` names.

    Raises
    ------
    ValueError
        See :func:`load_network`.
    """
    return load_network(
        getattr(diffusers, networks_of(folder)[part]),
        folder,
        part,
        # The other way of loading wants a package of its own.
        low_cpu_mem_usage=False,
        torch_dtype=getattr(torch, dtype),
    )


def load_scheduler(folder):
    """Return the scheduler of a backbone.

    Parameters
    ----------
    folder : Path
        Of the backbone.

    Returns
    -------
    scheduler : diffusers scheduler
        As configured there.

    Raises
    ------
    ValueError
        If there is none, or none of diffusers'.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise ValueError(f"backbone folder {str(folder)!r} has no scheduler configuration.")
    name = read_json(path).get("_class_name", "DDPMScheduler")
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(
            f"backbone folder {str(folder)!r} names a scheduler {name!r}, which diffusers "
            f"{diffusers.__version__} does not have."
        )
    try:
        return kind.from_pretrained(path.parent)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} configures no {name}: {error}") from error
