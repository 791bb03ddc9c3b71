"""All figures of a labelled synthetic set, overall and class by class."""

import math

import numpy as np
from sklearn.utils import check_array, check_consistent_length, gen_batches
from sklearn.utils._param_validation import validate_params
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skdistill.metrics.angles import diversity, representativeness
from skdistill.metrics.balls import coverage_and_density
from skdistill.metrics.copies import copying
from skdistill.metrics.frechet import frechet_distance
from skdistill.metrics.means import mean_cosine, mean_distance, mmd
from skdistill.metrics.sets import SAMPLING_CONSTRAINTS

__all__ = ["compare_sets"]

EMBEDDING_BATCH = 256


@validate_params(
    {"embed": [callable, None], **SAMPLING_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def compare_sets(X_real, y_real, X_syn, y_syn, *, embed=None, max_samples=1000, random_state=0):
    """Compare a labelled synthetic set with the real one, overall and class by class.

    Parameters
    ----------
    X_real : array-like of shape (n_real, ...)
        Real rows or images.

    y_real : array-like of shape (n_real,)
        Their labels.

    X_syn : array-like of shape (n_synthetic, ...)
        Synthetic rows or images.

    y_syn : array-like of shape (n_synthetic,)
        Their labels.

    embed : callable, default=None
        Turns rows of `X_real` or `X_syn` as they are, at most 256 at a time, into rows of features
        of shape (n, ...). None compares the values themselves.

    max_samples : int, default=1000
        As in :func:`mmd`, :func:`coverage` and :func:`copying`.

    random_state : int, RandomState instance or None, default=0
        Seeds what is drawn.

    Returns
    -------
    comparison : dict
        ``{"overall": figures, "by_class": {label: figures}}`` with the labels of `y_syn` as Python
        objects, ready for :mod:`json`. The figures of a class compare it with the same real class.
        They are floats, or None where the numbers of rows leave them undefined:

        - "fid": :func:`frechet_distance`, lower is better;
        - "mean_distance": :func:`mean_distance`, lower is better;
        - "mean_cosine": :func:`mean_cosine`, higher is better;
        - "mmd": :func:`mmd`, lower is better;
        - "representativeness": :func:`representativeness`, higher is better;
        - "diversity": :func:`diversity`, higher is better;
        - "coverage": :func:`coverage`, higher is better;
        - "density": :func:`density`, 1 for draws of the real distribution;
        - "nearest_real_ratio": the ratio of :class:`CopyingCheck`, near 0 for copies;
        - "copied_share": the share of :class:`CopyingCheck`, near 1 for copies.

        With `embed` all but the last two are taken among the features. The last two are of the
        values as given, and "embedded_nearest_real_ratio" and "embedded_copied_share" are added.

    Raises
    ------
    ImportError
        If torchmetrics is missing.

    ValueError
        If the sets or labels do not fit one another, hold what is not finite, or if `embed` does
        not give a row of features for each row.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.metrics import compare_sets
    >>> from skdistill.subsets import RandomSubset
    >>> X_train, _, y_train, _ = load_digits_split()
    >>> X_syn, y_syn = RandomSubset(ipc=10, random_state=0).fit(X_train, y_train).sample()
    >>> comparison = compare_sets(X_train, y_train, X_syn, y_syn)  # doctest: +SKIP
    >>> comparison["overall"]["copied_share"]  # doctest: +SKIP
    1.0
    """
    X_real = check_array(X_real, allow_nd=True, input_name="X_real")
    X_syn = check_array(X_syn, allow_nd=True, input_name="X_syn")
    y_real, y_syn = (column_or_1d(y, warn=True) for y in (y_real, y_syn))
    check_consistent_length(X_real, y_real)
    check_consistent_length(X_syn, y_syn)
    check_classification_targets(y_real)
    labels = np.unique(y_syn).tolist()
    strangers = set(labels) - set(y_real.tolist())
    if strangers:
        raise ValueError(
            f"y_syn has the labels {sorted(strangers, key=str)}, which y_real lacks; it has "
            f"{np.unique(y_real).tolist()}."
        )
    values = X_real, X_syn
    features = None if embed is None else tuple(_embed(embed, X) for X in values)

    def compare(of_real, of_syn):
        own_values = X_real[of_real], X_syn[of_syn]
        own_features = None if embed is None else (features[0][of_real], features[1][of_syn])
        return _figures(own_values, own_features, max_samples, random_state)

    return {
        "overall": _figures(values, features, max_samples, random_state),
        "by_class": {label: compare(y_real == label, y_syn == label) for label in labels},
    }


def _embed(embed, X):
    """Return the features of rows as `embed` gives them for a batch at a time."""
    batches = []
    for batch in gen_batches(len(X), EMBEDDING_BATCH):
        features = np.asarray(embed(X[batch]))
        if features.ndim < 2 or len(features) != len(X[batch]):
            raise ValueError(
                "embed must turn n rows into features of shape (n, n_features), got shape "
                f"{features.shape} for {len(X[batch])} rows."
            )
        batches.append(features)
    return np.concatenate(batches)


def _figures(values, features, max_samples, random_state):
    """Return each figure of :func:`compare_sets` for one pair of sets and of their features."""
    sampling = {"max_samples": max_samples, "random_state": random_state}
    real, synthetic = values if features is None else features
    covered, dense = coverage_and_density(real, synthetic, 5, **sampling)
    figures = {
        "fid": frechet_distance(real, synthetic),
        "mean_distance": mean_distance(real, synthetic),
        "mean_cosine": mean_cosine(real, synthetic),
        "mmd": mmd(real, synthetic, **sampling),
        "representativeness": representativeness(real, synthetic),
        "diversity": diversity(synthetic),
        "coverage": covered,
        "density": dense,
    }
    for prefix, sets in (("", values), ("embedded_", features)):
        if sets is not None:
            check = copying(*sets, **sampling) if len(real) > 1 else None
            figures[f"{prefix}nearest_real_ratio"] = math.nan if check is None else check.ratio
            figures[f"{prefix}copied_share"] = math.nan if check is None else check.copied_share
    return {name: None if math.isnan(figure) else figure for name, figure in figures.items()}
