"""Prototypes of each class, chosen at several levels of a divisive tree of clusters."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.externals.array_api_compat import array_namespace
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._array_api import get_namespace
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.array_api import beside, check_same_namespace, on_host
from skdistill.tree import (
    first_equal_row,
    grow_tree,
    single_leaf,
    squared_distances,
    take_rows,
)
from skdistill.validation import IPC_CONSTRAINT, check_ipc

__all__ = ["HierarchicalIPC"]

DISTANCES_AT_ONCE = 2**20


def _select_levelwise(tree, n_selected, start_level):
    """Take the node of largest SSE at each level, then leaves, deepest and of largest SSE first."""
    selected = []
    for level in range(start_level, tree.depth.max() + 1):
        at_level = np.flatnonzero(tree.depth == level)
        selected.append(at_level[np.argmax(tree.sse[at_level])])
    leaves = tree.leaves[np.lexsort((-tree.sse[tree.leaves], -tree.depth[tree.leaves]))]
    selected.extend(leaves[~np.isin(leaves, selected)])
    return np.array(selected[:n_selected])


def _nearest_members(tree, X, nodes, distinct):
    """Find the row of each node that is nearest to its centre.

    Parameters
    ----------
    tree : DivisiveTree
    X : array of shape (n_samples, n_features)
        The training data.

    nodes : ndarray of shape (n_selected,)
    distinct : bool
        Whether equal rows may stand for one node only, as long as a node has others left.

    Returns
    -------
    indices : ndarray of shape (n_selected,)
        Rows of the training data.
    """
    members = take_rows(X, tree.order)
    taken = np.zeros(len(tree.order), dtype=bool)
    nearest = np.empty(len(nodes), dtype=int)
    # From the bottom up: a node has more rows to choose from than its descendants.
    for i in np.argsort(tree.size[nodes], kind="stable"):
        span = tree.span(nodes[i])
        distances = squared_distances(members[span, :], tree.centers[nodes[i]])
        if not taken[span].all():
            distances[taken[span]] = np.inf
        position = span.start + np.argmin(distances)
        nearest[i] = tree.order[position]
        if distinct:
            differs = members[span, :] != members[int(position), :]
            taken[span] |= ~on_host(array_namespace(X).any(differs, axis=1))
    return nearest


def _are_leaves_of(tree, X):
    """Return whether the leaves of a tree have, up to rounding, the mean and the SSE of rows of X.

    Of the root alone, the same rows in another order would have them as well.
    """
    variance = tree.sse[0] / tree.size[0]
    # Rows that differ by rounding alone have neither twice.
    rounding = 8 * np.finfo(tree.centers.dtype).eps * np.abs(tree.centers).max()
    for leaf in tree.leaves:
        rows = tree.members(leaf)
        other = single_leaf(take_rows(X, rows), rows)
        tolerance = {"rtol": 1e-6, "atol": 1e-6 * variance + rounding**2}
        if not np.isclose(tree.sse[leaf] / len(rows), other.sse[0] / len(rows), **tolerance):
            return False
        tolerance["atol"] = 1e-6 * np.sqrt(variance) + rounding
        if not np.allclose(tree.centers[leaf], other.centers[0], **tolerance):
            return False
    return True


class HierarchicalIPC(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Prototypes of each class at several levels of a tree of clusters.

    The rows of each class are clustered top-down: the leaf with the largest error is split by
    2-means until there are `ipc` leaves. Inner nodes of the tree are coarse modes of the class,
    leaves are fine variations, and `ipc` nodes (for "instances per class") are chosen to
    represent it.

    Parameters
    ----------
    ipc : int or mapping from class to int, default=10
        Number of prototypes per class, which is also the number of leaves that the tree of the
        class is grown to. A mapping must give a number for every class in `y`. A class with fewer
        distinct rows gets as many prototypes as it has distinct rows, and a warning is given.

    start_level : int, default=0
        Coarsest level of the tree, 0 being the root, from which ``selection="levelwise"`` takes
        a node. A small one prefers the general modes of a class, a large one the specific ones;
        beyond the depth of the tree only leaves are taken.

    selection : {"levelwise", "leaves"}, default="levelwise"
        Which nodes become prototypes, and in which order.

        - "levelwise": from `start_level` on, coarse to fine, the node with the largest SSE at
          each level; then leaves that were not taken, deepest first, then largest SSE.
        - "leaves": the leaves of the tree, those with most rows first.

        Ties go to the node that was made first.

    criterion : {"sse", "variance"}, default="sse"
        Which leaf is split next: the one with the largest sum of squared distances to its centre,
        or with the largest such sum divided by the number of its rows.

    prototype : {"centroid", "medoid"}, default="centroid"
        What stands for a node: the mean of its rows, or the row nearest to that mean. Medoids are
        distinct as far as possible: where two nodes would have the same one, the larger node
        takes its nearest row that no other node has taken, and shares one only if none is left.

    n_init : int, default=10
        Number of times that 2-means is run for each split, with different seeds. The best run
        counts.

    max_iter : int, default=300
        Largest number of iterations of a run of 2-means.

    tol : float, default=1e-4
        A run of 2-means has converged when an iteration lowers its SSE by no more than `tol`
        times the SSE of the rows that are split.

    warm_start : bool, default=False
        If True, `fit` starts from the trees of the previous fit, which must have been made with
        the same `X`, `y`, `criterion`, `n_init`, `max_iter` and `tol`: it grows them or takes
        splits back until they have `ipc` leaves, and uses the seed of that fit. The outcome is
        what a fit from scratch gives with the same integer `random_state`. See
        :term:`the Glossary <warm_start>`.

    random_state : int, RandomState instance or None, default=None
        Determines the random seeds of 2-means. Pass an int for reproducible output across
        multiple function calls. See :term:`Glossary <random_state>`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in `y`, sorted. Without `y` all rows are of one class, 0.

    trees_ : list of n_classes :class:`~skdistill.tree.DivisiveTree`
        The tree of each class, in the order of `classes_`.

    linkage_ : list of n_classes ndarray of shape (n_leaves - 1, 4)
        The same trees as linkage matrices for :func:`scipy.cluster.hierarchy.dendrogram`, also
        where there is only one. See :meth:`DivisiveTree.linkage
        <skdistill.tree.DivisiveTree.linkage>`.

    cluster_centers_ : ndarray of shape (n_prototypes, n_features)
        The prototypes, class after class in the order of `classes_`, and in the order of the
        selection within a class.

    prototype_classes_ : ndarray of shape (n_prototypes,)
        Class of each prototype.

    prototype_nodes_ : ndarray of shape (n_prototypes,)
        Node of each prototype in the tree of its class.

    prototype_levels_ : ndarray of shape (n_prototypes,)
        Depth of that node.

    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row of `X` that is nearest to the prototype among those of its node; with medoids, the
        prototype itself.

    labels_ : ndarray of shape (n_samples,)
        Index of the nearest prototype, of any class, to each row of `X`.

    n_iter_ : int
        Largest number of iterations that 2-means took for a split.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X` has feature names that
        are all strings.

    See Also
    --------
    sklearn.cluster.BisectingKMeans : The leaves of such a tree as a flat clustering.
    sklearn.cluster.AgglomerativeClustering : Trees of clusters, built from the bottom up.

    Notes
    -----
    There are always at least `ipc` nodes to choose from, because a node that is taken at its
    level and is not a leaf adds to the leaves. No node is taken twice, but different nodes may
    have the same mean. Equal rows are never separated.

    2-means moves rows by Hartigan's rule [2]_, and in the end by Lloyd's, which by itself stops at
    more and worse optima. It compares distances in single precision, about the mean of the rows
    and in units of their spread; means and SSE are computed in double precision.

    Each split costs :math:`O(n d)` per iteration for :math:`n` rows in :math:`d` dimensions, and a
    tree :math:`O(n d l)` per iteration, where its depth :math:`l` is close to the logarithm of
    `ipc` unless the data has outliers. Where a class has fewer distinct rows than features, and
    fewer than 700 for each of `n_init`, 2-means works on their Gram matrix, which takes
    :math:`O(n^2 d)` once and :math:`O(n^2)` per iteration, and holds :math:`n^2` numbers.

    Within ``sklearn.config_context(array_api_dispatch=True)``, `X` may be of another library that
    follows the array API, such as a torch tensor on a GPU. The rows stay where they are, and so
    does all work on them: inner products, means and distances. Which rows belong to which node is
    kept in NumPy, as are `trees_` and, where classes are texts, `classes_` and
    `prototype_classes_`; the other attributes and all results are beside `X`. Rounding differs
    between libraries and devices, so that splits that are nearly as good as each other may come
    out otherwise.

    References
    ----------
    .. [1] Roy, Lee, Chakraborty, Lokhande, "ManifoldGD: Training-Free Hierarchical Manifold
       Guidance for Diffusion-Based Dataset Distillation", CVPR 2026.
       https://arxiv.org/abs/2602.23295

    .. [2] Telgarsky, Vattani, "Hartigan's Method: k-means Clustering without Voronoi",
       AISTATS 2010. https://proceedings.mlr.press/v9/telgarsky10a.html

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.hierarchy import HierarchicalIPC
    >>> X = np.array([[0.0], [1.0], [8.0], [9.0], [20.0], [30.0]])
    >>> y = np.array(["a", "a", "a", "a", "b", "b"])
    >>> hierarchy = HierarchicalIPC(ipc={"a": 2, "b": 1}, random_state=0).fit(X, y)
    >>> hierarchy.prototype_classes_
    array(['a', 'a', 'b'], dtype='<U1')
    >>> hierarchy.prototype_levels_
    array([0, 1, 0])
    >>> hierarchy.cluster_centers_[[0, 2]]
    array([[ 4.5],
           [25. ]])
    >>> hierarchy.predict([[5.0], [27.0]])
    array([0, 2])
    """

    _parameter_constraints: dict = {
        "ipc": IPC_CONSTRAINT,
        "start_level": [Interval(Integral, 0, None, closed="left")],
        "selection": [StrOptions({"levelwise", "leaves"})],
        "criterion": [StrOptions({"sse", "variance"})],
        "prototype": [StrOptions({"centroid", "medoid"})],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        ipc=10,
        *,
        start_level=0,
        selection="levelwise",
        criterion="sse",
        prototype="centroid",
        n_init=10,
        max_iter=300,
        tol=1e-4,
        warm_start=False,
        random_state=None,
    ):
        self.ipc = ipc
        self.start_level = start_level
        self.selection = selection
        self.criterion = criterion
        self.prototype = prototype
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Grow a tree for each class and choose its prototypes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,), default=None
            Class of each row. Without it, all rows are of one class.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `X`, `y` or a parameter cannot be used, `ipc` is no budget for the classes, or
            `warm_start` meets other data or settings than in the fit before.
        """
        xp, _ = get_namespace(X)
        warm = self.warm_start and hasattr(self, "trees_")
        checks = {"dtype": [xp.float64, xp.float32], "order": "C", "reset": not warm}
        if y is None:
            if isinstance(self.ipc, Mapping):
                raise ValueError(
                    "ipc is a mapping from class to int, which needs y, but y is None."
                )
            X = validate_data(self, X, **checks)
            classes, codes = np.array([0]), np.zeros(X.shape[0], dtype=int)
        else:
            X, y = validate_data(self, X, y, **checks)
            check_classification_targets(y)
            classes, codes = np.unique(on_host(y), return_inverse=True)
        ipc = check_ipc(self.ipc, classes)
        rows_of_class = [np.flatnonzero(codes == code) for code in range(len(classes))]

        settings = {
            name: getattr(self, name) for name in ("criterion", "n_init", "max_iter", "tol")
        }
        if warm:
            self._check_same_problem(X, classes, rows_of_class, settings)
            root_seed, trees = self._root_seed, self.trees_
        else:
            random_state = check_random_state(self.random_state)
            root_seed = int(random_state.randint(np.iinfo(np.int32).max))
            trees = [None] * len(classes)

        grown, nodes, levels, centers, nearest = [], [], [], [], []
        for code, (tree, rows) in enumerate(zip(trees, rows_of_class, strict=True)):
            X_class = X if len(rows) == X.shape[0] else take_rows(X, rows)
            first = first_equal_row(X_class)
            n_leaves = min(ipc[code], len(np.unique(first)))
            if n_leaves < ipc[code]:
                warnings.warn(
                    f"Class {classes.tolist()[code]!r} has {n_leaves} distinct rows, fewer than "
                    f"ipc={ipc[code]}: it gets {n_leaves} prototypes.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
            if tree is None:
                tree = single_leaf(X_class, rows)
            if len(tree.leaves) > n_leaves:
                tree = tree.truncated(n_leaves)
            elif len(tree.leaves) < n_leaves:
                seed = (root_seed, code)
                tree = grow_tree(tree, X_class, first, n_leaves, seed=seed, **settings)
            if self.selection == "levelwise":
                selected = _select_levelwise(tree, n_leaves, self.start_level)
            else:
                selected = tree.leaves[np.argsort(-tree.size[tree.leaves], kind="stable")]
            grown.append(tree)
            nodes.append(selected)
            levels.append(tree.depth[selected])
            centers.append(tree.centers[selected])
            nearest.append(_nearest_members(tree, X, selected, self.prototype == "medoid"))

        # Other libraries have no arrays of texts.
        like = X if classes.dtype.kind in "biuf" else classes
        self.classes_, self.trees_ = beside(classes, like), grown
        self._root_seed, self._tree_settings = root_seed, settings
        self.linkage_ = [tree.linkage() for tree in grown]
        self.n_iter_ = max(int(tree.n_iter.max()) for tree in grown)
        n_nodes = [len(selected) for selected in nodes]
        self.prototype_classes_ = beside(np.repeat(classes, n_nodes), like)
        self.prototype_nodes_ = beside(np.concatenate(nodes), X)
        self.prototype_levels_ = beside(np.concatenate(levels), X)
        nearest = np.concatenate(nearest)
        self.prototype_indices_ = beside(nearest, X)
        if self.prototype == "medoid":
            self.cluster_centers_ = take_rows(X, nearest)
        else:
            centers = beside(np.concatenate(centers), X)
            self.cluster_centers_ = xp.astype(centers, X.dtype, copy=False)
        self._n_features_out = self.cluster_centers_.shape[0]
        self.labels_ = self._nearest(X)
        return self

    def _check_same_problem(self, X, classes, rows_of_class, settings):
        """Raise ValueError if the stored trees cannot be those of the data and parameters."""
        if not np.array_equal(classes, on_host(self.classes_)) or not all(
            np.array_equal(tree.members(0), rows) and _are_leaves_of(tree, X)
            for tree, rows in zip(self.trees_, rows_of_class, strict=True)
        ):
            raise ValueError("warm_start=True needs the same X and y as in the previous fit.")
        for name, value in settings.items():
            if value != self._tree_settings[name]:
                raise ValueError(
                    f"warm_start=True needs {name}={self._tree_settings[name]!r} as in the "
                    f"previous fit, got {value!r}."
                )

    def _check_new_data(self, X, method):
        """Validate data seen after fit by a method."""
        check_is_fitted(self)
        check_same_namespace(X, self, "cluster_centers_", method)
        xp, _ = get_namespace(X)
        return validate_data(self, X, dtype=[xp.float64, xp.float32], reset=False)

    def _distances(self, X):
        """Yield the distances of some rows after the other, (n_batch, n_prototypes) each.

        How many rows are multiplied at once decides how distances are rounded. It is the same
        for all methods, so that equally near prototypes are the same to all of them.
        """
        n_rows = max(1, DISTANCES_AT_ONCE // self._n_features_out)
        # Far from zero, products of coordinates would leave no digits for distances.
        origin = array_namespace(X).mean(self.cluster_centers_, axis=0)
        for batch in gen_batches(X.shape[0], n_rows):
            yield euclidean_distances(X[batch, :] - origin, self.cluster_centers_ - origin)

    def _nearest(self, X):
        """Return the index of the nearest prototype, the first one of equally near ones."""
        xp, _ = get_namespace(X)
        return xp.concat([xp.argmin(distances, axis=1) for distances in self._distances(X)])

    def fit_predict(self, X, y=None):
        """Fit, and return the index of the prototype nearest to each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,), default=None
            Class of each row. Without it, all rows are of one class.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the nearest prototype, of any class.
        """
        return self.fit(X, y).labels_

    def predict(self, X):
        """Find the prototype nearest to each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the nearest prototype, of any class; its class is
            ``prototype_classes_[labels]``.
        """
        return self._nearest(self._check_new_data(X, "predict"))

    def transform(self, X):
        """Compute the Euclidean distance of each row to each prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_prototypes)
            Distances, in the order of `cluster_centers_`.
        """
        xp, _ = get_namespace(X)
        return xp.concat(list(self._distances(self._check_new_data(X, "transform"))))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
