"""Nearest rows of a set that need not be in memory in float64."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from skdistill.metrics.sets import batches

__all__ = ["distances_to", "nearest", "nearest_others"]

DISTANCES_AT_ONCE = 2**24
# Of a distance that is this share of the longest row, products of float64 leave five digits.
DIGITS_LEFT = 1e-5


def nearest(queries, rows, origin, n_neighbors):
    """Find the nearest rows of queries.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features)
        In float64, less `origin`.

    rows : ndarray of shape (n_rows, n_features)
        Where to search, in any dtype.

    origin : ndarray of shape (n_features,)
        What is subtracted from `rows`, so that rows far from zero keep their digits.

    n_neighbors : int
        How many of them.

    Returns
    -------
    indices : ndarray of shape (n_queries, min(n_rows, n_neighbors))
        Which rows they are, the nearest first.
    """
    distances = np.empty((len(queries), 0))
    indices = np.empty((len(queries), 0), dtype=np.intp)
    for start, batch in batches(rows, origin, rows.shape[1]):
        n_searched = min(n_neighbors + 1, len(batch))
        search = NearestNeighbors(n_neighbors=n_searched, algorithm="brute").fit(batch)
        batch_distances, batch_indices = search.kneighbors(queries)
        # Where more rows are that near than are asked for, products do not tell which are nearest.
        longest = np.sqrt(np.einsum("ij,ij->i", batch, batch).max(initial=0.0))
        unsure = np.flatnonzero(batch_distances[:, -1] < DIGITS_LEFT * longest)
        for some in gen_batches(len(unsure), max(1, DISTANCES_AT_ONCE // len(batch))):
            exact = cdist(queries[unsure[some]], batch)
            nearest_ones = np.argsort(exact, axis=1, kind="stable")[:, :n_searched]
            batch_indices[unsure[some]] = nearest_ones
            batch_distances[unsure[some]] = np.take_along_axis(exact, nearest_ones, axis=1)
        distances = np.hstack([distances, batch_distances])
        indices = np.hstack([indices, start + batch_indices])
        order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
        distances = np.take_along_axis(distances, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return indices


def nearest_others(rows, origin, chosen, n_neighbors):
    """Find the nearest rows of rows of the same set, themselves left out.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        The set, of more than `n_neighbors` rows.

    origin : ndarray of shape (n_features,)
        As in :func:`nearest`.

    chosen : ndarray of shape (n_chosen,)
        Which rows to find them of.

    n_neighbors : int
        How many of them.

    Returns
    -------
    indices : ndarray of shape (n_chosen, n_neighbors)
        Which rows they are, the nearest first.
    """
    indices = nearest(rows[chosen] - origin, rows, origin, n_neighbors + 1)
    drop = indices == chosen[:, None]
    # A row with many duplicates need not be among its own nearest.
    drop[~drop.any(axis=1), -1] = True
    return indices[~drop].reshape(len(chosen), n_neighbors)


def distances_to(queries, rows, origin, indices):
    """Measure how far each query is from a row of its own.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features)
        In float64, less `origin`.

    rows : ndarray of shape (n_rows, n_features)
        A set.

    origin : ndarray of shape (n_features,)
        As in :func:`nearest`.

    indices : ndarray of shape (n_queries,)
        The row of each query.

    Returns
    -------
    distances : ndarray of shape (n_queries,)
        Euclidean, by subtraction, so exactly 0 for copies.
    """
    return np.linalg.norm(queries - (rows[indices] - origin), axis=1)
