"""One step of guidance: the pull to a centroid, the part of it that is kept, and what is not."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from spiral import GREEN, GREY, VERMILION, draw_class, load_spiral

from skdistill import HierarchicalIPC, TangentProjector
from skdistill.guidance import pull_to_centroid

X, y = load_spiral()
Z = X[y == 0]
# The mode at level 1, which lies beside the data, and a prediction that lies on them.
center = HierarchicalIPC(ipc=8, random_state=0).fit(Z).cluster_centers_[[1]]
(mean,), (basis,) = TangentProjector(n_components=1, n_neighbors=24).fit(Z).tangent_bases(center)
x0 = np.array([[-0.92, -0.85]])
moved = [
    pull_to_centroid(
        torch.from_numpy(x0),
        torch.from_numpy(center),
        torch.ones(1),
        None if plane is None else torch.from_numpy(plane[None]),
    ).numpy()[0]
    for plane in (None, basis)
]
figure, ax = plt.subplots(figsize=(7, 3.8))
draw_class(ax, X, y)
line = mean + np.outer([-0.75, 0.45], basis[0] * np.sign(basis[0, 1]))
ax.plot(*line.T, color=GREY, lw=1, label="tangent space at c")
for end, start, color, name in (
    (moved[0], x0[0], VERMILION, "mode guidance: all of the pull"),
    (moved[1], x0[0], GREEN, "manifold guidance: what $P_T$ keeps"),
    (moved[0], moved[1], "black", "what $P_N$ takes away"),
):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color, "lw": 2})
    ax.plot([], [], color=color, lw=2, label=name)
ax.scatter(*center.T, s=60, marker="D", color=VERMILION, edgecolor="white", zorder=3)
ax.annotate("c", center[0], xytext=(8, 2), textcoords="offset points")
ax.scatter(*x0.T, s=40, color="black", zorder=3)
ax.annotate(r"$\hat x_0$", x0[0], xytext=(-18, -4), textcoords="offset points")
figure.legend(loc="outside right upper", frameon=False)
ax.set(xlim=(-1.4, 0.2), ylim=(-1.3, 0.3))
