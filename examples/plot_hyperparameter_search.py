"""
Searching hyper-parameters on a distilled set
=============================================

For those whose students are expensive. A search needs to know which settings are better than which
others, not how good each of them is; so it may train on a small set if that ranks settings as the
whole data would. This example measures that: the rank correlation between twenty settings of a
support vector machine trained on a distilled set and on all of the data, beside random subsets of
the same size.

On data as small as this there is nothing to save. What carries over is the measurement, which is
worth its while before a search that takes days.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split
from skdistill.subsets import RandomSubset

# %%
# Half of the held-out digits rank the settings, the other half judges what was chosen. Neither has
# been seen by the shipped backbone or by the distiller.

X_train, X_held_out, y_train, y_held_out = load_digits_split()
X_rank, X_test, y_rank, y_test = train_test_split(
    X_held_out.reshape(len(X_held_out), -1),
    y_held_out,
    test_size=0.5,
    stratify=y_held_out,
    random_state=0,
)
SETTINGS = [
    {"C": C, "gamma": gamma}
    for C, gamma in itertools.product([0.1, 1.0, 10.0, 100.0], [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
]
SEEDS = range(4)


def accuracies(X, y):
    X = X.reshape(len(X), -1)
    return np.array([SVC(**setting).fit(X, y).score(X_rank, y_rank) for setting in SETTINGS])


reference = accuracies(X_train, y_train)
print(
    f"Trained on all {len(X_train)} digits, the {len(SETTINGS)} settings label from "
    f"{reference.min():.1%} to {reference.max():.1%} of the ranking half rightly."
)

# %%
# The same settings, trained on a hundred images: distilled ones and random ones, four seeds of
# each.

distiller = ManifoldGDDistiller(ipc=10, backbone="digits", num_inference_steps=25)
small = {"distilled": [], "random": []}
for seed in SEEDS:
    fitted = distiller.set_params(random_state=seed).fit(X_train, y_train)
    small["distilled"].append(accuracies(*fitted.sample()))
    subset = RandomSubset(ipc=10, random_state=seed).fit(X_train, y_train)
    small["random"].append(accuracies(*subset.sample()))

# %%
# Spearman's rank correlation is 1 where the order of all settings is the same. What matters in the
# end is the setting that comes out first, trained on all of the data.


def on_all_data(setting):
    student = SVC(**setting).fit(X_train.reshape(len(X_train), -1), y_train)
    return student.score(X_test, y_test)


correlations, chosen = {}, {}
for name, runs in small.items():
    correlations[name] = [spearmanr(run, reference).statistic for run in runs]
    chosen[name] = [on_all_data(SETTINGS[np.argmax(run)]) for run in runs]
    print(
        f"{name:<9}  rank correlation {np.mean(correlations[name]):.3f} ± "
        f"{np.std(correlations[name], ddof=1):.3f}, chosen setting on the other half "
        f"{np.mean(chosen[name]):.1%} ± {np.std(chosen[name], ddof=1):.1%}"
    )
best = on_all_data(SETTINGS[np.argmax(reference)])
print(f"all data   chosen setting on the other half {best:.1%}")

gains = np.subtract(correlations["distilled"], correlations["random"])
error = np.std(gains, ddof=1) / np.sqrt(len(gains))
if abs(np.mean(gains)) < 2 * error:
    verdict = "No clear difference: distilled and random images rank alike"
elif np.mean(gains) > 0:
    verdict = "Distilled images rank the settings better than random ones"
else:
    verdict = "Random images rank the settings better than distilled ones"
print(f"{verdict} (correlation {np.mean(gains):+.3f}, standard error {error:.3f}).")

# %%
# A point a setting and seed. The farther to the upper right, the better; what counts is whether the
# points rise.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained", sharey=True)
for ax, (name, runs) in zip(axes, small.items(), strict=True):
    for run in runs:
        ax.plot(reference, run, "o", alpha=0.5)
    ax.set(
        xlabel="accuracy, trained on all of the data",
        title=f"{name}: rank correlation {np.mean(correlations[name]):.3f}",
    )
axes[0].set_ylabel("accuracy, trained on 100 images")
plt.show()
