"""Neighbourhoods and tangent spaces, wide at the first guided step and narrow at the last."""

import matplotlib.pyplot as plt
import numpy as np
from spiral import BLUE, GREEN, VERMILION, draw_class, load_spiral

from skdistill import HierarchicalIPC, TangentProjector

X, y = load_spiral()
Z = X[y == 0]
centers = HierarchicalIPC(ipc=6, selection="leaves", random_state=0).fit(Z).cluster_centers_
projector = TangentProjector(n_components=1, n_neighbors=24).fit(Z)
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, radius, title in zip(axes, (2.0, 1.0), ("first: radius 2", "last: radius 1"), strict=True):
    draw_class(ax, X, y)
    neighbors, weights = projector.neighborhoods(centers, radius=radius)
    for indices, present in zip(neighbors, weights > 0, strict=True):
        ax.scatter(*Z[indices[present]].T, s=10, color=BLUE, linewidth=0)
    means, bases = projector.tangent_bases(centers, radius=radius)
    ends = means[:, None] + 0.3 * np.array([-1.0, 1.0])[:, None] * bases
    for line in ends:
        ax.plot(*line.T, color=GREEN, lw=2.5)
    ax.scatter(*centers.T, s=50, marker="D", color=VERMILION, edgecolor="white", zorder=3)
    ax.set_title(title)
