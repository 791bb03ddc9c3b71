"""
Balancing an imbalanced data set
================================

For users of imbalanced-learn. :class:`~skdistill.ManifoldGDResampler` is a step of its pipelines:
the rows that later steps are fitted on become a distilled set with as many rows a class, and rows
to be predicted pass unchanged. Here it meets imbalanced-learn's own ways to balance classes by
having fewer rows: ``RandomUnderSampler`` and ``NearMiss``, which keep some, and
``ClusterCentroids``, which makes them.
"""

import matplotlib.pyplot as plt
import numpy as np
from imblearn.datasets import make_imbalance
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import ClusterCentroids, NearMiss, RandomUnderSampler
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skdistill import ManifoldGDDistiller, ManifoldGDResampler

# %%
# The data: measurements of breast tumours, of which the malignant ones (class 0) are made rare. A
# seed decides the split, which of the malignant rows are left, and what the method draws.

BUDGET = 15
SEEDS = range(10)


def load_imbalanced(seed):
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
    X, y = make_imbalance(X, y, sampling_strategy={0: 20, 1: 170}, random_state=seed)
    return X, X_test, y, y_test


# %%
# Each method gets the same budget, 15 rows a class, and the same classifier. Only ManifoldGD and
# ClusterCentroids can invent rows; the others choose among those that there are. ManifoldGD ends in
# moving the rows of a class together to its support points; "unguided, refined" does only that to
# rows that no centroid has pulled.


def resamplers(seed):
    budget = {0: BUDGET, 1: BUDGET}
    return {
        "no resampling": None,
        "RandomUnderSampler": RandomUnderSampler(sampling_strategy=budget, random_state=seed),
        "NearMiss": NearMiss(sampling_strategy=budget),
        "ClusterCentroids": ClusterCentroids(
            sampling_strategy=budget, estimator=KMeans(n_init=3, random_state=seed)
        ),
        "ManifoldGD": ManifoldGDResampler(ManifoldGDDistiller(BUDGET, random_state=seed)),
        "unguided, refined": ManifoldGDResampler(
            ManifoldGDDistiller(BUDGET, strength=0.0, random_state=seed)
        ),
    }


def balanced_accuracy(resampler, X, X_test, y, y_test):
    steps = [StandardScaler(), resampler, LogisticRegression(max_iter=1000)]
    pipeline = make_pipeline(*[step for step in steps if step is not None])
    return balanced_accuracy_score(y_test, pipeline.fit(X, y).predict(X_test))


scores = {name: [] for name in resamplers(0)}
for seed in SEEDS:
    data = load_imbalanced(seed)
    for name, resampler in resamplers(seed).items():
        scores[name].append(balanced_accuracy(resampler, *data))

# %%
# Balanced accuracy, the mean of the accuracies of the two classes, on the held-out half, which is
# as it was: not made imbalanced, not resampled.

ranking = sorted(scores, key=lambda name: -np.mean(scores[name]))
print(f"balanced accuracy, mean and deviation over {len(SEEDS)} seeds")
for name in ranking:
    n_rows = 190 if name == "no resampling" else 2 * BUDGET
    print(
        f"{name:<21} {n_rows:>3} rows  {np.mean(scores[name]):.1%} ± "
        f"{np.std(scores[name], ddof=1):.1%}"
    )

# %%
# Methods that saw the same rows are best compared seed by seed: the split moves all of them alike.

ours = np.array(scores["ManifoldGD"])
others = [name for name in ranking if name not in ("ManifoldGD", "no resampling")]
print(f"The best on average is {ranking[0]}.")
for name in others:
    gains = 100 * (ours - scores[name])
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    verdict = "no clear difference"
    if abs(np.mean(gains)) > 2 * error:
        verdict = "ManifoldGD is ahead" if np.mean(gains) > 0 else f"{name} is ahead"
    print(
        f"ManifoldGD - {name}: {np.mean(gains):+.1f} points, standard error {error:.1f}: {verdict}"
    )

# %%
# A point a seed, a line at the mean.

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for place, name in enumerate(reversed(ranking)):
    ax.plot(scores[name], [place] * len(SEEDS), "o", alpha=0.5)
    ax.plot([np.mean(scores[name])] * 2, [place - 0.3, place + 0.3], color="black")
ax.set_yticks(range(len(ranking)), reversed(ranking))
ax.set(xlabel="balanced accuracy on held-out rows")
plt.show()
