"""Train backbones on the user's own images: a small VAE, then a DiT in its latents."""

from skdistill.training.run import checkpoint_folder, pretrain

__all__ = ["checkpoint_folder", "pretrain"]
