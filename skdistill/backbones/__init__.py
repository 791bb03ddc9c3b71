"""What encodes, denoises and decodes.

A backbone has ``latent_shape``, ``guidance_scale``, ``default_scheduler`` and four methods:
``encode(x, calls)`` to latents, ``decode(z, calls)`` back, ``predict(x_t, t, alpha_bar, labels,
guidance_scale)`` in the terms of its scheduler's ``prediction_type``, and ``to(device)``. Images
are in [-1, 1] with the channels first; `calls` is a :class:`~skdistill.generate.BatchedCalls`.
"""

from skdistill.backbones.card import describe_backbone, write_card
from skdistill.backbones.closed_form import ClosedFormBackbone, GaussianMixtureScore
from skdistill.backbones.dit import DiTBackbone, find_backbone, shipped_backbones
from skdistill.backbones.encoder import LatentEncoder

__all__ = [
    "ClosedFormBackbone",
    "DiTBackbone",
    "GaussianMixtureScore",
    "LatentEncoder",
    "describe_backbone",
    "find_backbone",
    "shipped_backbones",
    "write_card",
]
