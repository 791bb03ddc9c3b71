"""Train backbones on the user's own images: a small VAE, then a DiT in its latents."""

from skdistill.atomic import checkpoint_folder
from skdistill.training.run import pretrain

__all__ = ["checkpoint_folder", "pretrain"]
