"""
In a scikit-learn pipeline, and in a grid search
================================================

For users of scikit-learn. :class:`~skdistill.HierarchicalIPC` is a transformer: its output, the
distances to the prototypes of each class, lets a linear classifier draw a curved boundary.
:class:`~skdistill.ManifoldGDDistiller` has a ``score``, the accuracy on real rows of a student
trained on the distilled set, so that a grid search can choose how samples are guided.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.protocols import linear_student

# %%
# Distances to prototypes as features
# -----------------------------------
# Two half moons, which no straight line parts. The pipeline scales the columns, measures how far
# each row is from the prototypes of each class and gives those distances to a logistic regression.
# How many prototypes there are, and whether they are taken level by level from the tree of a class
# or are its leaves, are parameters like any other: a grid search picks them on the training rows.

X, y = make_moons(1000, noise=0.2, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)

linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, y_train)
distances = make_pipeline(
    StandardScaler(), HierarchicalIPC(random_state=0), LogisticRegression(max_iter=1000)
)
settings = {
    "hierarchicalipc__ipc": [1, 2, 5, 10],
    "hierarchicalipc__selection": ["levelwise", "leaves"],
}
search = GridSearchCV(distances, settings, cv=5).fit(X_train, y_train)
n_prototypes, selection = (search.best_params_[name] for name in settings)
print(
    f"A logistic regression labels {linear.score(X_test, y_test):.1%} of the held-out rows "
    f"rightly;\non distances to {n_prototypes} prototypes a class ({selection}), which the search "
    f"chose, {search.score(X_test, y_test):.1%}."
)

# %%
# The prototypes, in the units of the data, and the boundary that their distances allow.

scaler, hierarchy, _ = search.best_estimator_
prototypes = scaler.inverse_transform(hierarchy.cluster_centers_)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
DecisionBoundaryDisplay.from_estimator(search, X, response_method="predict", alpha=0.2, ax=ax)
ax.scatter(*X_test.T, c=y_test, s=6)
ax.scatter(*prototypes.T, color="crimson", s=140, marker="*", edgecolors="white")
ax.set(title="Held-out rows and the prototypes (stars)")
plt.show()

# %%
# Choosing the guidance
# ---------------------
# Ten synthetic rows of breast-cancer measurements, five a class, from the closed-form backbone,
# under guidance of several strengths towards either kind of prototypes. Strength 0 is the unguided
# model, to which prototypes mean nothing. The distiller's last step, which moves the rows of a
# class together, would leave little of the differences, so it is left out. The distiller is no
# classifier, so the folds have to be asked for: each of them must hold all classes.

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
distiller = ManifoldGDDistiller(
    ipc=5,
    clusterer=HierarchicalIPC(),
    refiner="passthrough",
    num_inference_steps=25,
    random_state=0,
)
settings = {
    "strength": [0.0, 0.25, 0.5, 1.0],
    "clusterer__selection": ["levelwise", "leaves"],
}
search = GridSearchCV(
    distiller,
    settings,
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
).fit(X_train, y_train)

results = search.cv_results_
for params, mean, deviation in zip(
    results["params"], results["mean_test_score"], results["std_test_score"], strict=True
):
    print(
        f"strength {params['strength']:.2f}, {params['clusterer__selection']:<9}  "
        f"{mean:.1%} ± {deviation:.1%}"
    )

# %%
# The figures above are from folds of the training rows. The rows that were held out from the
# search judge what it chose, once.

everything = linear_student().fit(X_train, y_train)
print(
    f"The search chose strength {search.best_params_['strength']:g}, "
    f"{search.best_params_['clusterer__selection']}.\nA student of the ten rows that it gives "
    f"labels {search.score(X_test, y_test):.1%} of the held-out rows rightly,\na student of all "
    f"{len(X_train)} training rows {everything.score(X_test, y_test):.1%}."
)

# %%
# Bars are standard deviations over the folds. Where they overlap by as much as this, the choice is
# hardly more than a draw, and a default does as well.

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for selection, shift in zip(settings["clusterer__selection"], (-0.01, 0.01), strict=True):
    of_kind = results["param_clusterer__selection"] == selection
    ax.errorbar(
        results["param_strength"][of_kind].astype(float) + shift,
        results["mean_test_score"][of_kind],
        yerr=results["std_test_score"][of_kind],
        marker="o",
        capsize=3,
        label=f'selection="{selection}"',
    )
ax.set(xlabel="strength", ylabel="accuracy", title="Student accuracy in cross-validation")
ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
plt.show()
