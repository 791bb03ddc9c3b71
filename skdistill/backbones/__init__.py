"""What encodes, denoises and decodes.

A backbone has ``latent_shape``, ``guidance_scale``, ``default_scheduler`` and four methods:
``encode(x, calls)`` to latents, ``decode(z, calls)`` back, ``predict(x_t, t, alpha_bar, labels,
guidance_scale)`` in the terms of its scheduler's ``prediction_type``, and ``to(device)``. One that
is pretrained also has ``name``, ``fingerprint``, ``image_shape``, ``value_range`` and
``class_indices(classes, class_map)``, which says what `labels` of the caller's classes are. Images
are in [-1, 1] with the channels first; `calls` is a :class:`~skdistill.generate.BatchedCalls`.
"""

from skdistill.backbones.card import describe_backbone, write_card
from skdistill.backbones.closed_form import ClosedFormBackbone, GaussianMixtureScore
from skdistill.backbones.dit import DiTBackbone
from skdistill.backbones.encoder import LatentEncoder
from skdistill.backbones.folder import find_backbone, shipped_backbones
from skdistill.backbones.loading import load_backbone
from skdistill.backbones.stable_diffusion import StableDiffusionBackbone

__all__ = [
    "ClosedFormBackbone",
    "DiTBackbone",
    "GaussianMixtureScore",
    "LatentEncoder",
    "StableDiffusionBackbone",
    "describe_backbone",
    "find_backbone",
    "load_backbone",
    "shipped_backbones",
    "write_card",
]
