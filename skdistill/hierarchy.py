"""Divisive clustering trees and the choice of prototypes at several of their levels."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
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
from sklearn.externals.array_api_compat import array_namespace, device
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skdistill.validation import IPC_CONSTRAINT, check_ipc

__all__ = ["DivisiveTree", "HierarchicalIPC"]


_NODE_ARRAYS = ("children", "parent", "depth", "size", "sse", "centers", "start", "n_iter")


@dataclass(frozen=True, eq=False)
class DivisiveTree:
    """A binary tree of nested clusters, its nodes in the order in which they were made.

    The first ``2 * k - 1`` nodes are the tree with `k` leaves, for every `k` up to the number of
    leaves. Node 0 is the root, and a node has a smaller number than its descendants.

    Attributes
    ----------
    children : ndarray of shape (n_nodes, 2)
        The two nodes that each node was split into, -1 for a leaf.

    parent : ndarray of shape (n_nodes,)
        The node that each node was split from, -1 for the root.

    depth : ndarray of shape (n_nodes,)
        Number of splits between the root and each node.

    size : ndarray of shape (n_nodes,)
        Number of rows in each node.

    sse : ndarray of shape (n_nodes,)
        Sum of the squared distances of the rows of each node to its centre.

    centers : ndarray of shape (n_nodes, n_features)
        Mean of the rows of each node.

    start : ndarray of shape (n_nodes,)
        Where the rows of each node begin in `order`.

    n_iter : ndarray of shape (n_nodes,)
        Number of iterations that the 2-means which split each node took, 0 for a leaf.

    order : ndarray of shape (n_rows,)
        Rows of the training data such that ``order[start[i] : start[i] + size[i]]`` are those of
        node `i`.
    """

    children: np.ndarray
    parent: np.ndarray
    depth: np.ndarray
    size: np.ndarray
    sse: np.ndarray
    centers: np.ndarray
    start: np.ndarray
    n_iter: np.ndarray
    order: np.ndarray

    @property
    def leaves(self):
        """Nodes that were not split, ascending; ndarray of shape (n_leaves,)."""
        return np.flatnonzero(self.children[:, 0] == -1)

    def span(self, node):
        """Return the slice of `order` that holds the rows of `node`."""
        return slice(self.start[node], self.start[node] + self.size[node])

    def members(self, node):
        """Return the rows of the training data that are in `node`, ascending."""
        return np.sort(self.order[self.span(node)])

    def linkage(self):
        """Return the tree as SciPy draws it.

        Returns
        -------
        linkage : ndarray of shape (n_leaves - 1, 4)
            Linkage matrix over the leaves: observation `i` is the node ``leaves[i]``, two nodes
            merge at the height of the SSE of their parent, and counts are numbers of leaves.
            Empty for a tree of one leaf, which SciPy refuses to draw.
        """
        height = self.sse.copy()
        n_leaves = np.ones(len(height))
        inner = np.flatnonzero(self.children[:, 0] != -1)
        for node in inner[::-1]:
            # Rounding may put a node below a descendant of almost the same SSE.
            height[node] = height[[node, *self.children[node]]].max()
            n_leaves[node] = n_leaves[self.children[node]].sum()
        merged = inner[np.lexsort((-inner, height[inner]))]
        label = np.empty(len(height))
        label[self.leaves] = np.arange(len(self.leaves))
        label[merged] = len(self.leaves) + np.arange(len(merged))
        pairs = np.sort(label[self.children[merged]], axis=1)
        return np.column_stack([pairs, height[merged], n_leaves[merged]])

    def truncated(self, n_leaves):
        """Return the tree as it was when it had `n_leaves` leaves."""
        n_nodes = 2 * n_leaves - 1
        kept = {name: getattr(self, name)[:n_nodes] for name in _NODE_ARRAYS}
        kept["children"] = np.where(kept["children"] < n_nodes, kept["children"], -1)
        kept["n_iter"] = np.where(kept["children"][:, 0] == -1, 0, kept["n_iter"])
        tree = DivisiveTree(**kept, order=self.order.copy())
        for leaf in tree.leaves:
            tree.order[tree.span(leaf)].sort()
        return tree


class _Points:
    """Inner products of points about their mean, computed when they are asked for.

    Parameters
    ----------
    X : array of shape (n_points, n_features)
        The points; their weighted mean is zero.
    """

    def __init__(self, X):
        self.X = X
        self.squared_norms = array_namespace(X).sum(X * X, axis=1)

    def rows(self, indices):
        """Inner products of some points with all, of shape (n_indices, n_points)."""
        return array_namespace(self.X).take(self.X, indices, axis=0) @ self.X.T

    def times(self, mass):
        """Inner products of sums of points, weighted by the rows of `mass`, with all points."""
        return (mass @ self.X) @ self.X.T


class _GramMatrix:
    """Inner products of points about their mean, from the matrix that holds them all.

    Parameters
    ----------
    gram : array of shape (n_points, n_points)
        Inner products of the points; their weighted mean is zero.
    """

    def __init__(self, gram):
        self.gram = gram
        self.squared_norms = array_namespace(gram).linalg.diagonal(gram)

    def rows(self, indices):
        """Inner products of some points with all, of shape (n_indices, n_points)."""
        return array_namespace(self.gram).take(self.gram, indices, axis=0)

    def times(self, mass):
        """Inner products of sums of points, weighted by the rows of `mass`, with all points."""
        return mass @ self.gram


def _draw(masses, uniforms):
    """Draw one index a row, with probability proportional to `masses`.

    Parameters
    ----------
    masses : array of shape (n_draws, n_points) or (1, n_points)
    uniforms : array of shape (n_draws,), numbers in [0, 1)

    Returns
    -------
    indices : array of shape (n_draws,)
    """
    xp = array_namespace(masses)
    cumulative = xp.cumulative_sum(masses, axis=1)
    below = cumulative <= uniforms[:, None] * cumulative[:, -1:]
    # Rounding can lift a threshold to the very end.
    return xp.clip(xp.sum(below, axis=1, dtype=xp.int64), 0, masses.shape[1] - 1)


def _kmeans_plusplus(points, weights, uniforms):
    """Seed 2-means by greedy k-means++, with two trials for the second seed.

    Parameters
    ----------
    points : _Points or _GramMatrix
    weights : array of shape (n_points,)
    uniforms : array of shape (3, n_init), numbers in [0, 1)

    Returns
    -------
    side : bool array of shape (n_init, n_points)
        True where a point is nearer to the second seed. Both sides hold a point.
    """
    xp = array_namespace(weights)
    norms, n_init = points.squared_norms, uniforms.shape[1]

    def norms_of(indices):
        return xp.take(norms, indices)[:, None]

    first = xp.tile(_draw(weights[None, :], uniforms[0, :]), (2,))
    from_first = points.rows(first)
    distances = weights * xp.clip(norms + norms_of(first) - 2 * from_first, 0, None)

    second = _draw(distances, xp.reshape(uniforms[1:, :], (-1,)))
    from_second = points.rows(second)
    to_second = weights * (norms + norms_of(second) - 2 * from_second)
    potential = xp.sum(xp.minimum(distances, to_second), axis=1)

    side = from_second - from_first > (norms_of(second) - norms_of(first)) / 2
    index = xp.arange(weights.shape[0], device=device(weights))
    # Also where rounding cannot tell the two seeds apart, each has its own side.
    side = (side & (index != first[:, None])) | (index == second[:, None])
    keep = (potential[:n_init] <= potential[n_init:])[:, None]
    return xp.where(keep, side[:n_init, :], side[n_init:, :])


def _two_means(points, weights, uniforms, max_iter, tol):
    """Split weighted points by 2-means, the best of several restarts.

    About the mean of all points, the centres of the two sides are ``s / n1`` and ``-s / n0``,
    with `s` the sum of side 1, and `n1` and `n0` the weights of the sides. Point `x` is therefore
    nearer to side 1 if ``<x, s> > |s|^2 (1 / n1 - 1 / n0) / 2``, and the split takes
    ``|s|^2 (1 / n1 + 1 / n0)`` off the sum of squared errors: inner products are all it needs.

    Parameters
    ----------
    points : _Points or _GramMatrix
        At least two points about their weighted mean.

    weights : array of shape (n_points,)
        How often each point occurs.

    uniforms : array of shape (3, n_init)
        Random numbers in [0, 1) that determine the seeds of each restart.

    max_iter : int
        Largest number of Lloyd iterations.

    tol : float
        A restart has converged when its two centres move by no more than this, in total squared
        distance.

    Returns
    -------
    side : bool array of shape (n_points,)
        Side of each point. Both sides hold a point.

    n_iter : int
        Number of Lloyd iterations until every restart had converged.
    """
    xp = array_namespace(weights)
    total = xp.sum(weights)
    side = _kmeans_plusplus(points, weights, uniforms)
    mass = weights * xp.astype(side, weights.dtype)
    n1 = xp.sum(mass, axis=1)
    previous = None
    n_iter = 0
    while n_iter < max_iter:
        n_iter += 1
        inverse = 1 / xp.stack([n1, total - n1])
        sums = points.times(mass)
        squared = xp.vecdot(mass, sums)
        reduction = squared * (inverse[0, :] + inverse[1, :])

        nearer = sums > (squared * (inverse[0, :] - inverse[1, :]) / 2)[:, None]
        moving = xp.any(nearer != side, axis=1)
        if previous is not None:
            old_sums, old_squared, old_inverse = previous
            shift = squared * inverse**2 + old_squared * old_inverse**2
            shift = shift - 2 * xp.vecdot(mass, old_sums) * inverse * old_inverse
            moving = moving & (xp.sum(shift, axis=0) > tol)
        previous = sums, squared, inverse

        nearer_mass = weights * xp.astype(nearer, weights.dtype)
        n1 = xp.sum(nearer_mass, axis=1)
        emptied = (n1 == 0) | (n1 == total)
        if xp.any(emptied):
            # Only rounding can do that; the side before is then final.
            nearer = xp.where(emptied[:, None], side, nearer)
            nearer_mass = xp.where(emptied[:, None], mass, nearer_mass)
            n1 = xp.sum(nearer_mass, axis=1)
        side, mass = nearer, nearer_mass
        if not xp.any(moving):
            break
    # Restarts that differ by rounding only are equally good: take the first.
    inertia = xp.vecdot(weights, points.squared_norms) - reduction
    excess = inertia - xp.min(inertia)
    best = xp.argmax(xp.astype(excess <= 1e-6 * xp.abs(xp.min(inertia)), xp.int64))
    return side[int(best), :], n_iter


def _first_equal_row(X):
    """Return for every row of `X` the index of the first row that equals it."""
    first = np.arange(len(X))
    # Only rows that a random projection cannot tell apart need to be compared in full.
    projected = X @ np.random.default_rng(0).normal(size=X.shape[1]).astype(X.dtype)
    order = np.argsort(projected)
    gaps = np.diff(projected[order])
    close = ~(gaps > np.sqrt(np.finfo(X.dtype).eps) * np.abs(projected).max())
    suspects = np.union1d(order[:-1][close], order[1:][close])
    seen = {}
    for i in suspects:
        # Adding zero makes the two zeros of floating point one.
        first[i] = seen.setdefault((X[i] + 0.0).tobytes(), i)
    return first


def _mean_and_sse(X, weights):
    """Return the weighted mean of rows, (n_features,), and the squared distances to it, summed."""
    mean = weights @ X / weights.sum()
    deviations = X - mean
    return mean, weights @ np.einsum("ij,ij->i", deviations, deviations)


def _root(X, rows):
    """Return the tree of one leaf; `X` are the rows `rows` of the training data."""
    center, sse = _mean_and_sse(X, np.ones(len(X)))
    return DivisiveTree(
        children=np.array([[-1, -1]]),
        parent=np.array([-1]),
        depth=np.array([0]),
        size=np.array([len(X)]),
        sse=np.array([sse]),
        centers=center[None].astype(X.dtype),
        start=np.array([0]),
        n_iter=np.array([0]),
        order=rows,
    )


def _grown(tree, X, rows, first, n_leaves, criterion, n_init, max_iter, tol, seed):
    """Split leaves of a tree until it has `n_leaves` of them.

    Parameters
    ----------
    tree : DivisiveTree
        The tree to start from; it is left as it is.

    X : ndarray of shape (n_rows, n_features)
        The rows that the tree is about.

    rows : ndarray of shape (n_rows,)
        Their indices in the training data, ascending.

    first : ndarray of shape (n_rows,)
        Index in `X` of the first row that equals each row. Equal rows are one point with a
        weight, so that they stay together.

    n_leaves : int
        Number of leaves to reach, at most that of the distinct rows.

    criterion, n_init, max_iter, tol
        See :class:`HierarchicalIPC`.

    seed : tuple of int
        The random numbers of a split depend on this and on the node that is split, so that a tree
        does not depend on how far it grows.

    Returns
    -------
    tree : DivisiveTree
    """
    n_old, n_nodes = len(tree.size), 2 * n_leaves - 1
    node_arrays = {}
    for name in _NODE_ARRAYS:
        old = getattr(tree, name)
        node_arrays[name] = np.full((n_nodes, *old.shape[1:]), -1, dtype=old.dtype)
        node_arrays[name][:n_old] = old
    grown = DivisiveTree(**node_arrays, order=np.searchsorted(rows, tree.order))

    weights = np.bincount(first, minlength=len(X)).astype(np.float64)
    gram = None
    if np.count_nonzero(weights) < X.shape[1]:
        # The points span fewer dimensions than they have features: their inner products hold all
        # distances, and are cheaper to work with.
        centred = X - grown.centers[0].astype(np.float64)
        gram = centred @ centred.T

    def distinct_members(node):
        members = grown.order[grown.span(node)]
        return members[first[members] == members]

    scores = np.full(n_nodes, -np.inf)

    def set_score(node, n_distinct):
        if n_distinct > 1:
            scores[node] = grown.sse[node] / (1 if criterion == "sse" else grown.size[node])

    for leaf in tree.leaves:
        set_score(leaf, len(distinct_members(leaf)))
    is_right = np.empty(len(X), dtype=bool)
    for left in range(n_old, n_nodes, 2):
        node = np.argmax(scores)
        distinct = distinct_members(node)
        mass = weights[distinct]
        if gram is None:
            points = _Points(_centred(X[distinct] - grown.centers[node], mass))
        else:
            points = _GramMatrix(_centred_gram(gram[np.ix_(distinct, distinct)], mass))
        dtype = points.squared_norms.dtype
        is_right[distinct], grown.n_iter[node] = _two_means(
            points,
            mass.astype(dtype),
            np.random.default_rng((*seed, node)).random((3, n_init), dtype=dtype),
            max_iter,
            tol * grown.sse[node] / (grown.size[node] * X.shape[1]),
        )
        members = grown.order[grown.span(node)]
        moved = is_right[first[members]]
        parts = members[~moved], members[moved]
        members[:] = np.concatenate(parts)
        grown.children[node] = left, left + 1
        grown.start[left : left + 2] = grown.start[node] + np.array([0, len(parts[0])])
        grown.parent[left : left + 2] = node
        grown.depth[left : left + 2] = grown.depth[node] + 1
        grown.n_iter[left : left + 2] = 0
        scores[node] = -np.inf
        for child, part in zip((left, left + 1), parts, strict=True):
            grown.size[child] = len(part)
            distinct = distinct_members(child)
            grown.centers[child], grown.sse[child] = _mean_and_sse(X[distinct], weights[distinct])
            set_score(child, len(distinct))
    grown.order[:] = rows[grown.order]
    return grown


def _centred(X, weights):
    """Return points about their weighted mean, in their own precision."""
    return X - (weights @ X / weights.sum()).astype(X.dtype)


def _centred_gram(gram, weights):
    """Return the inner products of points about their weighted mean, from any others of theirs."""
    to_mean = gram @ weights / weights.sum()
    gram -= to_mean
    gram -= (to_mean - weights @ to_mean / weights.sum())[:, None]
    return gram


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
    X : ndarray of shape (n_samples, n_features)
        The training data.

    nodes : ndarray of shape (n_selected,)
    distinct : bool
        Whether equal rows may stand for one node only, as long as a node has others left.

    Returns
    -------
    indices : ndarray of shape (n_selected,)
        Rows of the training data.
    """
    members = X[tree.order]
    taken = np.zeros(len(members), dtype=bool)
    nearest = np.empty(len(nodes), dtype=int)
    # From the bottom up: a node has more rows to choose from than its descendants.
    for i in np.argsort(tree.size[nodes], kind="stable"):
        span = tree.span(nodes[i])
        deviations = members[span] - tree.centers[nodes[i]]
        distances = np.einsum("ij,ij->i", deviations, deviations)
        if not taken[span].all():
            distances[taken[span]] = np.inf
        position = span.start + np.argmin(distances)
        nearest[i] = tree.order[position]
        if distinct:
            taken[span] |= (members[span] == members[position]).all(axis=1)
    return nearest


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
        A run of 2-means has converged when the squared distances by which its centres move sum to
        no more than `tol` times the mean variance of the features, both over the rows that are
        split.

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

    trees_ : list of n_classes :class:`~skdistill.hierarchy.DivisiveTree`
        The tree of each class, in the order of `classes_`.

    linkage_ : list of n_classes ndarray of shape (n_leaves - 1, 4)
        The same trees as linkage matrices for :func:`scipy.cluster.hierarchy.dendrogram`, also
        where there is only one. See :meth:`DivisiveTree.linkage
        <skdistill.hierarchy.DivisiveTree.linkage>`.

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

    Each split costs :math:`O(n d)` per iteration for :math:`n` rows in :math:`d` dimensions, and a
    tree :math:`O(n d l)` per iteration, where its depth :math:`l` is close to the logarithm of
    `ipc` unless the data has outliers. Where a class has fewer distinct rows than features,
    2-means works on their Gram matrix, which takes :math:`O(n^2 d)` once and :math:`O(n^2)` per
    iteration, and holds :math:`n^2` numbers.

    References
    ----------
    .. [1] Roy, Lee, Chakraborty, Lokhande, "ManifoldGD: Training-Free Hierarchical Manifold
       Guidance for Diffusion-Based Dataset Distillation", CVPR 2026.
       https://arxiv.org/abs/2602.23295

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
        """
        warm = self.warm_start and hasattr(self, "trees_")
        checks = {"dtype": [np.float64, np.float32], "order": "C", "reset": not warm}
        if y is None:
            X = validate_data(self, X, **checks)
            classes, codes = np.array([0]), np.zeros(len(X), dtype=int)
        else:
            X, y = validate_data(self, X, y, **checks)
            check_classification_targets(y)
            classes, codes = np.unique(y, return_inverse=True)
        if y is None and isinstance(self.ipc, Mapping):
            raise ValueError("ipc is a mapping from class to int, which needs y, but y is None.")
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

        grown, nodes, nearest = [], [], []
        for code, (tree, rows) in enumerate(zip(trees, rows_of_class, strict=True)):
            X_class = X if len(rows) == len(X) else X[rows]
            first = _first_equal_row(X_class)
            n_leaves = min(ipc[code], len(np.unique(first)))
            if n_leaves < ipc[code]:
                warnings.warn(
                    f"Class {classes.tolist()[code]!r} has {n_leaves} distinct rows, fewer than "
                    f"ipc={ipc[code]}: it gets {n_leaves} prototypes.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
            if tree is None:
                tree = _root(X_class, rows)
            if len(tree.leaves) > n_leaves:
                tree = tree.truncated(n_leaves)
            elif len(tree.leaves) < n_leaves:
                seed = (root_seed, code)
                tree = _grown(tree, X_class, rows, first, n_leaves, seed=seed, **settings)
            if self.selection == "levelwise":
                selected = _select_levelwise(tree, n_leaves, self.start_level)
            else:
                selected = tree.leaves[np.argsort(-tree.size[tree.leaves], kind="stable")]
            grown.append(tree)
            nodes.append(selected)
            nearest.append(_nearest_members(tree, X, selected, self.prototype == "medoid"))

        self.classes_, self.trees_ = classes, grown
        self._root_seed, self._tree_settings = root_seed, settings
        self.linkage_ = [tree.linkage() for tree in grown]
        self.n_iter_ = max(int(tree.n_iter.max()) for tree in grown)
        self.prototype_classes_ = np.repeat(classes, [len(selected) for selected in nodes])
        self.prototype_nodes_ = np.concatenate(nodes)
        self.prototype_levels_ = np.concatenate(
            [tree.depth[selected] for tree, selected in zip(grown, nodes, strict=True)]
        )
        self.prototype_indices_ = np.concatenate(nearest)
        if self.prototype == "medoid":
            self.cluster_centers_ = X[self.prototype_indices_]
        else:
            self.cluster_centers_ = np.concatenate(
                [tree.centers[selected] for tree, selected in zip(grown, nodes, strict=True)]
            )
        self._n_features_out = len(self.cluster_centers_)
        self.labels_ = pairwise_distances_argmin(X, self.cluster_centers_)
        return self

    def _check_same_problem(self, X, classes, rows_of_class, settings):
        """Raise ValueError if the stored trees cannot be those of the data and parameters."""
        if not np.array_equal(classes, self.classes_) or not all(
            np.array_equal(tree.members(0), rows)
            and np.isclose(tree.sse[0], _root(X[rows], rows).sse[0], rtol=1e-6, atol=0)
            for tree, rows in zip(self.trees_, rows_of_class, strict=True)
        ):
            raise ValueError("warm_start=True needs the same X and y as in the previous fit.")
        for name, value in settings.items():
            if value != self._tree_settings[name]:
                raise ValueError(
                    f"warm_start=True needs {name}={self._tree_settings[name]!r} as in the "
                    f"previous fit, got {value!r}."
                )

    def _check_new_data(self, X):
        """Validate data seen after fit."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)

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
        return pairwise_distances_argmin(self._check_new_data(X), self.cluster_centers_)

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
        return euclidean_distances(self._check_new_data(X), self.cluster_centers_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
