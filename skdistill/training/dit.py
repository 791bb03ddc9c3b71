"""The DiT of a backbone, and its loss."""

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor

__all__ = ["HEAD_DIM", "LABEL_DROPOUT", "SNR_CAP", "dit_loss", "make_dit", "use_plain_attention"]

HEAD_DIM = 32
LABEL_DROPOUT = 0.1
SNR_CAP = 5.0


def make_dit(latents, n_classes, settings):
    """Make a DiT that starts, as its authors advise, with every block the identity.

    Parameters
    ----------
    latents : tensor of shape (n_views, n_samples, n_channels, size, size)
        Of the kind that it is to learn.

    n_classes : int
        How many classes they have.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    dit : DiTTransformer2DModel
        Of "depth" blocks and width "width".
    """
    dit = DiTTransformer2DModel(
        num_attention_heads=settings["width"] // HEAD_DIM,
        attention_head_dim=HEAD_DIM,
        in_channels=latents.shape[2],
        num_layers=settings["depth"],
        dropout=settings["dropout"],
        sample_size=latents.shape[-1],
        patch_size=settings["patch_size"],
        num_embeds_ada_norm=n_classes,
        norm_elementwise_affine=False,
        # Its approximation by tanh, the default, takes four times as long on the CPU.
        activation_fn="gelu",
    )
    for module in dit.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    for block in dit.transformer_blocks:
        torch.nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight, std=0.02)
        torch.nn.init.normal_(block.norm1.emb.timestep_embedder.linear_1.weight, std=0.02)
        torch.nn.init.normal_(block.norm1.emb.timestep_embedder.linear_2.weight, std=0.02)
        torch.nn.init.zeros_(block.norm1.linear.weight)
        # It would draw anew in every block which labels to drop: the loss drops them once a sample.
        block.norm1.emb.class_embedder.eval()
    torch.nn.init.zeros_(dit.proj_out_1.weight)
    torch.nn.init.zeros_(dit.proj_out_2.weight)
    return dit


def use_plain_attention(dit):
    """Have a DiT compute attention by plain products, in place.

    On a CPU the fused kernels lose at the few dozen tokens of a small backbone.

    Parameters
    ----------
    dit : DiTTransformer2DModel
        Any.
    """
    for block in dit.transformer_blocks:
        block.attn1.set_processor(AttnProcessor())


def dit_loss(dit, latents, labels, scheduler, settings):
    """Make the loss of a DiT: the squared error of the velocity with min-SNR weights.

    Parameters
    ----------
    dit : DiTTransformer2DModel
        As it is when the loss is asked for.

    latents : tensor of shape (n_views, n_samples, n_channels, size, size)
        What it is to learn; a batch has one view, at random, of each of its samples.

    labels : ndarray of shape (n_samples,)
        Their classes, from 0. A tenth is replaced by the null class.

    scheduler : SchedulerMixin
        The noise levels.

    settings : dict
        The arguments of :func:`skdistill.training.pretrain`, with none left open.

    Returns
    -------
    loss : callable
        Draws a batch of latents and noise and returns the loss on it.
    """
    n_views, n_samples = latents.shape[:2]
    batch_size, device = min(settings["batch_size"], n_samples), latents.device
    labels = torch.from_numpy(labels).to(device)
    alphas_cumprod = scheduler.alphas_cumprod.to(device)
    spread = torch.arange(batch_size, device=device) / batch_size

    def loss():
        rows = torch.randperm(n_samples, device=device)[:batch_size]
        z = latents[torch.randint(n_views, (batch_size,), device=device), rows]
        # Timesteps spread evenly over the run make the loss less noisy than independent ones.
        t = (torch.rand(1, device=device) + spread) % 1 * len(alphas_cumprod)
        t = t.long().clamp(max=len(alphas_cumprod) - 1)
        alpha_bar = alphas_cumprod[t][:, None, None, None]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        noise = torch.randn_like(z)
        dropped = torch.rand(batch_size, device=device) < LABEL_DROPOUT
        condition = labels[rows].masked_fill(dropped, dit.config.num_embeds_ada_norm)
        v = dit(alpha * z + sigma * noise, t, condition).sample.float()
        weight = _loss_weight(alpha_bar / (1 - alpha_bar))
        return (weight * (v - (alpha * noise - sigma * z)).square()).mean()

    return loss


def _loss_weight(snr):
    """Return the min-SNR weights of errors in the velocity."""
    return snr.clamp(max=SNR_CAP) / (snr + 1)
