"""
Distilling a table, from data frame to data frame
=================================================

For users of pandas. A table needs no weights: the default backbone, ``"closed-form"``, fits a
Gaussian mixture to each class and computes what a diffusion model would have learnt of it exactly;
the rows of a class are then moved together until they are spread as the class is.
With scikit-learn's ``set_output``, samples are a data frame with the columns of the one they were
made from.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from skdistill import HierarchicalIPC, ManifoldGDDistiller, ManifoldGDResampler, TangentProjector
from skdistill.plotting import DistilledGrid
from skdistill.protocols import linear_student

# %%
# A frame in, a frame out
# -----------------------
# Chemical analyses of 178 wines of three growers, half of them held out.

X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
distiller = ManifoldGDDistiller(ipc=5, random_state=0).set_output(transform="pandas")
X_syn, y_syn = distiller.fit(X_train, y_train).sample()
print(X_syn.iloc[::5, :4].assign(grower=y_syn[::5]).round(2).to_string())
print(
    f"{len(X_train)} rows became {len(X_syn)}, in a {type(X_syn).__name__} with "
    f"{'the same' if list(X_syn.columns) == list(X.columns) else 'other'} {X_syn.shape[1]} columns."
)

# %%
# What was kept
# -------------
# Means of the columns within each class, of the synthetic rows and of the real ones, in standard
# deviations of the column; and a classifier trained on either.

gaps = (X_syn.groupby(y_syn).mean() - X_train.groupby(y_train).mean()) / X_train.std()
small, large = linear_student().fit(X_syn, y_syn), linear_student().fit(X_train, y_train)
print(
    f"Class means of the {len(X_syn)} rows are {gaps.abs().mean(axis=None):.2f} standard "
    f"deviations from those of the real ones, {gaps.abs().max(axis=None):.2f} at most.\n"
    f"A logistic regression trained on them labels {small.score(X_test, y_test):.1%} of the "
    f"held-out wines rightly,\none trained on all {len(X_train)} rows "
    f"{large.score(X_test, y_test):.1%}."
)

# %%
# Each synthetic row beside the real one that it is nearest to: alike, but no copy.

DistilledGrid.from_estimator(distiller, X_train, y_train)
plt.show()

# %%
# The parts follow the same convention
# ------------------------------------
# :class:`~skdistill.HierarchicalIPC` names a column for each prototype,
# :class:`~skdistill.TangentProjector` keeps the names, and both keep the index. Projecting onto
# tangent planes takes from each wine what is normal to the wines around it.

scaled = (X_train - X_train.mean()) / X_train.std()
hierarchy = HierarchicalIPC(ipc=2, random_state=0).set_output(transform="pandas")
distances = hierarchy.fit_transform(scaled, y_train)
print(distances.head(3).round(2).to_string())
smoothed = TangentProjector(n_components=2).set_output(transform="pandas").fit_transform(scaled)
kept = smoothed.to_numpy().var(axis=0).sum() / scaled.to_numpy().var(axis=0).sum()
print(
    f"{distances.shape[1]} columns of distances and {smoothed.shape[1]} smoothed ones, with the "
    f"index of the training rows: {distances.index.equals(smoothed.index)}.\nThe smoothed wines "
    f"keep {kept:.0%} of the variance."
)

# %%
# Columns of several dtypes
# -------------------------
# ``fit`` computes in one dtype, so that ``sample`` returns floats where a frame has both floats and
# integers. :class:`~skdistill.ManifoldGDResampler` follows imbalanced-learn: it gives each column
# its own dtype back, and the labels theirs.

mixed = X_train.assign(proline=X_train["proline"].astype("int64"))
growers = y_train.map({0: "first", 1: "second", 2: "third"}).astype("category").rename("grower")
rows, labels = ManifoldGDResampler(ManifoldGDDistiller(ipc=5, random_state=0)).fit_resample(
    mixed, growers
)
print(pd.concat([rows[["alcohol", "proline"]], labels], axis=1).iloc[::5].to_string())
same = rows.dtypes.equals(mixed.dtypes) and labels.dtype == growers.dtype
print(f"The dtypes of all columns and of the labels are {'kept' if same else 'not kept'}.")
