"""The clean prediction of one sample over the run: unguided, under mode and manifold guidance."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from digits import fitted

from skdistill.generate import BatchedCalls
from skdistill.plotting import record_run

STEPS = (0, 5, 10, 15, 20, 25, 30, 40, 49)
KINDS = {
    "unguided": {"strength": 0.0},
    "mode guidance": {"projector": "passthrough"},
    "manifold guidance": {},
}
figure, axes = plt.subplots(len(KINDS), 1 + len(STEPS), figsize=(8.5, 2.9))
for row, (name, settings) in zip(axes, KINDS.items(), strict=True):
    distiller = fitted(**settings)
    backbone = distiller.backbone_
    run = record_run(distiller, label=1, n_samples=6)
    latents = np.stack([run.centroids[-1], *run.corrected[list(STEPS), -1]])
    z = torch.from_numpy(latents).reshape(-1, *backbone.latent_shape)
    for ax, image in zip(row, backbone.decode(z, BatchedCalls(64)), strict=True):
        ax.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
for ax, title in zip(axes[0], ("centroid", *(f"step {i + 1}" for i in STEPS)), strict=True):
    ax.set_title(title, fontsize=8)
