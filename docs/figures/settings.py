"""How the pull depends on the distance, and the radius on the step."""

import matplotlib.pyplot as plt
import torch
from spiral import BLUE, GREEN, VERMILION

from skdistill.guidance import kernel_rate, radius_multipliers

COLORS = (BLUE, VERMILION, GREEN)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
r = torch.linspace(0, 4, 200)
for kernel, color in zip(("rbf", "laplace", "imq"), COLORS, strict=True):
    share = (0.5 * kernel_rate(r, kernel)).clamp(0, 1)
    left.plot(r, share, color=color, label=f'kernel="{kernel}"')
left.set(xlabel="distance to the centroid", ylabel="share of the way that a step goes", ylim=0)
for annealing, color in zip(("exponential", "linear", "cosine"), COLORS, strict=True):
    right.plot(radius_multipliers(annealing), ".-", color=color, label=f'annealing="{annealing}"')
right.set(xlabel="guided step", ylabel="radius, in multiples of the last")
for ax in (left, right):
    ax.legend(frameon=False)
