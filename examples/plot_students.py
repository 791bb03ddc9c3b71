"""
Any classifier as the student: scikit-learn's, or a torch network through skorch
================================================================================

For those who want to know what a distilled set is worth to the model that they use. ``score``
trains a student on the distilled set and returns its accuracy on real rows. The student is a
parameter, and any classifier will do: one of scikit-learn's, one of :mod:`skdistill.students`, or a
torch module of your own in `skorch <https://skorch.readthedocs.io>`_'s wrapper.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils import get_tags
from skorch import NeuralNetClassifier

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split
from skdistill.evaluation import train_student
from skdistill.protocols import linear_student
from skdistill.students import ConvNetClassifier
from skdistill.subsets import RandomSubset

# %%
# The distilled set: ten digits a class from the shipped backbone. In float32, as torch wants them:
# samples have the dtype of what ``fit`` saw.

X_train, X_test, y_train, y_test = load_digits_split()
X_train, X_test = X_train.astype(np.float32), X_test.astype(np.float32)
distiller = ManifoldGDDistiller(
    ipc=10, backbone="digits", num_inference_steps=25, random_state=0
).fit(X_train, y_train)

# %%
# A torch module of one's own. Rows reach a student flat, unless its tags say that it takes images,
# as those of :class:`~skdistill.students.ConvNetClassifier` do: so the module folds them up.


class SmallNetwork(torch.nn.Sequential):
    def __init__(self):
        super().__init__(
            torch.nn.Unflatten(1, (1, 8, 8)),
            torch.nn.Conv2d(1, 32, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.AvgPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 4 * 4, 10),
        )


skorch_network = NeuralNetClassifier(
    SmallNetwork,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.AdamW,
    lr=3e-3,
    max_epochs=30,
    batch_size=32,
    train_split=None,
    verbose=0,
)

# %%
# It is a student like any other. Whoever asks for several does better to sample once, since each
# call of ``score`` makes the set anew.

score = distiller.set_params(student=skorch_network).score(X_test, y_test)
print(f"score says that the torch module learns to label {score:.1%} of the held-out digits.")

# %%
# Students of a set, the same on as many real images, drawn at random, and on all of the training
# images.

students = {
    "logistic regression": linear_student(),
    "nearest neighbour": KNeighborsClassifier(1),
    "support vectors": SVC(C=10),
    "random forest": RandomForestClassifier(random_state=0),
    "torch, by skorch": skorch_network,
    "ConvNet-2": ConvNetClassifier(2, 32, steps=200, learning_rate=3e-3, value_range=(0, 16)),
}
sets = {
    "distilled": distiller.sample(),
    "random real": RandomSubset(ipc=10, random_state=0).fit(X_train, y_train).sample(),
    "all": (X_train, y_train),
}


def accuracy(student, X, y):
    shape = (-1, 8, 8) if get_tags(student).input_tags.three_d_array else (-1, 64)
    torch.manual_seed(0)
    fitted = train_student(student, X.reshape(shape), y, seed=0)
    return fitted.score(X_test.reshape(shape), y_test)


print(f"accuracy on {len(X_test)} held-out digits\n{'student':<20} " + "  ".join(sets))
scores = {}
for name, student in students.items():
    scores[name] = {kind: accuracy(student, *pair) for kind, pair in sets.items()}
    cells = [f"{scores[name][kind]:>{max(5, len(kind))}.1%}" for kind in sets]
    print(f"{name:<20} " + "  ".join(cells))

# %%
# One set and one draw of real images: differences of a point or two are within what another seed
# changes.

best = max(scores, key=lambda name: scores[name]["distilled"])
ahead = [name for name in scores if scores[name]["distilled"] > scores[name]["random real"]]
print(
    f"The best student of the {len(sets['distilled'][1])} distilled digits is {best}, with "
    f"{scores[best]['distilled']:.1%}.\n{len(ahead)} of {len(students)} students learn more from "
    "them than from as many random real ones."
)

# %%

figure, ax = plt.subplots(figsize=(7, 3.3), layout="constrained")
for kind, marker in zip(sets, "os|", strict=True):
    values = [scores[name][kind] for name in students]
    ax.plot(values, range(len(students)), marker, label=kind, markersize=9)
ax.set_yticks(range(len(students)), students)
ax.set(xlabel="accuracy on held-out digits")
ax.invert_yaxis()
figure.legend(loc="outside upper center", ncols=3)
plt.show()
