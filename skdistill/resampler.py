"""The distiller in imbalanced-learn's convention."""

import numpy as np
from sklearn.base import BaseEstimator, clone

from skdistill.distiller import ManifoldGDDistiller

__all__ = ["ManifoldGDResampler"]


class ManifoldGDResampler(BaseEstimator):
    """Replace a data set by its distilled set, as a step of imbalanced-learn's pipelines.

    Those refuse a step that has both ``transform`` and ``fit_resample``, so this one has no
    ``transform``: the distilled set is what later steps are fitted on, and rows to be predicted
    pass unchanged.

    Parameters
    ----------
    distiller : ManifoldGDDistiller, default=None
        What distils. None is ``ManifoldGDDistiller()``.

    Attributes
    ----------
    distiller_ : ManifoldGDDistiller
        The fitted distiller.

    n_features_in_ : int
        Number of features seen in :meth:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in :meth:`fit`. Only there when `X` names them all by strings.

    See Also
    --------
    ManifoldGDDistiller : Does the work.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skdistill import ManifoldGDDistiller, ManifoldGDResampler
    >>> X, y = load_iris(return_X_y=True)
    >>> resampler = ManifoldGDResampler(ManifoldGDDistiller(ipc=3, random_state=0))
    >>> X_syn, y_syn = resampler.fit_resample(X, y)
    >>> X_syn.shape
    (9, 4)
    """

    _parameter_constraints = {"distiller": [ManifoldGDDistiller, None]}

    def __init__(self, distiller=None):
        self.distiller = distiller

    # Properties that raise AttributeError as long as the distiller does are to scikit-learn the
    # same as attributes that fit has not set.
    @property
    def n_features_in_(self):
        """Number of features seen in :meth:`fit`."""
        return self.distiller_.n_features_in_

    @property
    def feature_names_in_(self):
        """Names of the features seen in :meth:`fit`."""
        return self.distiller_.feature_names_in_

    def fit(self, X, y):
        """Fit the distiller.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; what the distiller takes.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : ManifoldGDResampler
            The fitted resampler.
        """
        self._validate_params()
        distiller = ManifoldGDDistiller() if self.distiller is None else clone(self.distiller)
        self.distiller_ = distiller.fit(X, y)
        return self

    def fit_resample(self, X, y):
        """Return the distilled set of (X, y).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; what the distiller takes.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        X_syn : ndarray or DataFrame of shape (n_synthetic, n_features)
            A data frame where `X` is one, with its columns and, of numbers, their dtypes; values
            are rounded where those are integers. Categories of numbers come back as floats between
            them.

        y_syn : ndarray or Series of shape (n_synthetic,)
            A series where `y` is one, with its name and dtype.
        """
        X_syn, y_syn = self.fit(X, y).distiller_.sample()
        if hasattr(X, "columns"):
            X_syn = _frame_like(X, X_syn)
        if hasattr(y, "name") and not isinstance(y, np.ndarray):
            y_syn = type(y)(y_syn, name=y.name, dtype=y.dtype)
        return X_syn, y_syn


def _frame_like(X, rows):
    """Return rows as a data frame with the columns of another and, of numbers, their dtypes."""
    frame = type(X)(np.asarray(rows), columns=X.columns)
    # By place: names may repeat.
    for place, dtype in enumerate(X.dtypes):
        column = frame.iloc[:, place]
        if dtype.kind in "iub":
            frame.isetitem(place, column.round().astype(dtype))
        elif dtype.kind == "f":
            frame.isetitem(place, column.astype(dtype))
    return frame
