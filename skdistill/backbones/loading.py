"""From the name of a pretrained backbone to the backbone."""

import os

from skdistill.backbones.dit import DiTBackbone
from skdistill.backbones.folder import find_backbone, networks_of
from skdistill.backbones.stable_diffusion import StableDiffusionBackbone

__all__ = ["load_backbone"]


def load_backbone(
    backbone, dtype="float32", *, revision=None, local_files_only=False, compile=False
):
    """Load a pretrained backbone of whichever kind its folder holds.

    Parameters
    ----------
    backbone : str or path-like
        A shipped name, a folder in diffusers' format, or a hub id "owner/name", which is
        downloaded.

    dtype : {"float32", "bfloat16", "float16"}, default="float32"
        Of the network that denoises.

    revision : str, default=None
        Branch, tag or commit of a hub id.

    local_files_only : bool, default=False
        Whether a hub id may only be taken from the local cache.

    compile : bool, default=False
        Whether the network that denoises goes through :func:`torch.compile`.

    Returns
    -------
    backbone : DiTBackbone or StableDiffusionBackbone
        The latter where there is a U-Net.

    Raises
    ------
    ValueError
        If there is no such backbone, or what it holds is incomplete, damaged or of another kind.

    Examples
    --------
    >>> from skdistill.backbones import load_backbone
    >>> load_backbone("digits").image_shape
    (1, 8, 8)
    """
    folder = find_backbone(backbone, revision=revision, local_files_only=local_files_only)
    kind = StableDiffusionBackbone if "unet" in networks_of(folder) else DiTBackbone
    return kind(folder, dtype, name=os.fspath(backbone), compile=compile)
