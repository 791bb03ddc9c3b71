"""How far a synthetic set is from the real one, and whether it merely copies it.

Every function takes rows of numbers, images or embeddings alike: an array whose further axes are
flattened, the real set first. All arithmetic is in float64, on as many rows at a time as
scikit-learn's ``working_memory`` allows, and on `max_samples` rows where that is a parameter. Time
grows linearly with the real set: what would take all pairs of real rows is estimated, without bias,
from `max_samples` of them at a time.
"""

import copy
import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, check_random_state, gen_batches
from sklearn.utils._chunking import get_chunk_n_rows
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.random import sample_without_replacement
from sklearn.utils.validation import column_or_1d

from skdistill.pixels import check_value_range, infer_value_range, to_networks
from skdistill.validation import pick_device

__all__ = [
    "CopyingCheck",
    "compare_sets",
    "copying",
    "coverage",
    "density",
    "diversity",
    "fid",
    "frechet_distance",
    "mean_cosine",
    "mean_distance",
    "mmd",
    "representativeness",
]

# A synthetic row is near a real one where it is no farther than this share of real rows are.
NEAR_QUANTILE = 0.05

# Rows on the surface of a ball are outside; rounding must not let them in.
SURFACE_SLACK = 1e-9

EMBEDDING_BATCH = 256

# Where the square of a bandwidth, and its inverse, are floats with room for squared distances.
BANDWIDTHS = (1e-150, 1e150)

SAMPLING_CONSTRAINTS = {
    "max_samples": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}
BALL_CONSTRAINTS = {
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    **SAMPLING_CONSTRAINTS,
}


def _check_rows(rows, name, min_rows=1):
    """Return finite numbers as an array of shape (n_rows, n_features), in their own dtype."""
    rows = check_array(rows, allow_nd=True, input_name=name, ensure_min_samples=min_rows)
    return rows.reshape(len(rows), -1)


def _check_sets(real, synthetic, min_real=1):
    """Return both sets as rows of the same number of features."""
    real = _check_rows(real, "real", min_real)
    synthetic = _check_rows(synthetic, "synthetic")
    if real.shape[1] != synthetic.shape[1]:
        raise ValueError(
            f"synthetic has {synthetic.shape[1]} features a row and real has {real.shape[1]}; they "
            "must have the same number."
        )
    return real, synthetic


def _mean(rows):
    return rows.mean(axis=0, dtype=np.float64)


def _batches(rows, origin, n_columns):
    """Yield where a batch starts and its rows less `origin`, in float64.

    A batch has as many rows as fit the working memory with `n_columns` numbers each.
    """
    n_rows = get_chunk_n_rows(8 * n_columns, max_n_rows=len(rows))
    for batch in gen_batches(len(rows), n_rows):
        yield batch.start, np.subtract(rows[batch], origin, dtype=np.float64)


def _pick(n_rows, max_samples, random_state):
    """Return the indices of `max_samples` rows at random, or of all where there are no more."""
    if n_rows <= max_samples:
        return np.arange(n_rows)
    return sample_without_replacement(n_rows, max_samples, random_state=random_state)


