"""Whether synthetic rows are copies of real ones."""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.utils._param_validation import validate_params

from skdistill.metrics.neighbors import distances_to, nearest, nearest_others
from skdistill.metrics.sets import SAMPLING_CONSTRAINTS, check_sets, mean_of, pick

__all__ = ["CopyingCheck", "copying"]

# A synthetic row is near a real one where it is no farther than this share of real rows are.
NEAR_QUANTILE = 0.05


@dataclass(frozen=True, eq=False)
class CopyingCheck:
    """How near synthetic rows are to real ones, and real ones to one another.

    Attributes
    ----------
    distances : ndarray of shape (n_synthetic,)
        Euclidean distance of each synthetic row to its nearest real row.

    indices : ndarray of shape (n_synthetic,)
        Which real row that is.

    real_distances : ndarray of shape (min(n_real, max_samples),)
        Euclidean distance of real rows to their nearest other real row.
    """

    distances: np.ndarray
    indices: np.ndarray
    real_distances: np.ndarray

    @property
    def ratio(self):
        """Median of `distances` by that of `real_distances`.

        About 1 for independent draws, towards 0 for copies; nan where more than half of the real
        rows have duplicates.
        """
        usual = np.median(self.real_distances)
        return float(np.median(self.distances) / usual) if usual > 0.0 else math.nan

    @property
    def copied_share(self):
        """Share of the synthetic rows no farther from a real one than 5% of the real rows are.

        About 0.05 for independent draws of a set without duplicates, 1 for copies.
        """
        return float(np.mean(self.distances <= np.quantile(self.real_distances, NEAR_QUANTILE)))


@validate_params(SAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
def copying(real, synthetic, *, max_samples=1000, random_state=None):
    """Find the nearest real row of each synthetic row, and how near real rows are to one another.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set, at least two rows.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    max_samples : int, default=1000
        Where there are more real rows, this many of them, drawn at random, are compared with all
        others.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    check : CopyingCheck
        The distances, the nearest real rows, and what they come to.

    Raises
    ------
    ValueError
        If a set is too small, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    Notes
    -----
    Near copies in pixels are found in pixels; a shifted or mirrored copy is found, if at all, among
    the embeddings of a network.

    Examples
    --------
    >>> from skdistill.metrics import copying
    >>> check = copying([[0.0], [2.0], [4.0], [6.0]], [[4.0], [2.5]])
    >>> check.indices
    array([2, 1])
    >>> check.ratio, check.copied_share
    (0.125, 1.0)
    """
    real, synthetic = check_sets(real, synthetic, min_real=2)
    origin = mean_of(real)
    queries = synthetic - origin
    indices = nearest(queries, real, origin, 1)[:, 0]
    chosen = pick(len(real), max_samples, random_state)
    others = nearest_others(real, origin, chosen, 1)[:, 0]
    return CopyingCheck(
        distances=distances_to(queries, real, origin, indices),
        indices=indices,
        real_distances=distances_to(real[chosen] - origin, real, origin, others),
    )
