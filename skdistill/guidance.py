"""Guidance of a diffusion model towards centroids, along the tangent space of the data.

Step 4 of ManifoldGD [1]_. With x0 the model's clean prediction, c the centroid of a sample,
``r = |x0 - c|`` and P_T the projection onto the local tangent space,

    x0 <- x0 + w a(r) P_T (c - x0)

where a(r) belongs to the gradient of a kernel affinity, g = a(r) (c - x0). Without a projection
this is mode guidance [2]_; with w = 0 it is the unguided model.

References
----------
.. [1] Roy, Lee, Chakraborty, Lokhande. "ManifoldGD: Training-Free Hierarchical Manifold Guidance
   for Diffusion-Based Dataset Distillation." CVPR 2026, arXiv:2602.23295.
.. [2] Chan-Santiago et al. "MGD3: Mode-Guided Dataset Distillation using Diffusion Models."
   ICML 2025, arXiv:2505.18963.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from skdistill.tangent import local_basis, posterior_weights

__all__ = [
    "Guidance",
    "PosteriorTangents",
    "PreparedTangents",
    "Targets",
    "kernel_rate",
    "prepare_targets",
    "project",
    "pull_to_centroid",
    "pull_to_plane",
    "radius_multipliers",
]

KERNELS = ("rbf", "laplace", "imq")
ANNEALINGS = ("exponential", "linear", "cosine")
# Clean latents around a centroid that posterior weights choose among, in multiples of n_neighbors.
POSTERIOR_CANDIDATES = 8


def kernel_rate(r, kernel="rbf", bandwidth=1.0):
    """Rate a(r) of the pull g = a(r) (c - x) that a kernel exerts at distance r.

    Parameters
    ----------
    r : Tensor
        Distances, non-negative.

    kernel : {"rbf", "laplace", "imq"}, default="rbf"
        The gradient of log exp(-r^2 / (2 s^2)) has a(r) = 1 / s^2, that of log exp(-r / s) has
        a(r) = 1 / (s r), that of log (r^2 + s^2)^(-1/2) has a(r) = 1 / (r^2 + s^2).

    bandwidth : float, default=1.0
        The s of these formulas, in the unit of `r`.

    Returns
    -------
    rate : Tensor of the shape of `r`
        Finite everywhere; the pull vanishes at r = 0 whatever its rate.

    Raises
    ------
    ValueError
        If there is no such kernel.

    Examples
    --------
    >>> import torch
    >>> from skdistill.guidance import kernel_rate
    >>> kernel_rate(torch.tensor([1.0, 2.0]), "laplace")
    tensor([1.0000, 0.5000])
    """
    if kernel == "rbf":
        return torch.full_like(r, 1.0 / bandwidth**2)
    if kernel == "laplace":
        return 1.0 / (bandwidth * r.clamp_min(torch.finfo(r.dtype).tiny ** 0.5))
    if kernel == "imq":
        return 1.0 / (r**2 + bandwidth**2)
    raise ValueError(f"kernel={kernel!r} must be one of {', '.join(map(repr, KERNELS))}.")


def radius_multipliers(annealing="exponential", max_multiplier=2.0, warm_steps=5):
    """Return multiples of the neighbourhood's radius at the guided steps, wide first.

    Parameters
    ----------
    annealing : {"exponential", "linear", "cosine"} or None, default="exponential"
        How the radius shrinks from `max_multiplier` to 1; None keeps it at 1 throughout.

    max_multiplier : float, default=2.0
        The multiple at the first guided step, at least 1.

    warm_steps : int, default=5
        Number of guided steps after which the multiple is 1.

    Returns
    -------
    multipliers : list of float
        One for each of the first `warm_steps` guided steps, then 1, which holds from there on.
        Exponential: max_multiplier^(1 - i / warm_steps).

    Raises
    ------
    ValueError
        If there is no such annealing.

    Examples
    --------
    >>> from skdistill.guidance import radius_multipliers
    >>> radius_multipliers("linear", max_multiplier=2.0, warm_steps=4)
    [2.0, 1.75, 1.5, 1.25, 1.0]
    """
    if annealing is None:
        return [1.0]
    if annealing not in ANNEALINGS:
        shown = ", ".join(map(repr, ANNEALINGS))
        raise ValueError(f"annealing={annealing!r} must be one of {shown}, or None.")
    remaining = [1.0 - i / warm_steps for i in range(warm_steps)] + [0.0]
    if annealing == "exponential":
        return [max_multiplier**s for s in remaining]
    if annealing == "cosine":
        remaining = [0.5 - 0.5 * math.cos(math.pi * s) for s in remaining]
    return [1.0 + (max_multiplier - 1.0) * s for s in remaining]


def project(v, basis):
    """Project vectors onto the span of orthonormal rows, P_T v = U (U^T v).

    Parameters
    ----------
    v : Tensor of shape (n_samples, n_features)
        Vectors.

    basis : Tensor of shape (n_samples, n_components, n_features)
        Orthonormal rows; rows of zeros stand for directions that a smaller space lacks.

    Returns
    -------
    projected : Tensor of shape (n_samples, n_features)
        The tangential parts.
    """
    coefficients = torch.einsum("ndf,nf->nd", basis, v)
    return torch.einsum("ndf,nd->nf", basis, coefficients)


def pull_to_centroid(x0, centroid, weight, basis=None):
    """Move clean predictions towards their centroids: x0 + weight * P_T (c - x0).

    Parameters
    ----------
    x0 : Tensor of shape (n_samples, n_features)
        Clean predictions.

    centroid : Tensor of shape (n_samples, n_features)
        What each is pulled towards.

    weight : Tensor of shape (n_samples,)
        In [0, 1] the result is a convex combination of `x0` and the centroid within the tangent
        space.

    basis : Tensor of shape (n_samples, n_components, n_features), default=None
        Orthonormal rows that span the tangent spaces. None pulls in every direction.

    Returns
    -------
    x0 : Tensor of shape (n_samples, n_features)
        The corrected predictions; their parts normal to the tangent space are untouched.
    """
    pull = centroid - x0
    if basis is not None:
        pull = project(pull, basis)
    return x0 + weight[:, None] * pull


def pull_to_plane(x0, mean, basis, weight, scale):
    """Move clean predictions towards the affine tangent plane: x0 - w P_N (x0 - mean).

    The weight grows with the distance from the plane:
    ``w = weight * tanh(|P_N (x0 - mean)| / scale)``.

    Parameters
    ----------
    x0 : Tensor of shape (n_samples, n_features)
        Clean predictions.

    mean : Tensor of shape (n_samples, n_features)
        Means of the clean neighbours, through which the planes go.

    basis : Tensor of shape (n_samples, n_components, n_features)
        Orthonormal rows that span the tangent spaces.

    weight : float
        Share of the normal part that is taken away far from the plane.

    scale : Tensor of shape (n_samples,)
        Distances at which the pull reaches tanh(1) = 76% of its strength.

    Returns
    -------
    x0 : Tensor of shape (n_samples, n_features)
        The corrected predictions; their tangential parts are untouched.
    """
    deviation = x0 - mean
    normal = deviation - project(deviation, basis)
    share = weight * torch.tanh(torch.linalg.vector_norm(normal, dim=1) / scale)
    return x0 - share[:, None] * normal


@dataclass(frozen=True)
class PreparedTangents:
    """Tangent planes made before the loop: one a sample and radius.

    Parameters
    ----------
    means : Tensor of shape (n_stages, n_samples, n_features)
        Where the planes pass through.

    bases : Tensor of shape (n_stages, n_samples, n_components, n_features)
        Orthonormal rows that span them.
    """

    means: torch.Tensor
    bases: torch.Tensor

    def __call__(self, x_t, alpha_bar, stage):
        """Return means and bases of a stage, whatever the noisy points are.

        Parameters
        ----------
        x_t : Tensor of shape (n_samples, n_features)
            Noisy points.

        alpha_bar : float
            Noise level.

        stage : int
            Which of the radii.

        Returns
        -------
        mean : Tensor of shape (n_samples, n_features)
            Where the planes pass through.

        basis : Tensor of shape (n_samples, n_components, n_features)
            Orthonormal rows that span them.
        """
        return self.means[stage], self.bases[stage]


@dataclass(frozen=True)
class PosteriorTangents:
    """Tangent planes of the exact denoiser: neighbours weighted by p(z_i | x_t) at each step.

    Parameters
    ----------
    neighbors : Tensor of shape (n_samples, n_neighbors, n_features)
        Clean latents around the centroid of each sample.

    present : Tensor of shape (n_samples, n_neighbors)
        One for a neighbour, zero for padding, where a class has fewer latents than others.

    gram : Tensor of shape (n_samples, n_neighbors, n_neighbors) or None
        Inner products of the neighbours about the first of them, made before the loop; None where
        there are more neighbours than features.

    n_components : int
        Dimension of the tangent spaces. The weights are tempered until the effective number of
        neighbours is at least one more.

    ridge : float
        Directions with no more than this share of the local variance are left out.
    """

    neighbors: torch.Tensor
    present: torch.Tensor
    gram: torch.Tensor | None
    n_components: int
    ridge: float

    def __call__(self, x_t, alpha_bar, stage):
        """Return means and bases at noisy points.

        Parameters
        ----------
        x_t : Tensor of shape (n_samples, n_features)
            Noisy points.

        alpha_bar : float
            Noise level.

        stage : int
            Not needed: the noise level sets how far the weights reach.

        Returns
        -------
        mean : Tensor of shape (n_samples, n_features)
            Where the planes pass through.

        basis : Tensor of shape (n_samples, n_components, n_features)
            Orthonormal rows that span them.
        """
        weights = posterior_weights(
            x_t, self.neighbors, alpha_bar, self.n_components + 1, present=self.present
        )
        return local_basis(
            self.neighbors,
            weights,
            n_components=self.n_components,
            ridge=self.ridge,
            gram=self.gram,
        )


@dataclass(frozen=True)
class Targets:
    """What each sample of a batch is pulled towards.

    Parameters
    ----------
    centroid : Tensor of shape (n_samples, n_features)
        The IPC centroids.

    scale : Tensor of shape (n_samples,)
        The unit of distance around each centroid: how far it is to its K-th nearest real latent.

    tangent : PreparedTangents, PosteriorTangents or None
        ``tangent(x_t, alpha_bar, stage)`` returns the mean of the neighbours and a basis of the
        tangent space; `stage` counts the guided steps and stops at the last radius. None guides
        without a projection.
    """

    centroid: torch.Tensor
    scale: torch.Tensor
    tangent: Callable | None = None


def prepare_targets(
    centers, center_classes, assigned, projectors, *, radii, tangents="prepared", device="cpu"
):
    """Prepare what a batch of samples is pulled towards, before its loop.

    Parameters
    ----------
    centers : ndarray of shape (n_centroids, n_features)
        The IPC centroids.

    center_classes : ndarray of shape (n_centroids,)
        Their classes.

    assigned : ndarray of shape (n_samples,)
        The centroid of each sample.

    projectors : sequence or mapping of TangentProjector
        Fitted to the clean latents of each class.

    radii : list of float
        Multiples of the projectors' radius, a stage each.

    tangents : {"prepared", "posterior"} or None, default="prepared"
        How tangent spaces are found; None guides without a projection.

    device : torch.device, default="cpu"
        Where the targets are needed.

    Returns
    -------
    targets : Targets
        With one row a sample.
    """
    needed, of_sample = np.unique(assigned, return_inverse=True)
    parts, order = [], []
    for k in np.unique(center_classes[needed]):
        of_class = np.flatnonzero(center_classes[needed] == k)
        class_centers, projector = centers[needed[of_class]], projectors[k]
        order.append(of_class)
        part = [projector.neighbor_distances(class_centers)]
        if tangents == "prepared":
            radius = projector.radius or 1.0
            part += projector.tangent_bases(class_centers, radius=[m * radius for m in radii])
        elif tangents == "posterior":
            part += _candidates(projector, class_centers)
        parts.append(part)

    place = np.argsort(np.concatenate(order))[of_sample]
    scale, *rest = (
        torch.from_numpy(np.concatenate(arrays)[place].astype(centers.dtype)).to(device)
        for arrays in zip(*parts, strict=True)
    )
    # Identical rows have no distances; any unit will do where nothing is far.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    tangent = None
    if tangents == "prepared":
        means, bases = rest
        tangent = PreparedTangents(means.transpose(0, 1), bases.transpose(0, 1))
    elif tangents == "posterior":
        neighbors, present = rest
        offsets = neighbors - neighbors[:, :1]
        # Of few features it is the larger matrix, and not the one that is decomposed.
        gram = offsets @ offsets.mT if offsets.shape[1] <= offsets.shape[2] else None
        settings = projector.n_components, projector.ridge
        tangent = PosteriorTangents(neighbors, present, gram, *settings)
    return Targets(torch.from_numpy(centers[assigned]).to(device), scale, tangent)


def _candidates(projector, centers):
    """Return the latents nearest to centroids, and which of them are padding."""
    wanted = max(POSTERIOR_CANDIDATES * projector.n_neighbors, projector.n_components + 1)
    found = min(wanted, len(projector.reference_))
    nearest = projector._nearest(centers, found)[1]
    # Padded to one number for all classes, so that no class depends on which others are there.
    padded = np.pad(nearest, ((0, 0), (0, wanted - found)), mode="edge")
    present = np.zeros(padded.shape, dtype=centers.dtype)
    present[:, :found] = 1.0
    return [projector.reference_[padded], present]


@dataclass(frozen=True)
class Guidance:
    """Mode or manifold guidance as a correction of the clean prediction.

    Parameters
    ----------
    strength : float
        The w of the module's formula; 0 is the unguided model. In [0, 1] where `clip` is set.

    kernel : {"rbf", "laplace", "imq"}
        See :func:`kernel_rate`. Distances are in units of ``Targets.scale``.

    bandwidth : float
        Bandwidth of the kernel, in the same unit.

    normal_strength : float
        Weight of the pull towards the tangent plane, see :func:`pull_to_plane`.

    interval : tuple of float
        The part of the run that is guided, as fractions from noise (0) to image (1).

    stages : int
        Number of prepared radii; the last one holds from there on.

    clip : bool
        Whether w a(r) is kept within [0, 1], where the correction is stable at every strength.
    """

    strength: float = 1.0
    kernel: str = "rbf"
    bandwidth: float = 1.0
    normal_strength: float = 0.0
    interval: tuple = (0.0, 0.5)
    stages: int = 1
    clip: bool = True

    def covers(self, fraction):
        """Return whether the run is guided at `fraction` of its way from noise to image.

        Parameters
        ----------
        fraction : float
            0 is pure noise, 1 the image.

        Returns
        -------
        guided : bool
            False everywhere when both strengths are zero.
        """
        start, stop = self.interval
        # Fractions of whole steps are not exact: 0.1 of 50 is five of them.
        inside = start - 1e-6 <= fraction < stop - 1e-6
        return inside and (self.strength > 0 or self.normal_strength > 0)

    def correct(self, x0, x_t, alpha_bar, step, targets, rate=1.0):
        """Return the corrected clean prediction.

        Parameters
        ----------
        x0 : Tensor of shape (n_samples, n_features)
            Clean predictions of the model, classifier-free guidance included.

        x_t : Tensor of shape (n_samples, n_features)
            The noisy points they were made from.

        alpha_bar : float
            Noise level: x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) eps.

        step : int
            Number of guided steps before this one.

        targets : Targets
            What each sample is pulled towards.

        rate : float, default=1.0
            A factor on both strengths: 1 for the corrected clean prediction, sigma_t / c1_t for
            the paper's form, in which a step adds strength * sigma_t * g to the DDPM mean and c1_t
            is the weight of x0 in that mean.

        Returns
        -------
        x0 : Tensor of shape (n_samples, n_features)
            The corrected predictions.
        """
        mean = basis = None
        if targets.tangent is not None:
            mean, basis = targets.tangent(x_t, alpha_bar, min(step, self.stages - 1))
        r = torch.linalg.vector_norm(targets.centroid - x0, dim=1) / targets.scale
        weight = rate * self.strength * kernel_rate(r, self.kernel, self.bandwidth)
        normal_weight = rate * self.normal_strength
        if self.clip:
            weight = weight.clamp(0.0, 1.0)
            normal_weight = min(normal_weight, 1.0)
        guided = pull_to_centroid(x0, targets.centroid, weight, basis)
        if normal_weight > 0 and basis is not None:
            guided = pull_to_plane(guided, mean, basis, normal_weight, targets.scale)
        return guided
