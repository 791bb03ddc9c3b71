"""A neighbourhood pushed through the diffusion: its principal direction stays."""

import matplotlib.pyplot as plt
import numpy as np
from spiral import BLUE, GREEN, VERMILION, load_spiral

from skdistill import TangentProjector

X, y = load_spiral()
projector = TangentProjector(n_components=1, n_neighbors=60).fit(X[y == 0])
center = X[y == 0][[0]]
neighbors = X[y == 0][projector.neighborhoods(center)[0][0]]
means, bases = projector.tangent_bases(center)
random_state = np.random.RandomState(0)
figure, axes = plt.subplots(1, 3, figsize=(8, 3.1), sharex=True, sharey=True)
for ax, alpha_bar in zip(axes, (1.0, 0.99, 0.95), strict=True):
    copies = np.repeat(neighbors - means[0], 500, axis=0)
    noise = random_state.randn(*copies.shape)
    noisy = np.sqrt(alpha_bar) * copies + np.sqrt(1 - alpha_bar) * noise
    ax.scatter(*noisy[::20].T, s=4, color=BLUE, alpha=0.4, linewidth=0)
    directions = np.linalg.eigh(np.cov(noisy.T))[1]
    for basis, color, style, name in (
        (bases[0, 0], GREEN, "-", "of the clean points"),
        (directions[:, 1], VERMILION, "--", "of what is shown"),
    ):
        ax.plot(*(np.outer(basis, [-0.8, 0.8])), color=color, ls=style, lw=2, label=name)
    ax.set(aspect="equal", xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    # Padding: the bar over the alpha is cut off otherwise.
    ax.set_title(rf"$\bar\alpha_t = {alpha_bar:g}$", pad=8)
axes[0].legend(title="main direction", fontsize=8, title_fontsize=8, loc="upper left")
