"""
A distilled set as replay memory
================================

For those who train one class after the other. A network that goes on learning forgets what it does
not see any more, unless a few exemplars of each old class are kept and replayed. Here the digits
come in five tasks of two classes, and the memory holds ten images a class: distilled ones, random
ones, those that herding picks (as in iCaRL), or none.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPClassifier

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split
from skdistill.subsets import HerdingSubset, RandomSubset

# %%
# What is kept of a task is made from that task alone: a distiller, or a subset, is fitted to its
# two classes. In one respect this is kinder to the distiller than life would be: the shipped
# backbone was trained on the training images of all ten classes, which in earnest would not be
# there yet. A backbone that was trained on other data (a large DiT for photographs, say) has no
# such advantage.

X_train, X_test, y_train, y_test = load_digits_split()
TASKS = np.arange(10).reshape(5, 2)
IPC, SEEDS, EPOCHS = 10, range(3), 8


def memories(seed):
    return {
        "distilled": ManifoldGDDistiller(
            ipc=IPC, backbone="digits", num_inference_steps=25, random_state=seed
        ),
        "random": RandomSubset(ipc=IPC, random_state=seed),
        "herding": HerdingSubset(ipc=IPC),
        "none": None,
    }


def flat(X):
    return X.reshape(len(X), -1) / 16


# %%
# The network sees a task for some epochs, together with the memory of the tasks before, whose
# images are repeated until an old class counts as much as a new one.


def learn_in_turn(memory, seed):
    """Return the accuracy on all classes seen so far, after each task."""
    rng = np.random.default_rng(seed)
    network = MLPClassifier(100, learning_rate_init=3e-3, batch_size=64, random_state=seed)
    kept, seen = [], []
    for task in TASKS:
        of_task = np.isin(y_train, task)
        X, y = X_train[of_task], y_train[of_task]
        for _ in range(EPOCHS):
            repeated = [
                (X_old[rows], y_old[rows])
                for X_old, y_old in kept
                for rows in [rng.integers(len(y_old), size=len(y))]
            ]
            X_all, y_all = map(np.concatenate, zip((X, y), *repeated, strict=True))
            order = rng.permutation(len(y_all))
            network.partial_fit(flat(X_all[order]), y_all[order], classes=np.arange(10))
        if memory is not None:
            kept.append(memory.fit(X, y).sample())
        so_far = np.isin(y_test, TASKS[: len(seen) + 1])
        seen.append(network.score(flat(X_test[so_far]), y_test[so_far]))
    return seen


curves = {name: [] for name in memories(0)}
for seed in SEEDS:
    for name, memory in memories(seed).items():
        curves[name].append(learn_in_turn(memory, seed))

# %%
# Accuracy on the held-out images of all ten classes, after the last task.

final = {name: [run[-1] for run in runs] for name, runs in curves.items()}
ranking = sorted(final, key=lambda name: -np.mean(final[name]))
for name in ranking:
    print(
        f"{name:<9}  {np.mean(final[name]):.1%} ± {np.std(final[name], ddof=1):.1%} of all ten "
        "classes"
    )
gains = 100 * np.subtract(final["distilled"], final["random"])
print(
    f"After five tasks the best memory is {ranking[0]}. Distilled exemplars are "
    f"{np.mean(gains):+.1f} points from random ones\n(standard error "
    f"{np.std(gains, ddof=1) / np.sqrt(len(gains)):.1f}, {len(SEEDS)} seeds); without a memory "
    f"{np.mean(final['none']):.1%} is left."
)

# %%

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, names in zip(axes, (ranking, ranking[:-1]), strict=True):
    for place, name in enumerate(names):
        runs = np.array(curves[name])
        # Side by side, so that none hides another.
        tasks = np.arange(1, 6) + 0.06 * (place - 1)
        ax.errorbar(tasks, runs.mean(axis=0), runs.std(axis=0, ddof=1), capsize=3, label=name)
    ax.set(xlabel="tasks learnt", xticks=range(1, 6))
axes[0].set(ylabel="accuracy on the classes seen so far")
axes[1].set(title=f"all but '{ranking[-1]}'")
axes[0].legend(title="memory")
plt.show()
