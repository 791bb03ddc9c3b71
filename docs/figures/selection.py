"""Prototypes of one class: from all levels of its tree, and its leaves."""

import matplotlib.pyplot as plt
from spiral import BLUE, VERMILION, draw_class, load_spiral

from skdistill import HierarchicalIPC

X, y = load_spiral()
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, selection in zip(axes, ("levelwise", "leaves"), strict=True):
    hierarchy = HierarchicalIPC(ipc=8, selection=selection, random_state=0).fit(X[y == 0])
    draw_class(ax, X, y)
    inner = hierarchy.trees_[0].children[hierarchy.prototype_nodes_, 0] >= 0
    for center, level, coarse in zip(
        hierarchy.cluster_centers_, hierarchy.prototype_levels_, inner, strict=True
    ):
        color = VERMILION if coarse else BLUE
        ax.scatter(*center, s=210, color=color, edgecolor="white", zorder=3)
        ax.annotate(level, center, color="white", ha="center", va="center", zorder=4)
    ax.set_title(f'selection="{selection}"')
