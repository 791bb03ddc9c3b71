"""What rivals of the distiller share that make their sets class by class."""

import math
import warnings

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names, check_is_fitted, column_or_1d

from skdistill.validation import check_ipc

__all__ = ["ClasswiseBaseline"]


class ClasswiseBaseline(BaseEstimator):
    """Keep the data in `fit`; ask `_make` for the samples of one class after the other."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Keep the data that samples are made from.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Real data of any boolean, integer or floating dtype.

        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : object
            The fitted baseline.

        Raises
        ------
        ValueError
            If `X` or `y` cannot be used.
        """
        given, X = X, check_array(X, allow_nd=True, input_name="X", estimator=self)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        _check_feature_names(self, given, reset=True)
        self.n_features_in_ = math.prod(X.shape[1:])
        self.classes_ = np.unique(y)
        self._X, self._y = X, y
        # Drawn once, so that all calls of sample give the same set.
        random_state = check_random_state(getattr(self, "random_state", 0))
        self._root_seed = random_state.randint(np.iinfo(np.int32).max)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags

    def sample(self, ipc=None):
        """Return a small labelled set.

        Parameters
        ----------
        ipc : int or mapping of class to int, default=None
            Samples a class. None takes the `ipc` of the constructor.

        Returns
        -------
        X_syn : ndarray of shape (n_samples, ...)
            In the shape and dtype of a row of `X`, class by class in the order of `classes_`. A
            class with too few rows for `ipc` gives what it has, with a warning.

        y_syn : ndarray of shape (n_samples,)
            Labels.

        Raises
        ------
        ValueError
            If `ipc` is no budget for the classes.
        """
        samples, counts = [], []
        for _, rows, n, seed in self._by_class(ipc):
            samples.append(self._make(rows, n, seed).reshape(-1, *self._X.shape[1:]))
            counts.append(n)
        return np.concatenate(samples), np.repeat(self.classes_, counts)

    def _by_class(self, ipc):
        """Yield the places of each class in the data, its rows, its budget and its seed."""
        check_is_fitted(self)
        budgets = check_ipc(self.ipc if ipc is None else ipc, self.classes_)
        for code, (label, budget) in enumerate(zip(self.classes_.tolist(), budgets, strict=True)):
            places = np.flatnonzero(self._y == label)
            rows = self._X[places].reshape(len(places), -1)
            n_available = self._n_available(rows)
            if n_available < budget:
                warnings.warn(
                    f"Class {label!r} has rows for {n_available} samples, fewer than "
                    f"ipc={budget}: it gets {n_available}.",
                    stacklevel=3,
                )
            yield places, rows, min(budget, n_available), (self._root_seed, code)

    def _n_available(self, rows):
        return len(np.unique(rows, axis=0))