def frechet_distance(real, synthetic):
    r"""Fréchet distance between Gaussians fitted to two sets of feature rows.

    .. math::
        |\mu_r - \mu_s|^2 + \mathrm{tr}\left(\Sigma_r + \Sigma_s
        - 2 (\Sigma_r \Sigma_s)^{1/2}\right)

    with the means :math:`\mu` and unbiased covariances :math:`\Sigma`. It is the FID where the
    features are those of the Inception network.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        Features of the real set.

    synthetic : array-like of shape (n_synthetic, ...)
        Features of the synthetic set.

    Returns
    -------
    distance : float
        At least 0, and 0 for identical sets; nan where a set has fewer than two rows, which have no
        covariance.

    Raises
    ------
    ImportError
        If torchmetrics is missing.

    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.

    See Also
    --------
    fid : The same from images.

    Notes
    -----
    Computed by torchmetrics. A few rows do not span the feature space. Outside their span
    :math:`\Sigma_s` is zero, so what :math:`\Sigma_r` and the means have there is added as it is,
    and torchmetrics sees the coordinates within the span only. That is exact, and takes
    :math:`O(n_r D k + n_s D k + k^3)` time and :math:`O(D k)` memory for D features and
    :math:`k = \min(n_s, D)`.

    The distance falls as a set grows even where its distribution stays: compare sets of one size.

    References
    ----------
    M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.metrics import frechet_distance
    >>> real = np.array([[0.0], [2.0], [4.0]])
    >>> frechet_distance(real, real + 3.0)  # doctest: +SKIP
    9.0
    """
    real, synthetic = _check_sets(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        return math.nan
    center = _mean(synthetic)
    n_columns = real.shape[1] + min(synthetic.shape)
    real_batches = (batch for _, batch in _batches(real, center, n_columns))
    return _frechet(real_batches, synthetic - center)


def _frechet(real_batches, synthetic):
    """Fréchet distance of the rows of many batches to others, all less the mean of the others."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise ImportError(
            "The Fréchet distance needs torchmetrics: pip install skdistill[evaluation]"
        ) from error

    n_synthetic, n_features = synthetic.shape
    spans_all = n_synthetic >= n_features
    basis = np.eye(n_features) if spans_all else np.linalg.qr(synthetic.T)[0]
    coordinates = torch.nn.Identity()
    coordinates.num_features = basis.shape[1]
    metric = FrechetInceptionDistance(feature=coordinates)
    metric.update(torch.from_numpy(synthetic @ basis), real=False)
    n_real, total, squares_outside = 0, np.zeros(n_features), 0.0
    for batch in real_batches:
        inside = batch @ basis
        metric.update(torch.from_numpy(inside), real=True)
        n_real += len(batch)
        total += batch.sum(axis=0)
        squares_outside += np.sum(batch**2) - np.sum(inside**2)
    mean = total / n_real
    mean_outside = np.sum(mean**2) - np.sum((mean @ basis) ** 2)
    # The variance and the squared mean outside the span, added up.
    outside = (squares_outside - mean_outside) / (n_real - 1)
    return max(metric.compute().item() + float(outside), 0.0)


@validate_params(
    {
        "extractor": [callable, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def fid(X_real, X_syn, *, extractor=None, value_range=None, batch_size=256, device="cpu"):
    """Fréchet distance between the features that a network sees in two sets of images.

    Parameters
    ----------
    X_real : array-like of shape (n_real, height, width) or (n_real, height, width, channels)
        Real images.

    X_syn : array-like of shape (n_synthetic, height, width) or \
            (n_synthetic, height, width, channels)
        Synthetic images.

    extractor : torch.nn.Module or callable, default=None
        Turns a float32 tensor of shape (n, channels, height, width) with values in [-1, 1] into one
        of shape (n, n_features). A module is copied, and the copy put into evaluation mode. None
        takes the Inception network of the published FID, whose weights torchmetrics downloads when
        they are first used; grey images are given to it as three equal channels.

    value_range : tuple of float, default=None
        Values for black and white in both sets. None infers them from `X_real`.

    batch_size : int, default=256
        Images that are given to the extractor at a time.

    device : str or torch.device, default="cpu"
        Where the extractor runs.

    Returns
    -------
    distance : float
        At least 0, and 0 for identical sets; nan where a set has fewer than two images.

    Raises
    ------
    ImportError
        If torchmetrics is missing, or torch-fidelity where `extractor` is None.

    OSError
        If the weights of the Inception network cannot be had.

    ValueError
        If the images do not have one shape, hold what is not finite, or get features that are no
        finite rows.

    See Also
    --------
    frechet_distance : The same from features, with its formula and its dependence on set sizes.

    Notes
    -----
    The features of the real images are used as they come, those of the synthetic images are kept.

    Examples
    --------
    >>> import torch
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.metrics import fid
    >>> X_train, X_test, _, _ = load_digits_split()
    >>> fid(X_train, X_test, extractor=torch.nn.AvgPool2d(4)) < 0.1  # doctest: +SKIP
    True
    """
    X_real = check_array(X_real, allow_nd=True, input_name="X_real")
    X_syn = check_array(X_syn, allow_nd=True, input_name="X_syn")
    if X_real.ndim not in (3, 4) or X_real.shape[1:] != X_syn.shape[1:]:
        raise ValueError(
            "X_real and X_syn must be images of one shape, (n, height, width) or (n, height, "
            f"width, channels), got {X_real.shape} and {X_syn.shape}."
        )
    if min(len(X_real), len(X_syn)) < 2:
        return math.nan
    if value_range is None:
        value_range = infer_value_range(X_real)
    value_range = check_value_range(value_range)
    device = pick_device(device)
    extractor = _inception() if extractor is None else extractor
    if isinstance(extractor, torch.nn.Module):
        extractor = copy.deepcopy(extractor).eval().to(device)

    def features(X):
        for batch in gen_batches(len(X), batch_size):
            yield _extract(extractor, to_networks(X[batch], value_range), device)

    synthetic = np.concatenate(list(features(X_syn)))
    center = _mean(synthetic)
    return _frechet((batch - center for batch in features(X_real)), synthetic - center)


def _extract(extractor, x, device):
    """Return features of shape (n_images, n_features) in float64."""
    with torch.no_grad():
        features = extractor(torch.from_numpy(x).to(device))
    if not isinstance(features, torch.Tensor):
        raise ValueError(f"extractor must give a torch.Tensor, got {type(features).__name__}.")
    if features.ndim < 2 or len(features) != len(x):
        raise ValueError(
            "extractor must turn n images into features of shape (n, n_features), got shape "
            f"{tuple(features.shape)} for {len(x)} images."
        )
    features = features.flatten(1).cpu().double().numpy()
    if not np.isfinite(features).all():
        raise ValueError("extractor gave features that are not finite.")
    return features


class _Inception(torch.nn.Module):
    """The network of the published FID, for images as other extractors get them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        pixels = ((x + 1.0) * 127.5).round().to(torch.uint8)
        return self.network(pixels.expand(-1, 3, -1, -1))


def _inception():
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        return _Inception(NoTrainInceptionV3("inception-v3-compat", ["2048"]))
    except ImportError as error:
        raise ImportError(
            "The FID of Inception features needs torchmetrics and torch-fidelity: "
            "pip install skdistill[evaluation] torch-fidelity. Or pass a network of your own as "
            "extractor."
        ) from error
    except OSError as error:
        raise OSError(
            f"The weights of the Inception network cannot be had ({error}); pass a network of your "
            "own as extractor."
        ) from error


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
    real, synthetic = _check_sets(real, synthetic)
    return float(np.linalg.norm(_mean(real) - _mean(synthetic)))


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
    real, synthetic = _check_sets(real, synthetic)
    means = np.stack([_mean(real), _mean(synthetic)])
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
    real, synthetic = _check_sets(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        return math.nan
    origin = _mean(real)
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
        for _, batch in _batches(rows, origin, n_columns)
    )


def representativeness(real, synthetic):
    r"""Best cosine similarity to a real row, of the synthetic row where it is worst.

    :math:`\min_j \max_i \cos(x_i, y_j)` for real rows x and synthetic rows y, of the values as they
    are. A row of zeros has similarity 0 to any other.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    similarity : float
        From -1 to 1, which it is where each synthetic row is a multiple of a real one.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, or differs from the other in features.

    References
    ----------
    J. Gu et al., "Efficient Dataset Distillation via Minimax Diffusion", CVPR 2024.

    Examples
    --------
    >>> from skdistill.metrics import representativeness
    >>> representativeness([[1, 0], [0, 1]], [[0, 2], [4, 3]])
    0.8
    """
    real, synthetic = _check_sets(real, synthetic)
    n_columns = real.shape[1] + len(synthetic)
    best = np.full(len(synthetic), -1.0)
    for _, batch in _batches(real, 0.0, n_columns):
        best = np.maximum(best, cosine_similarity(batch, synthetic).max(axis=0))
    return float(min(best.min(), 1.0))


def diversity(synthetic):
    r"""One minus the largest cosine similarity between two rows of a set.

    :math:`1 - \max_{i \ne j} \cos(y_i, y_j)`, of the values as they are. A row of zeros has
    similarity 0 to any other.

    Parameters
    ----------
    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    Returns
    -------
    diversity : float
        From 0, where a row is a multiple of another, to 2; nan for a single row.

    Raises
    ------
    ValueError
        If the set is empty or holds what is not finite.

    References
    ----------
    J. Gu et al., "Efficient Dataset Distillation via Minimax Diffusion", CVPR 2024.

    Examples
    --------
    >>> from skdistill.metrics import diversity
    >>> round(diversity([[1, 0], [0, 1], [4, 3]]), 12)
    0.2
    """
    synthetic = _check_rows(synthetic, "synthetic")
    if len(synthetic) < 2:
        return math.nan

    def to_nearest_other(distances, start):
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        return distances.min(axis=1)

    nearest = pairwise_distances_chunked(
        synthetic.astype(np.float64), metric="cosine", reduce_func=to_nearest_other
    )
    return float(min(chunk.min() for chunk in nearest))


@validate_params(BALL_CONSTRAINTS, prefer_skip_nested_validation=True)
def coverage(real, synthetic, *, n_neighbors=5, max_samples=1000, random_state=None):
    r"""Share of the real rows in whose neighbourhood there is a synthetic row.

    .. math::
        \frac{1}{n_r} \sum_i 1[\exists j: |x_i - y_j| < r_i]

    with the real rows :math:`x`, the synthetic rows :math:`y`, and :math:`r_i` the distance of
    :math:`x_i` to its `n_neighbors`-th nearest other real row.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    n_neighbors : int, default=5
        Sets the size of the neighbourhoods.

    max_samples : int, default=1000
        Where there are more real rows, the share is that among this many of them, drawn at random.
        Their neighbourhoods are measured against all real rows, so that it is unbiased.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    coverage : float
        From 0 to 1, which it is for identical sets without duplicates; nan where `real` has no more
        than `n_neighbors` rows.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    See Also
    --------
    density : How many of the neighbourhoods a synthetic row is in.

    Notes
    -----
    A few synthetic rows cannot be in the neighbourhoods of many: compare sets of one size.

    References
    ----------
    M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.

    Examples
    --------
    >>> from skdistill.metrics import coverage
    >>> coverage([[0], [1], [2], [10]], [[0.5]], n_neighbors=1)
    0.5
    """
    counts = _ball_counts(real, synthetic, n_neighbors, max_samples, random_state)
    return _coverage(counts)


@validate_params(BALL_CONSTRAINTS, prefer_skip_nested_validation=True)
def density(real, synthetic, *, n_neighbors=5, max_samples=1000, random_state=None):
    r"""How many real neighbourhoods a synthetic row is in, as a multiple of what is expected.

    .. math::
        \frac{1}{k n_s} \sum_{i, j} 1[|x_i - y_j| < r_i]

    with the real rows :math:`x`, the synthetic rows :math:`y`, and :math:`r_i` the distance of
    :math:`x_i` to its k-th nearest other real row, k being `n_neighbors`.

    Parameters
    ----------
    real : array-like of shape (n_real, ...)
        The real set.

    synthetic : array-like of shape (n_synthetic, ...)
        The synthetic set.

    n_neighbors : int, default=5
        Sets the size of the neighbourhoods.

    max_samples : int, default=1000
        Where there are more real rows, the neighbourhoods of this many of them, drawn at random,
        stand for all. They are measured against all real rows, so that it is unbiased.

    random_state : int, RandomState instance or None, default=None
        Seeds the draw.

    Returns
    -------
    density : float
        0 where all synthetic rows are far from the real ones, 1 for identical sets without equal
        distances, on average about 1 for independent draws, more where synthetic rows are amid many
        real ones; nan where `real` has no more than `n_neighbors` rows.

    Raises
    ------
    ValueError
        If a set is empty, holds what is not finite, differs from the other in features, or if a
        parameter is out of its range.

    See Also
    --------
    coverage : How many of the neighbourhoods have a synthetic row.

    References
    ----------
    M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.

    Examples
    --------
    >>> from skdistill.metrics import density
    >>> density([[0], [1], [2], [10]], [[0.5]], n_neighbors=1)
    2.0
    """
    counts = _ball_counts(real, synthetic, n_neighbors, max_samples, random_state)
    return _density(counts, len(real), len(synthetic), n_neighbors)


def _coverage(counts):
    return math.nan if counts is None else float(np.mean(counts > 0))


def _density(counts, n_real, n_synthetic, n_neighbors):
    return math.nan if counts is None else float(counts.mean() * n_real / n_neighbors / n_synthetic)


def _ball_counts(real, synthetic, n_neighbors, max_samples, random_state):
    """Count the synthetic rows in each ball about a real row, None where there are no balls."""
    real, synthetic = _check_sets(real, synthetic)
    if len(real) <= n_neighbors:
        return None
    origin = _mean(real)
    chosen = _pick(len(real), max_samples, random_state)
    farthest = _nearest_others(real, origin, chosen, n_neighbors)[:, -1]
    centers = real[chosen] - origin
    squared_radii = (_distances(centers, real, origin, farthest) * (1.0 - SURFACE_SLACK)) ** 2

    def count(squared_distances, start):
        inside = squared_distances < squared_radii[start : start + len(squared_distances), None]
        return inside.sum(axis=1)

    # SciPy's "sqeuclidean" subtracts rows, so that it keeps the digits that the slack presumes.
    chunks = pairwise_distances_chunked(
        centers, synthetic - origin, metric="sqeuclidean", reduce_func=count
    )
    return np.concatenate(list(chunks))


def _nearest(queries, rows, origin, n_neighbors):
    """Return which of `rows` less `origin` are nearest to each query, the nearest first."""
    distances = np.empty((len(queries), 0))
    indices = np.empty((len(queries), 0), dtype=np.intp)
    for start, batch in _batches(rows, origin, rows.shape[1]):
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(batch)), algorithm="brute")
        batch_distances, batch_indices = search.fit(batch).kneighbors(queries)
        distances = np.hstack([distances, batch_distances])
        indices = np.hstack([indices, start + batch_indices])
        order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
        distances = np.take_along_axis(distances, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return indices


def _nearest_others(rows, origin, chosen, n_neighbors):
    """Return which rows are nearest to each chosen row, itself left out."""
    indices = _nearest(rows[chosen] - origin, rows, origin, n_neighbors + 1)
    drop = indices == chosen[:, None]
    # A row with many duplicates need not be among its own nearest.
    drop[~drop.any(axis=1), -1] = True
    return indices[~drop].reshape(len(chosen), n_neighbors)


def _distances(queries, rows, origin, indices):
    """Return the distance of each query to one row: by subtraction, so exactly 0 for copies."""
    return np.linalg.norm(queries - (rows[indices] - origin), axis=1)


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
    real, synthetic = _check_sets(real, synthetic, min_real=2)
    origin = _mean(real)
    queries = synthetic - origin
    indices = _nearest(queries, real, origin, 1)[:, 0]
    chosen = _pick(len(real), max_samples, random_state)
    others = _nearest_others(real, origin, chosen, 1)[:, 0]
    return CopyingCheck(
        distances=_distances(queries, real, origin, indices),
        indices=indices,
        real_distances=_distances(real[chosen] - origin, real, origin, others),
    )


@validate_params(
    {"embed": [callable, None], **SAMPLING_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def compare_sets(X_real, y_real, X_syn, y_syn, *, embed=None, max_samples=1000, random_state=0):
    """Compare a labelled synthetic set with the real one, overall and class by class.

    Parameters
    ----------
    X_real : array-like of shape (n_real, ...)
        Real rows or images.

    y_real : array-like of shape (n_real,)
        Their labels.

    X_syn : array-like of shape (n_synthetic, ...)
        Synthetic rows or images.

    y_syn : array-like of shape (n_synthetic,)
        Their labels.

    embed : callable, default=None
        Turns rows of `X_real` or `X_syn` as they are, at most 256 at a time, into rows of features
        of shape (n, ...). None compares the values themselves.

    max_samples : int, default=1000
        As in :func:`mmd`, :func:`coverage` and :func:`copying`.

    random_state : int, RandomState instance or None, default=0
        Seeds what is drawn.

    Returns
    -------
    comparison : dict
        ``{"overall": figures, "by_class": {label: figures}}`` with the labels of `y_syn` as Python
        objects, ready for :mod:`json`. The figures of a class compare it with the same real class.
        They are floats, or None where the numbers of rows leave them undefined:

        - "fid": :func:`frechet_distance`, lower is better;
        - "mean_distance": :func:`mean_distance`, lower is better;
        - "mean_cosine": :func:`mean_cosine`, higher is better;
        - "mmd": :func:`mmd`, lower is better;
        - "representativeness": :func:`representativeness`, higher is better;
        - "diversity": :func:`diversity`, higher is better;
        - "coverage": :func:`coverage`, higher is better;
        - "density": :func:`density`, 1 for draws of the real distribution;
        - "nearest_real_ratio": the ratio of :class:`CopyingCheck`, near 0 for copies;
        - "copied_share": the share of :class:`CopyingCheck`, near 1 for copies.

        With `embed` all but the last two are taken among the features. The last two are of the
        values as given, and "embedded_nearest_real_ratio" and "embedded_copied_share" are added.

    Raises
    ------
    ImportError
        If torchmetrics is missing.

    ValueError
        If the sets or labels do not fit one another, hold what is not finite, or if `embed` does
        not give a row of features for each row.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.metrics import compare_sets
    >>> from skdistill.subsets import RandomSubset
    >>> X_train, _, y_train, _ = load_digits_split()
    >>> X_syn, y_syn = RandomSubset(ipc=10, random_state=0).fit(X_train, y_train).sample()
    >>> comparison = compare_sets(X_train, y_train, X_syn, y_syn)  # doctest: +SKIP
    >>> comparison["overall"]["copied_share"]  # doctest: +SKIP
    1.0
    """
    X_real = check_array(X_real, allow_nd=True, input_name="X_real")
    X_syn = check_array(X_syn, allow_nd=True, input_name="X_syn")
    y_real, y_syn = (column_or_1d(y, warn=True) for y in (y_real, y_syn))
    check_consistent_length(X_real, y_real)
    check_consistent_length(X_syn, y_syn)
    check_classification_targets(y_real)
    labels = np.unique(y_syn).tolist()
    strangers = set(labels) - set(y_real.tolist())
    if strangers:
        raise ValueError(
            f"y_syn has the labels {sorted(strangers, key=str)}, which y_real lacks; it has "
            f"{np.unique(y_real).tolist()}."
        )
    values = X_real, X_syn
    features = None if embed is None else tuple(_embed(embed, X) for X in values)

    def compare(of_real, of_syn):
        own_values = X_real[of_real], X_syn[of_syn]
        own_features = None if embed is None else (features[0][of_real], features[1][of_syn])
        return _figures(own_values, own_features, max_samples, random_state)

    return {
        "overall": _figures(values, features, max_samples, random_state),
        "by_class": {label: compare(y_real == label, y_syn == label) for label in labels},
    }


def _embed(embed, X):
    """Return the features of rows as `embed` gives them for a batch at a time."""
    batches = []
    for batch in gen_batches(len(X), EMBEDDING_BATCH):
        features = np.asarray(embed(X[batch]))
        if features.ndim < 2 or len(features) != len(X[batch]):
            raise ValueError(
                "embed must turn n rows into features of shape (n, n_features), got shape "
                f"{features.shape} for {len(X[batch])} rows."
            )
        batches.append(features)
    return np.concatenate(batches)


def _figures(values, features, max_samples, random_state):
    """Return each figure of :func:`compare_sets` for one pair of sets and of their features."""
    sampling = {"max_samples": max_samples, "random_state": random_state}
    real, synthetic = values if features is None else features
    n_neighbors = 5
    counts = _ball_counts(real, synthetic, n_neighbors, **sampling)
    figures = {
        "fid": frechet_distance(real, synthetic),
        "mean_distance": mean_distance(real, synthetic),
        "mean_cosine": mean_cosine(real, synthetic),
        "mmd": mmd(real, synthetic, **sampling),
        "representativeness": representativeness(real, synthetic),
        "diversity": diversity(synthetic),
        "coverage": _coverage(counts),
        "density": _density(counts, len(real), len(synthetic), n_neighbors),
    }
    for prefix, sets in (("", values), ("embedded_", features)):
        if sets is not None:
            check = copying(*sets, **sampling) if len(real) > 1 else None
            figures[f"{prefix}nearest_real_ratio"] = math.nan if check is None else check.ratio
            figures[f"{prefix}copied_share"] = math.nan if check is None else check.copied_share
    return {name: None if math.isnan(figure) else figure for name, figure in figures.items()}
