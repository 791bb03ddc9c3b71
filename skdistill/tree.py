"""A divisive tree of clusters, grown by repeated 2-means.

The 2-means is written in array-API operations on inner products, so that it runs on NumPy arrays
and torch tensors, and on points as well as on their Gram matrix.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.externals.array_api_compat import array_namespace, device

__all__ = ["DivisiveTree", "first_equal_row", "grow_tree", "single_leaf"]

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
        """Return where the rows of a node are.

        Parameters
        ----------
        node : int
            A node.

        Returns
        -------
        span : slice
            Such that ``order[span]`` are its rows.
        """
        return slice(self.start[node], self.start[node] + self.size[node])

    def members(self, node):
        """Return the rows of a node.

        Parameters
        ----------
        node : int
            A node.

        Returns
        -------
        rows : ndarray of shape (size[node],)
            Indices in the training data, ascending.
        """
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
        """Return the tree as it was when it had fewer leaves.

        Parameters
        ----------
        n_leaves : int
            From 1 to the number of leaves.

        Returns
        -------
        tree : DivisiveTree
            The first ``2 * n_leaves - 1`` nodes, in arrays of its own where they differ.
        """
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


def first_equal_row(X):
    """Find equal rows.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        The rows. Zeros of either sign are equal.

    Returns
    -------
    first : ndarray of shape (n_rows,)
        Index of the first row that equals each row.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tree import first_equal_row
    >>> first_equal_row(np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0]]))
    array([0, 1, 0])
    """
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


def _centred(X, weights):
    """Return points about their weighted mean, in their own precision."""
    return X - (weights @ X / weights.sum()).astype(X.dtype)


def _centre_gram(gram, weights):
    """Turn inner products of points, in place, into those about their weighted mean."""
    to_mean = gram @ weights / weights.sum()
    gram -= to_mean
    gram -= (to_mean - weights @ to_mean / weights.sum())[:, None]


def single_leaf(X, rows):
    """Return the tree that has not been split.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        The rows that the tree is about.

    rows : ndarray of shape (n_rows,)
        Their indices in the training data, ascending.

    Returns
    -------
    tree : DivisiveTree
        Of one node, the root.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tree import single_leaf
    >>> tree = single_leaf(np.array([[1.0], [3.0]]), np.array([4, 7]))
    >>> tree.centers, tree.sse, tree.members(0)
    (array([[2.]]), array([2.]), array([4, 7]))
    """
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


def grow_tree(tree, X, first, n_leaves, *, criterion, n_init, max_iter, tol, seed):
    """Split leaves of a tree until it has `n_leaves` of them.

    Parameters
    ----------
    tree : DivisiveTree
        The tree to start from; it is left as it is.

    X : ndarray of shape (n_rows, n_features)
        The rows that the tree is about, in the order of ``tree.members(0)``.

    first : ndarray of shape (n_rows,)
        What :func:`first_equal_row` finds in `X`. Equal rows are one point with a weight, so that
        they stay together.

    n_leaves : int
        Number of leaves to reach, at most that of the distinct rows.

    criterion : {"sse", "variance"}
        Which leaf is split next: the one with the largest sum of squared distances to its centre,
        or with the largest such sum divided by the number of its rows.

    n_init : int
        Number of restarts of each 2-means.

    max_iter : int
        Largest number of iterations of a 2-means.

    tol : float
        A restart has converged when the squared distances by which its centres move sum to no
        more than `tol` times the mean variance of the features.

    seed : tuple of int
        The random numbers of a split depend on this and on the node that is split, so that a tree
        does not depend on how far it grows.

    Returns
    -------
    tree : DivisiveTree
        With `n_leaves` leaves, and the nodes of the old tree as its first ones.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tree import first_equal_row, grow_tree, single_leaf
    >>> X = np.array([[0.0], [9.0], [1.0], [8.0], [0.0]])
    >>> settings = {"criterion": "sse", "n_init": 2, "max_iter": 10, "tol": 0.0, "seed": (0,)}
    >>> tree = grow_tree(single_leaf(X, np.arange(5)), X, first_equal_row(X), 2, **settings)
    >>> sorted(tree.members(leaf).tolist() for leaf in tree.leaves)
    [[0, 2, 4], [1, 3]]
    """
    rows = tree.members(0)
    n_old, n_nodes = len(tree.size), 2 * n_leaves - 1
    room = ((0, n_nodes - n_old), (0, 0))
    node_arrays = {}
    for name in _NODE_ARRAYS:
        old = getattr(tree, name)
        node_arrays[name] = np.pad(old, room[: old.ndim], constant_values=-1)
    grown = DivisiveTree(**node_arrays, order=np.searchsorted(rows, tree.order))
    grown.n_iter[n_old:] = 0

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

    def score(leaf):
        if len(distinct_members(leaf)) == 1:
            return -np.inf
        return grown.sse[leaf] / (1 if criterion == "sse" else grown.size[leaf])

    scores = np.full(n_nodes, -np.inf)
    scores[tree.leaves] = [score(leaf) for leaf in tree.leaves]
    is_right = np.empty(len(X), dtype=bool)
    for left in range(n_old, n_nodes, 2):
        node = np.argmax(scores)
        distinct = distinct_members(node)
        mass = weights[distinct]
        if gram is None:
            points = _Points(_centred(X[distinct] - grown.centers[node], mass))
        else:
            node_gram = gram[np.ix_(distinct, distinct)]
            _centre_gram(node_gram, mass)
            points = _GramMatrix(node_gram)
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
        scores[node] = -np.inf
        for child, part in zip((left, left + 1), parts, strict=True):
            grown.size[child] = len(part)
            distinct = distinct_members(child)
            grown.centers[child], grown.sse[child] = _mean_and_sse(X[distinct], weights[distinct])
            scores[child] = score(child)
    grown.order[:] = rows[grown.order]
    return grown
