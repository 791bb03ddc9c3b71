"""Rivals of the distiller that pick real rows: with its fit and sample, and the rows they take.

:func:`skdistill.baselines.rivals` makes them beside the others.
"""

from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.utils._param_validation import Interval

from skdistill.classwise import ClasswiseBaseline
from skdistill.hierarchy import HierarchicalIPC
from skdistill.tree import squared_distances
from skdistill.validation import IPC_CONSTRAINT

__all__ = [
    "HerdingSubset",
    "HierarchySubset",
    "KCenterSubset",
    "MedoidSubset",
    "RandomSubset",
]


class _RealSubset(ClasswiseBaseline):
    """Ask `_choose` for the places of some rows in a class."""

    def select(self, ipc=None):
        """Return which rows `sample` takes.

        Fitted to latents or features, this picks images by them:
        ``images[subset.fit(latents, y).select()]``.

        Parameters
        ----------
        ipc : int or mapping of class to int, default=None
            Rows a class. None takes the `ipc` of the constructor.

        Returns
        -------
        indices : ndarray of shape (n_samples,)
            Rows of the `X` of `fit`, each at most once, class by class in the order of `classes_`.
        """
        indices = []
        for places, rows, n, seed in self._by_class(ipc):
            chosen = self._choose(rows, n, seed)
            indices.append(places[chosen])
        return np.concatenate(indices)

    def _make(self, rows, n, seed):
        return rows[self._choose(rows, n, seed)]


def _farthest_first(rows, chosen, n):
    """Add to chosen rows, one by one, the row that is farthest from them.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    chosen : list of int
        Distinct rows to start with, at least one.

    n : int
        How many to choose in all, no more than there are distinct rows.

    Returns
    -------
    chosen : list of n int
        Distinct rows.
    """
    to_nearest = np.full(len(rows), np.inf)
    for t in range(n):
        if t == len(chosen):
            chosen = [*chosen, int(np.argmax(to_nearest))]
        to_nearest = np.minimum(to_nearest, squared_distances(rows, rows[chosen[t]].astype(float)))
    return chosen


def kmeans_centers(rows, n, n_init, seed):
    """Return n centres of k-means, shape (n, n_features)."""
    seed = np.random.RandomState(seed)
    return KMeans(n, n_init=n_init, random_state=seed).fit(rows).cluster_centers_


class RandomSubset(_RealSubset):
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

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    HerdingSubset : Real rows whose mean is that of the class.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.subsets import RandomSubset
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

    def _n_available(self, rows):
        return len(rows)

    def _choose(self, rows, n, seed):
        return np.random.default_rng(seed).permutation(len(rows))[:n]


