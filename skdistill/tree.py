"""A divisive tree of clusters, grown by repeated 2-means.

The 2-means is written in array-API operations on inner products, so that it runs on NumPy arrays
and torch tensors, and on points as well as on their Gram matrix. Everything that costs as much as
the rows have numbers is computed where the rows are; the tree itself is kept in NumPy.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.externals.array_api_compat import array_namespace, device

from skdistill.array_api import beside, on_host

__all__ = [
    "DivisiveTree",
    "first_equal_row",
    "grow_tree",
    "single_leaf",
    "squared_distances",
    "take_rows",
]

# Two megabytes, which stay in a cache.
NUMBERS_AT_ONCE = 2**18
# On CPUs, the Gram matrix of as many rows costs what it saves each restart of 2-means.
GRAM_ROWS_PER_RESTART = 700

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
        self.squared_norms = array_namespace(X).vecdot(X, X)

    def part(self, indices, weights):
        """Return some of the points, about their own weighted mean."""
        xp = array_namespace(self.X)
        X = xp.take(self.X, indices, axis=0)
        X -= weights @ X / xp.sum(weights)
        return _Points(X)

    def rows(self, indices):
        """Inner products of some points with all, of shape (n_indices, n_points)."""
        return array_namespace(self.X).take(self.X, indices, axis=0) @ self.X.T

    def times(self, mass, indices):
        """Inner products of sums of some points, weighted by the rows of `mass`, with all."""
        return (mass @ array_namespace(self.X).take(self.X, indices, axis=0)) @ self.X.T


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

    def part(self, indices, weights):
        """Return some of the points, about their own weighted mean."""
        xp = array_namespace(self.gram)
        gram = xp.take(xp.take(self.gram, indices, axis=0), indices, axis=1)
        shares = weights / xp.sum(weights)
        to_mean = gram @ shares
        gram -= to_mean
        gram -= (to_mean - shares @ to_mean)[:, None]
        return _GramMatrix(gram)

    def rows(self, indices):
        """Inner products of some points with all, of shape (n_indices, n_points)."""
        return array_namespace(self.gram).take(self.gram, indices, axis=0)

    def times(self, mass, indices):
        """Inner products of sums of some points, weighted by the rows of `mass`, with all."""
        return mass @ self.rows(indices)


def _draw(masses, uniforms):
    """Draw indices with probabilities proportional to the masses in a row.

    Parameters
    ----------
    masses : array of shape (n_init, n_points) or (1, n_points)
    uniforms : array of shape (n_draws, n_init), numbers in [0, 1)

    Returns
    -------
    indices : array of shape (n_draws, n_init)
    """
    xp = array_namespace(masses)
    cumulative = xp.cumulative_sum(masses, axis=1)
    # Without the last one: rounding can lift a threshold to the very end.
    below = cumulative[:, :-1] <= uniforms[:, :, None] * cumulative[:, -1:]
    return xp.count_nonzero(below, axis=2)


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
    norms = points.squared_norms
    index = xp.arange(weights.shape[0], device=device(weights))

    def norms_of(indices):
        return xp.take(norms, indices)[:, None]

    first = _draw(weights[None, :], uniforms[:1, :])[0, :]
    from_first = points.rows(first)
    # Rounding leaves some distances below zero, which a draw cannot have.
    distances = weights * xp.abs(norms + norms_of(first) - 2 * from_first)
    seconds = _draw(distances, uniforms[1:, :])

    def trial(second):
        from_second = points.rows(second)
        to_second = weights * (norms + norms_of(second) - 2 * from_second)
        potential = xp.sum(xp.minimum(distances, to_second), axis=1)
        side = from_second - from_first > (norms_of(second) - norms_of(first)) / 2
        # Also where rounding cannot tell the two seeds apart, each has its own side.
        return potential, (side & (index != first[:, None])) | (index == second[:, None])

    potential, side = trial(seconds[0, :])
    other_potential, other_side = trial(seconds[1, :])
    return xp.where((potential <= other_potential)[:, None], side, other_side)


def _two_means(points, weights, uniforms, max_iter, tol):
    """Split weighted points by 2-means, the best of several restarts.

    About the mean of all points, the centres of the two sides are ``s / n1`` and ``-s / n0``,
    with `s` the sum of side 1, and `n1` and `n0` the weights of the sides, `n` together. The split
    takes ``r = |s|^2 n / (n1 n0)`` off the sum of squared errors, and point `x` is nearer to
    side 1 if ``<x, s> > r (1 / 2 - n1 / n)``: inner products are all it needs.

    Lloyd's rule, to put each point on its nearer side, tends to leave points where they are,
    because they pull their own centre towards them. Hartigan's rule moves a point of weight `w` if
    that alone raises `r`, which adds ``w (|x|^2 + r / n) / 2`` to ``<x, s>`` for a point of side 0
    and subtracts it for one of side 1. It stops at fewer and better optima [1]_. All such moves at
    once may lower `r`, and are then taken back. Lloyd's rule, which never lowers it, has the last
    word.

    Parameters
    ----------
    points : _Points or _GramMatrix
        At least two points about their weighted mean.

    weights : array of shape (n_points,)
        How often each point occurs.

    uniforms : array of shape (3, n_init)
        Random numbers in [0, 1) that determine the seeds of each restart.

    max_iter : int
        Largest number of iterations.

    tol : float
        A restart has converged when an iteration takes no more than this share of the sum of
        squared errors before the split off it.

    Returns
    -------
    side : bool array of shape (n_points,)
        Side of each point. Both sides hold a point.

    n_iter : int
        Number of iterations until every restart had converged.

    References
    ----------
    .. [1] Telgarsky, Vattani, "Hartigan's Method: k-means Clustering without Voronoi",
       AISTATS 2010.
    """
    xp = array_namespace(weights)
    total = xp.sum(weights)
    norms = points.squared_norms
    enough = tol * xp.vecdot(weights, norms)

    wanted = _kmeans_plusplus(points, weights, uniforms)
    mass = sums = xp.zeros_like(wanted, dtype=weights.dtype)
    reduction = sums[:, 0] - xp.inf
    hartigan = xp.ones_like(reduction, dtype=xp.bool)
    n_iter = 0
    while n_iter < max_iter:
        n_iter += 1
        new_mass = weights * xp.astype(wanted, weights.dtype)
        moved = xp.nonzero(xp.any(new_mass != mass, axis=0))[0]
        if moved.shape[0] == 0:
            break
        new_sums = sums + points.times(xp.take(new_mass - mass, moved, axis=1), moved)
        n1 = xp.sum(new_mass, axis=1)
        product = n1 * (total - n1)
        emptied = product == 0
        new_reduction = xp.vecdot(new_mass, new_sums) * total / xp.where(emptied, total, product)

        worse = emptied | (new_reduction < reduction)
        if xp.any(worse):
            new_mass = xp.where(worse[:, None], mass, new_mass)
            new_sums = xp.where(worse[:, None], sums, new_sums)
            new_reduction = xp.where(worse, reduction, new_reduction)
            n1 = xp.sum(new_mass, axis=1)
        gains = new_reduction - reduction > enough
        mass, sums, reduction = new_mass, new_sums, new_reduction
        if not xp.any(gains | hartigan):
            break
        hartigan = hartigan & gains
        own_pull = (weights / 2 - mass) * (norms + (reduction / total)[:, None])
        own_pull = own_pull * xp.astype(hartigan, weights.dtype)[:, None]
        wanted = sums + own_pull > (reduction * (0.5 - n1 / total))[:, None]
    # Restarts that differ by rounding only are equally good: take the first.
    best = xp.argmax(xp.astype(reduction >= (1 - 1e-5) * xp.max(reduction), xp.int64))
    return mass[int(best), :] > 0, n_iter


def first_equal_row(X):
    """Find equal rows.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
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
    xp = array_namespace(X)
    first = np.arange(X.shape[0])
    # Only rows that a random projection cannot tell apart need to be compared in full.
    direction = beside(np.random.default_rng(0).normal(size=X.shape[1]), X)
    projected = on_host(X @ xp.astype(direction, X.dtype))
    order = np.argsort(projected)
    gaps = np.diff(projected[order])
    close = ~(gaps > np.sqrt(np.finfo(projected.dtype).eps) * np.abs(projected).max())
    suspects = np.union1d(order[:-1][close], order[1:][close])
    seen = {}
    for i, row in zip(suspects, on_host(take_rows(X, suspects)), strict=True):
        # Adding zero makes the two zeros of floating point one.
        first[i] = seen.setdefault((row + 0.0).tobytes(), i)
    return first


