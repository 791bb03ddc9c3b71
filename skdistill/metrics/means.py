"""How far the means of two sets are apart: as they are, and among the features of a kernel."""

import math
from numbers import Real

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics.sets import SAMPLING_CONSTRAINTS, batches, check_sets, mean_of

__all__ = ["mean_cosine", "mean_distance", "mmd"]

# Where the square of a bandwidth, and its inverse, are floats with room for squared distances.
BANDWIDTHS = (1e-150, 1e150)


def mean_distance(real, synthetic):
    r"""Euclidean distance between the means of two sets, :math:`|\mu_r - \mu_s|`.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    distance : float
        At least 0, and 0 for identical sets.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.

    Examples
    --------
    >>> from skdistill.metrics import mean_distance
    >>> mean_distance([[0, 0], [0, 2]], [[3, 5]])
    5.0
    """
    real, synthetic = check_sets(real, synthetic)
    return float(np.linalg.norm(mean_of(real) - mean_of(synthetic)))


def mean_cosine(real, synthetic):
    r"""Cosine similarity of the means of two sets.

    :math:`\langle \mu_r, \mu_s \rangle / (|\mu_r| |\mu_s|)`, of the values as they are: unlike
    distances, it depends on where zero is.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    similarity : float
        From -1 to 1, which it is for identical sets; nan where a mean is zero.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.

    Examples
    --------
    >>> from skdistill.metrics import mean_cosine
    >>> mean_cosine([[1, 0], [3, 0]], [[4, 3]])
    0.8
    """
    real, synthetic = check_sets(real, synthetic)
    means = np.stack([mean_of(real), mean_of(synthetic)])
    if not means.any(axis=1).all():
        return math.nan
    return float(np.clip(cosine_similarity(means)[0, 1], -1.0, 1.0))


@validate_params(
    {"bandwidth": [Interval(Real, *BANDWIDTHS, closed="both"), None], **SAMPLING_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def mmd(real, synthetic, *, bandwidth=None, max_samples=1000, random_state=None):
    r"""Estimate the squared maximum mean discrepancy between two sets without bias.

    .. math::
        \frac{\sum_{i \ne j} k(x_i, x_j)}{n_r (n_r - 1)}
        + \frac{\sum_{i \ne j} k(y_i, y_j)}{n_s (n_s - 1)}
        - \frac{2 \sum_{i, j} k(x_i, y_j)}{n_r n_s}

    with the real rows :math:`x`, the synthetic rows :math:`y` and
    :math:`k(x, y) = \exp(-|x - y|^2 / (2 h^2))`.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    bandwidth : float, default=None
        The h of the kernel, from 1e-150 to 1e150. None takes the median distance between two of
        `max_samples` real rows.

    max_samples : int, default=1000
        Where there are more real rows, they are cut at random into blocks of this size, and the
        first term is the mean over the pairs that share a block.

    random_state : int, RandomState instance or None, default=None
        Seeds the blocks.

    Returns
    -------
    discrepancy : float
        Zero on average where both sets come from one distribution, so often a little below. At most
        2. nan where a set has fewer than two rows, or where the median distance is zero, or too
        small for a bandwidth.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    Notes
    -----
    Blocks, rather than one subsample, let every real row count alike in the first and the last
    term, so that what is common to both cancels. Takes :math:`O(n_r (b + n_s) D + n_s^2 D)` time
    for blocks of b rows of D values.

    Copies of real rows are no independent draws: their pairs with their originals are in the last
    term, so that a random subset of the real rows is at :math:`-2 (1 - \bar k) / n_r` on average,
    with the mean :math:`\bar k` of the kernel over pairs of real rows.

    References
    ----------
    A. Gretton et al., "A Kernel Two-Sample Test", JMLR 2012.

    W. Zaremba et al., "B-test: A Non-parametric, Low Variance Kernel Two-sample Test", NeurIPS
    2013.

    Examples
    --------
    >>> from skdistill.metrics import mmd
    >>> round(mmd([[0.0], [1.0]], [[9.0], [10.0]], bandwidth=1.0), 4)
    1.2131
    """
    real, synthetic = check_sets(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        return math.nan
    origin = mean_of(real)
    order = np.arange(len(real))
    if len(real) > max_samples:
        order = check_random_state(random_state).permutation(len(real))
    if bandwidth is None:
        bandwidth = np.median(pdist(real[order[:max_samples]] - origin))
        if bandwidth < BANDWIDTHS[0]:
            return math.nan
    gamma = 0.5 / bandwidth**2

    n_pairs, within_real = 0, 0.0
    for block in gen_batches(len(real), max_samples):
        rows = real[order[block]] - origin
        n_pairs += len(rows) * (len(rows) - 1)
        within_real += rbf_kernel(rows, gamma=gamma).sum() - len(rows)

    synthetic = synthetic - origin
    n_synthetic = len(synthetic)
    within_synthetic = _kernel_sum(synthetic, 0.0, synthetic, gamma) - n_synthetic
    between = _kernel_sum(real, origin, synthetic, gamma)
    return float(
        within_real / n_pairs
        + within_synthetic / (n_synthetic * (n_synthetic - 1))
        - 2.0 * between / (len(real) * n_synthetic)
    )


def _kernel_sum(rows, origin, others, gamma):
    """Sum the kernel over all pairs of `rows` less `origin` and `others`."""
    n_columns = rows.shape[1] + len(others)
    return sum(
        rbf_kernel(batch, others, gamma=gamma).sum()
        for _, batch in batches(rows, origin, n_columns)
    )