class HerdingSubset(_RealSubset):
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

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    RandomSubset : Real rows drawn at random.
    KCenterSubset : Real rows that leave no row of the class far from them.

    Notes
    -----
    Picks of t rows from n of D values take :math:`O(t n D)` time.

    References
    ----------
    M. Welling, "Herding Dynamical Weights to Learn", ICML 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.subsets import HerdingSubset
    >>> X, y = np.array([[0], [1], [4], [7], [3]]), np.zeros(5)
    >>> HerdingSubset(ipc=2).fit(X, y).sample()[0]
    array([[3],
           [4]])
    """

    _parameter_constraints: ClassVar[dict] = {"ipc": IPC_CONSTRAINT}

    def __init__(self, ipc=10):
        self.ipc = ipc

    def _n_available(self, rows):
        return len(rows)

    def _choose(self, rows, n, seed):
        mean = rows.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(mean)
        picked = []
        for _ in range(n):
            # The mean of t rows is the class's if the t-th undoes the deviation of those before.
            distances = squared_distances(rows, mean - total)
            distances[picked] = np.inf
            picked.append(int(np.argmin(distances)))
            total += rows[picked[-1]] - mean
        return picked


class KCenterSubset(_RealSubset):
    r"""Real rows that leave no row of the class far from the nearest of them.

    Greedy farthest-first traversal: the first pick is the row nearest to the mean of the class, and
    each further one the row that is farthest from those picked.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class. A larger number adds to the rows that a smaller one picks.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    MedoidSubset : Real rows in the middle of clusters, which outliers attract less.

    Notes
    -----
    The covering radius, :math:`\max_{x} \min_{s \in S} |x - s|` over the rows x of the class and
    the picks S, is at most twice the smallest that as many rows can have, wherever the traversal
    starts [1]_. Distances are Euclidean, of the values as they are; [2]_ takes those of features,
    which :meth:`select` makes possible. Picks of t rows from n of D values take :math:`O(t n D)`
    time.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical
       Computer Science 38, 1985.
    .. [2] O. Sener and S. Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
       Approach", ICLR 2018, arXiv:1708.00489.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.subsets import KCenterSubset
    >>> X, y = np.array([[0], [1], [4], [7], [3]]), np.zeros(5)
    >>> KCenterSubset(ipc=2).fit(X, y).sample()[0]
    array([[3],
           [7]])
    """

    _parameter_constraints: ClassVar[dict] = {"ipc": IPC_CONSTRAINT}

    def __init__(self, ipc=10):
        self.ipc = ipc

    def _choose(self, rows, n, seed):
        from_mean = squared_distances(rows, rows.mean(axis=0, dtype=np.float64))
        return _farthest_first(rows, [int(np.argmin(from_mean))], n)


class MedoidSubset(_RealSubset):
    """The real row nearest to each k-means centre of each class.

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

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    skdistill.baselines.ClusterMeans : The centres themselves.
    HierarchySubset : The same for the nodes of a hierarchy.

    Notes
    -----
    Rows are distinct: where a row is nearest to two centres, the second one takes the nearest row
    that is left. Distances are Euclidean, of the values as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.subsets import MedoidSubset
    >>> X, y = np.array([[0], [2], [3], [17], [18], [20]]), np.zeros(6)
    >>> np.sort(MedoidSubset(ipc=2, random_state=0).fit(X, y).select())
    array([1, 4])
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

    def _choose(self, rows, n, seed):
        taken = np.zeros(len(rows), dtype=bool)
        picked = []
        for center in kmeans_centers(rows, n, self.n_init, seed):
            distances = squared_distances(rows, center.astype(float))
            distances[taken] = np.inf
            picked.append(int(np.argmin(distances)))
            taken |= (rows == rows[picked[-1]]).all(axis=1)
        return picked


class HierarchySubset(_RealSubset):
    """The medoids of the hierarchical coreset of each class, coarse to fine.

    The nodes are those of the paper, whose centroids the distiller guides to with
    ``clusterer=HierarchicalIPC()``: fitted to its latents, with its seed, this picks a real row for
    each of them.

    Parameters
    ----------
    ipc : int or mapping of class to int, default=10
        Samples a class: the number of leaves of its tree, and of the nodes chosen from it.

    random_state : int, RandomState instance or None, default=None
        Seeds the trees.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels.

    n_features_in_ : int
        Number of values a row.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where `X` has them all as strings.

    See Also
    --------
    skdistill.HierarchicalIPC : The hierarchy, and how nodes are chosen.
    MedoidSubset : The same for a flat clustering.

    Notes
    -----
    Rows are distinct. In a class so small that nodes would have to share theirs, the rows farthest
    from those that are taken complete it.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.subsets import HierarchySubset
    >>> X, y = np.array([[0], [2], [9], [17], [18], [20]]), np.zeros(6)
    >>> HierarchySubset(ipc=2, random_state=0).fit(X, y).sample()[0]
    array([[9],
           [2]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "ipc": IPC_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(self, ipc=10, *, random_state=None):
        self.ipc = ipc
        self.random_state = random_state

    def _choose(self, rows, n, seed):
        # The same seed for each class, and not that of the class, is what the distiller has.
        root_seed, _ = seed
        hierarchy = HierarchicalIPC(n, prototype="medoid", random_state=root_seed).fit(rows)
        return _farthest_first(rows, list(dict.fromkeys(hierarchy.prototype_indices_.tolist())), n)
