"""
A data set at a glance: its prototypes
======================================

For anyone who wants to see what a data set holds. :class:`~skdistill.HierarchicalIPC` needs no
diffusion model and no weights: it splits each class top-down and picks prototypes from coarse to
fine, which make a page that one can look at. Prototypes of this kind are what the distiller guides
its samples to, in the latent space of a diffusion model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier

from skdistill import HierarchicalIPC
from skdistill.datasets import load_digits_split
from skdistill.plotting import DistilledGrid, HierarchyDisplay
from skdistill.subsets import RandomSubset

# %%
# 1,257 handwritten digits, ten prototypes a class. The first one of a row is the mean of its class;
# further right they are means of ever fewer images.

X_train, X_test, y_train, y_test = load_digits_split()
rows, rows_test = X_train.reshape(len(X_train), -1), X_test.reshape(len(X_test), -1)
hierarchy = HierarchicalIPC(ipc=10, random_state=0).fit(rows, y_train)
means = hierarchy.cluster_centers_.reshape(-1, 8, 8)
DistilledGrid.from_arrays(means, hierarchy.prototype_classes_, value_range=(0, 16))
plt.show()

# %%
# One class as a tree
# -------------------
# How the ones fall apart: with a foot on the left, plain in the middle, with a flag on the right.
# Discs are the nodes that became prototypes. By default they are taken level by level where the
# spread is largest, from the mean of the class down, so that whole branches may have none of their
# own.

HierarchyDisplay.from_estimator(hierarchy, rows, y_train, label=1, images=X_train)
plt.show()

# %%
# For a summary one had rather have a prototype from every branch: ``selection="leaves"``, which the
# distiller takes by default. And where a picture has to be a genuine one, medoids are real images,
# one for each mean.

leaves = HierarchicalIPC(ipc=10, selection="leaves", random_state=0).fit(rows, y_train)
medoids = clone(leaves).set_params(prototype="medoid").fit(rows, y_train)
DistilledGrid.from_arrays(
    X_train[medoids.prototype_indices_], medoids.prototype_classes_, value_range=(0, 16)
)
plt.show()

# %%
# How good a summary is it?
# -------------------------
# Two figures for each choice of a hundred pictures. How far a held-out digit is from the nearest
# one, root mean square over pixels with values from 0 to 16; and how often the nearest one is of
# the right class.


def judge(prototypes, labels):
    nearest = KNeighborsClassifier(1).fit(prototypes, labels)
    distances, _ = nearest.kneighbors(rows_test)
    return np.sqrt(np.mean(distances**2) / rows_test.shape[1]), nearest.score(rows_test, y_test)


summaries = {
    "level by level": judge(hierarchy.cluster_centers_, hierarchy.prototype_classes_),
    "leaves": judge(leaves.cluster_centers_, leaves.prototype_classes_),
    "leaves, medoids": judge(medoids.cluster_centers_, medoids.prototype_classes_),
}
draws = [
    judge(*RandomSubset(ipc=10, random_state=seed).fit(rows, y_train).sample())
    for seed in range(10)
]
summaries["random images"] = tuple(np.mean(draws, axis=0))
summaries["all 1,257 images"] = judge(rows, y_train)
for name, (distance, accuracy) in summaries.items():
    print(f"{name:<16}  distance {distance:.2f}  nearest of the right class {accuracy:.1%}")
distance, accuracy = summaries["leaves"]
random_distance, random_accuracy = summaries["random images"]
print(
    f"A held-out digit is {distance:.2f} from the nearest of a hundred leaves and "
    f"{random_distance:.2f} from the nearest of a\nhundred random images (mean of ten draws); it "
    f"is of the right class in {accuracy:.1%} and\n{random_accuracy:.1%} of the cases."
)