def take_rows(X, indices):
    """Return some rows.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
        Rows.

    indices : ndarray of shape (n_taken,)
        Which of them.

    Returns
    -------
    rows : array of shape (n_taken, n_features)
        Beside `X`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skdistill.tree import take_rows
    >>> take_rows(torch.tensor([[1.0], [2.0], [3.0]]), np.array([2, 0]))
    tensor([[3.],
            [1.]])
    """
    return array_namespace(X).take(X, beside(indices, X), axis=0)


def _batches(X):
    """Yield slices of as many rows as fit in a cache, one after the other."""
    n_rows = max(1, NUMBERS_AT_ONCE // X.shape[1])
    for start in range(0, X.shape[0], n_rows):
        yield slice(start, start + n_rows)


def squared_distances(X, center):
    """Compute the squared distances of rows to a point.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
        Rows.

    center : ndarray of shape (n_features,)
        The point.

    Returns
    -------
    distances : ndarray of shape (n_rows,), dtype float64
        Of each row.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tree import squared_distances
    >>> squared_distances(np.array([[2.0, 1.0], [5.0, 1.0]]), np.array([2.0, 0.0]))
    array([ 1., 10.])
    """
    xp, center = array_namespace(X), beside(center, X)
    distances = np.empty(X.shape[0])
    for batch in _batches(X):
        deviations = X[batch, :] - center
        distances[batch] = on_host(xp.vecdot(deviations, deviations))
    return distances


def _mean_and_sse(X, weights):
    """Return the weighted mean of rows, (n_features,), and the squared distances to it, summed."""
    xp, mass = array_namespace(X), beside(weights.astype(np.float64), X)
    # Whole, X would be copied to double precision.
    parts = (mass[b] @ xp.astype(X[b], mass.dtype, copy=False) for b in _batches(X))
    mean = on_host(sum(parts)) / weights.sum()
    return mean, weights @ squared_distances(X, mean)


class _DistinctRows:
    """Distinct rows that 2-means can split.

    Inner products are in single precision, which is enough for rows about their mean and in units
    of their spread. Those of all rows are made once. They serve every part but those of which the
    spread is small beside the distance from the centre of all, where rounding would show.

    Parameters
    ----------
    X : array of shape (n_points, n_features)
        The distinct rows.

    weights : ndarray of shape (n_points,)
        How often each row occurs.

    center : ndarray of shape (n_features,)
        Mean of all rows.

    variance : float
        Mean squared distance of all rows to it.

    n_init : int
        Number of restarts of each 2-means.
    """

    def __init__(self, X, weights, center, variance, n_init):
        self.X = X
        self.weights = weights
        self.variance = variance
        # A Gram matrix costs as much as many iterations on the rows, and makes them cheap.
        self.as_gram_matrix = X.shape[0] < min(X.shape[1], GRAM_ROWS_PER_RESTART * n_init)
        self.whole = self._standardised(X, center, variance)

    def _standardised(self, X, center, variance):
        """Return inner products of rows about their mean, divided by their variance."""
        xp, center = array_namespace(X), beside(center, X)
        factor = float(1 / np.sqrt(variance)) if variance > 0 else 1.0
        points = xp.empty(X.shape, dtype=xp.float32, device=device(X))
        for batch in _batches(X):
            points[batch, :] = (X[batch, :] - center) * factor
        return _GramMatrix(points @ points.T) if self.as_gram_matrix else _Points(points)

    def _points(self, part, mass, center, variance):
        """Return inner products of some rows about their mean, up to a factor."""
        xp = array_namespace(self.X)
        if part.shape[0] == self.X.shape[0]:
            return self.whole
        squared_norm = mass @ xp.take(self.whole.squared_norms, part) / xp.sum(mass)
        if variance < 0.03 * float(squared_norm) * self.variance:
            return self._standardised(xp.take(self.X, part, axis=0), center, variance)
        return self.whole.part(part, mass)

    def split(self, part, center, variance, uniforms, max_iter, tol):
        """Split some rows, of which mean and variance are given, by :func:`_two_means`."""
        mass = beside(self.weights[part].astype(np.float32), self.X)
        points = self._points(beside(part, self.X), mass, center, variance)
        side, n_iter = _two_means(points, mass, beside(uniforms, self.X), max_iter, tol)
        return on_host(side), n_iter

    def mean_and_sse(self, part):
        """Return the mean of some rows and the sum of their squared distances to it."""
        return _mean_and_sse(take_rows(self.X, part), self.weights[part])


def single_leaf(X, rows):
    """Return the tree that has not been split.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
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
    center, sse = _mean_and_sse(X, np.ones(X.shape[0]))
    return DivisiveTree(
        children=np.array([[-1, -1]]),
        parent=np.array([-1]),
        depth=np.array([0]),
        size=np.array([X.shape[0]]),
        sse=np.array([sse]),
        centers=center[None],
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

    X : array of shape (n_rows, n_features)
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
        A restart has converged when an iteration takes no more than this share of the sum of
        squared errors before the split off it.

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
    centers, sse, size = grown.centers, grown.sse, grown.size

    points, point_of_row, weights = np.unique(first, return_inverse=True, return_counts=True)
    distinct = _DistinctRows(
        X if len(points) == X.shape[0] else take_rows(X, points),
        weights,
        centers[0],
        sse[0] / size[0],
        n_init,
    )
    parts = {leaf: np.unique(point_of_row[grown.order[grown.span(leaf)]]) for leaf in tree.leaves}
    sum_of_squares = sse[0] + size[0] * (centers[0] @ centers[0])
    priority = np.full(n_nodes, -np.inf)

    def prioritise(leaf):
        if len(parts[leaf]) > 1:
            priority[leaf] = sse[leaf] / (1 if criterion == "sse" else size[leaf])

    for leaf in tree.leaves:
        prioritise(leaf)
    for left in range(n_old, n_nodes, 2):
        node, right = np.argmax(priority), left + 1
        part = parts.pop(node)
        uniforms = np.random.default_rng((*seed, node)).random((3, n_init), dtype=np.float32)
        is_right, grown.n_iter[node] = distinct.split(
            part, centers[node], sse[node] / size[node], uniforms, max_iter, tol
        )
        parts[left], parts[right] = part[~is_right], part[is_right]
        size[left] = weights[parts[left]].sum()
        size[right] = size[node] - size[left]
        grown.start[left] = grown.start[node]
        grown.start[right] = grown.start[node] + size[left]
        grown.children[node] = left, right
        grown.parent[[left, right]] = node
        grown.depth[[left, right]] = grown.depth[node] + 1

        small, large = sorted((left, right), key=size.__getitem__)
        centers[small], sse[small] = distinct.mean_and_sse(parts[small])
        # The larger child is what is left of the node, unless that is about as small as rounding.
        shift = centers[node] - centers[small]
        ratio = size[small] / size[large]
        centers[large] = centers[node] + ratio * shift
        sse[large] = sse[node] - sse[small] - size[node] * ratio * (shift @ shift)
        if sse[large] < 1e-5 * sum_of_squares:
            centers[large], sse[large] = distinct.mean_and_sse(parts[large])
        priority[node] = -np.inf
        prioritise(left)
        prioritise(right)

    leaf_start = np.empty(len(points), dtype=int)
    for leaf, part in parts.items():
        leaf_start[part] = grown.start[leaf]
    grown.order[:] = rows[np.argsort(leaf_start[point_of_row], kind="stable")]
    return grown
