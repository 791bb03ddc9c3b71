"""Simple rivals of the distiller, with its fit and sample: what it has to beat."""

import warnings
from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.cluster import KMeans
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skdistill.validation import IPC_CONSTRAINT, check_ipc

__all__ = ["ClusterMeans", "HerdingSubset", "RandomSubset"]


class _ClasswiseBaseline(BaseEstimator):
    """Keep the data in `fit`; ask `_choose` for the samples of one class after the other."""

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
        """
        X = check_array(X, allow_nd=True, input_name="X", estimator=self)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self._X, self._y = X, y
        # Drawn once, so that all calls of sample give the same set.
        random_state = check_random_state(getattr(self, "random_state", 0))
        self._root_seed = random_state.randint(np.iinfo(np.int32).max)
        return self

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
        """
        check_is_fitted(self)
        samples, counts = [], []
        budgets = check_ipc(self.ipc if ipc is None else ipc, self.classes_)
        for code, (label, budget) in enumerate(zip(self.classes_.tolist(), budgets, strict=True)):
            X_class = self._X[self._y == label]
            rows = X_class.reshape(len(X_class), -1)
            n_available = self._n_available(rows)
            if n_available < budget:
                warnings.warn(
                    f"Class {label!r} has rows for {n_available} samples, fewer than "
                    f"ipc={budget}: it gets {n_available}.",
                    stacklevel=2,
                )
            chosen = self._choose(rows, min(budget, n_available), (self._root_seed, code))
            samples.append(chosen.reshape(-1, *self._X.shape[1:]))
            counts.append(len(chosen))
        return np.concatenate(samples), np.repeat(self.classes_, counts)

    def _n_available(self, rows):
        return len(rows)


class RandomSubset(_ClasswiseBaseline):
    """Real rows drawn at random without replacement, the same number from each class.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw. A larger `ipc` draws on: its subset holds the smaller one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    HerdingSubset : Real rows whose mean is that of the class.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import RandomSubset
    >>> X, y = np.arange(8).reshape(4, 2), ["a", "b", "b", "a"]
    >>> X_syn, y_syn = RandomSubset(ipc=1, random_state=0).fit(X, y).sample()
    >>> X_syn.shape
    (2, 2)
    >>> print(y_syn)
    ['a' 'b']
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, random_state=None):
        self.ipc = ipc
        self.random_state = random_state

    def _choose(self, rows, n, seed):
        return rows[np.random.default_rng(seed).permutation(len(rows))[:n]]


class HerdingSubset(_ClasswiseBaseline):
    r"""Real rows picked one by one so that their mean stays near the mean of the class.

    Pick number t is the row not yet taken that brings the mean of the t rows nearest to the mean of
    the class, by the Euclidean distance of the values as they are.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class. A larger number adds to the rows that a smaller one picks.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    RandomSubset : Real rows drawn at random.

    Notes
    -----
    Picks of t rows from n of D values take :math:`O(t n D)` time.

    References
    ----------
    M. Welling, "Herding Dynamical Weights to Learn", ICML 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import HerdingSubset
    >>> X, y = np.array([[0], [1], [4], [7], [3]]), np.zeros(5)
    >>> HerdingSubset(ipc=2).fit(X, y).sample()[0]
    array([[3],
           [4]])
    """

    _parameter_constraints: ClassVar[dict] = {"ipc": IPC_CONSTRAINT}

    def __init__(self, ipc=10):
        self.ipc = ipc

    def _choose(self, rows, n, seed):
        deviations = rows - rows.mean(axis=0, dtype=np.float64)
        squared_norms = np.sum(deviations**2, axis=1)
        total = np.zeros(deviations.shape[1])
        picked = []
        for _ in range(n):
            # |total + deviation|^2 less |total|^2, which all candidates share.
            costs = 2.0 * (deviations @ total) + squared_norms
            costs[picked] = np.inf
            picked.append(np.argmin(costs))
            total += deviations[picked[-1]]
        return rows[picked]


class ClusterMeans(_ClasswiseBaseline):
    """The k-means centres of each class, in the space of the rows themselves.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class: the number of clusters.

    n_init : int, default=10
        Number of k-means runs, of which the best is taken.

    random_state : int, RandomState instance or None, default=None
        Seeds k-means.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    See Also
    --------
    sklearn.cluster.KMeans : What finds the centres.

    Notes
    -----
    Centres are rounded where the rows are integers or booleans. They are no real rows: a centre of
    many images is a blurred one.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.baselines import ClusterMeans
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.zeros(4)
    >>> np.sort(ClusterMeans(ipc=2, random_state=0).fit(X, y).sample()[0], axis=0)
    array([[0.5],
           [8.5]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, n_init=10, random_state=None):
        self.ipc = ipc
        self.n_init = n_init
        self.random_state = random_state

    def _n_available(self, rows):
        return len(np.unique(rows, axis=0))

    def _choose(self, rows, n, seed):
        seed = np.random.RandomState(seed)
        centers = KMeans(n, n_init=self.n_init, random_state=seed).fit(rows).cluster_centers_
        # A mean is within the range of its rows but for rounding, and the range carries meaning.
        centers = np.clip(centers, rows.min(axis=0), rows.max(axis=0))
        # A cast would truncate integers, and make True of all that is not zero.
        if rows.dtype.kind in "iub":
            centers = np.rint(centers)
        return centers.astype(rows.dtype)
