"""The Fréchet distance between two sets of features, and of images by a network's features."""

import copy
import math
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_array, gen_batches
from sklearn.utils._param_validation import Interval, validate_params

from skdistill.metrics.sets import batches, check_sets, mean_of
from skdistill.pixels import check_value_range, infer_value_range, to_networks
from skdistill.validation import pick_device

__all__ = ["fid", "frechet_distance"]


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
    real, synthetic = check_sets(real, synthetic)
    if min(len(real), len(synthetic)) < 2:
        return math.nan
    center = mean_of(synthetic)
    n_columns = real.shape[1] + min(synthetic.shape)
    real_batches = (batch for _, batch in batches(real, center, n_columns))
    return _frechet(real_batches, synthetic - center)


def _frechet(real_batches, synthetic):
    """Fréchet distance of the rows of many batches to others, all less the mean of the others."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise ImportError(
            "The Fréchet distance needs torchmetrics: pip install 'skdistill[evaluation]'"
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
    center = mean_of(synthetic)
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
            "pip install 'skdistill[evaluation]' torch-fidelity. Or pass a network of your own as "
            "extractor."
        ) from error
    except OSError as error:
        raise OSError(
            f"The weights of the Inception network cannot be had ({error}); pass a network of your "
            "own as extractor."
        ) from error
