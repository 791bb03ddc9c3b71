"""Two classes of points along the arms of a spiral, for pictures of what happens in a latent space.

The arms are curved, so that the mean of a class and the means of large parts of it lie off the
data: what tangent spaces are for.
"""

import numpy as np

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9A9A9A"


def load_spiral(n_per_class=400, noise=0.06):
    """Return points (n, 2) and their class, 0 or 1."""
    random_state = np.random.RandomState(0)
    arms = []
    for k in range(2):
        angle = np.pi * (0.35 + 1.5 * np.sqrt(random_state.rand(n_per_class)))
        radius = angle / np.pi
        arm = np.column_stack(
            [radius * np.cos(angle + k * np.pi), radius * np.sin(angle + k * np.pi)]
        )
        arms.append(arm + noise * random_state.randn(n_per_class, 2))
    return np.concatenate(arms), np.repeat([0, 1], n_per_class)


def draw_class(ax, X, y, label=0):
    """Draw the points, those of other classes paler."""
    ax.scatter(*X[y != label].T, s=6, color=GREY, alpha=0.15, linewidth=0)
    ax.scatter(*X[y == label].T, s=6, color=BLUE, alpha=0.35, linewidth=0)
    ax.set(aspect="equal", xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
