"""A diffusion model in closed form: the exact score of a Gaussian mixture a class."""

import math
from dataclasses import dataclass

import diffusers
import numpy as np
import torch
from sklearn.utils import gen_batches

from skdistill.hierarchy import HierarchicalIPC
from skdistill.tree import first_equal_row

__all__ = ["ClosedFormBackbone", "GaussianMixtureScore"]

# Rows that an isotropic covariance is worth against a cluster's own scatter, so that a cluster of
# few rows keeps the spread of its class and the mixture never shrinks onto training rows.
PRIOR_ROWS = 5
ROWS_PER_COMPONENT = 20
MAX_COMPONENTS = 10
MAX_RANK = 32
# Least variance of a component in the standardised space, where a class has none of its own.
VARIANCE_FLOOR = 1e-3
NUMBERS_AT_ONCE = 2**23
# Noise over signal at the last and at the first of a run's steps, whose logarithm falls evenly: the
# steps are spent where standardised rows are told apart. DDPM's linear schedule has more noise than
# signal until 0.75 of the run, and what guidance does before that is forgotten after it.
LEAST_NOISE, MOST_NOISE, N_TIMESTEPS = 0.00125, 80.0, 1000


@dataclass(frozen=True)
class GaussianMixtureScore:
    """Mixture of Gaussians with low-rank plus isotropic covariances, at any noise level.

    Component k has the mean m_k and the covariance U_k diag(l_k) U_k^T + s_k I. Diffused to the
    noise level abar it has the mean sqrt(abar) m_k and the covariance abar times its own plus
    (1 - abar) I, so that density and score stay analytic.

    Parameters
    ----------
    weights : Tensor of shape (n_components,)
        Shares of the components, summing to 1.

    means : Tensor of shape (n_components, n_features)
        The m_k.

    bases : Tensor of shape (n_components, rank, n_features)
        The U_k, as orthonormal rows; rows of zeros where a component has a smaller rank.

    variances : Tensor of shape (n_components, rank)
        The l_k, zero for rows of zeros.

    isotropic : Tensor of shape (n_components,)
        The s_k, positive.
    """

    weights: torch.Tensor
    means: torch.Tensor
    bases: torch.Tensor
    variances: torch.Tensor
    isotropic: torch.Tensor

    @classmethod
    def fit(cls, Z, random_state=None):
        """Fit the mixture to rows: one component a cluster of the divisive hierarchy.

        Parameters
        ----------
        Z : ndarray of shape (n_samples, n_features)
            Rows of one class.

        random_state : int, RandomState instance or None, default=None
            Seed of the clustering.

        Returns
        -------
        mixture : GaussianMixtureScore
            Of one component for every 20 rows, at most 10. A component's covariance is the
            posterior mean of that of its cluster under an isotropic prior: the directions of
            largest variance are kept, at most 32, and the rest is averaged, as in probabilistic
            PCA.
        """
        n, n_features = Z.shape
        n_components = int(np.clip(n // ROWS_PER_COMPONENT, 1, MAX_COMPONENTS))
        n_components = min(n_components, len(np.unique(first_equal_row(Z))))
        clustering = HierarchicalIPC(
            ipc=n_components, selection="leaves", n_init=3, random_state=random_state
        ).fit(Z)
        tree = clustering.trees_[0]
        nodes = clustering.prototype_nodes_
        prior = max(float(tree.sse[nodes].sum()) / (n * n_features), VARIANCE_FLOOR)

        rank = min(MAX_RANK, n_features, max(1, int(tree.size[nodes].max()) - 1))
        bases = np.zeros((len(nodes), rank, n_features), dtype=Z.dtype)
        variances = np.zeros((len(nodes), rank), dtype=Z.dtype)
        isotropic = np.zeros(len(nodes), dtype=Z.dtype)
        for k, node in enumerate(nodes):
            members = Z[tree.members(node)]
            deviations = (members - tree.centers[node]) / math.sqrt(len(members) + PRIOR_ROWS)
            _, scales, directions = np.linalg.svd(deviations, full_matrices=False)
            spectrum = scales**2
            kept = min(rank, int(np.sum(spectrum > 1e-9 * prior)))
            # With every direction kept there is no rest to average.
            rest = spectrum[kept:].sum() / max(n_features - kept, 1)
            isotropic[k] = PRIOR_ROWS / (len(members) + PRIOR_ROWS) * prior + rest
            bases[k, :kept] = directions[:kept]
            variances[k, :kept] = np.maximum(spectrum[:kept] - rest, 0.0)
        tensors = (tree.size[nodes] / n, tree.centers[nodes], bases, variances, isotropic)
        dtype = torch.from_numpy(Z[:0]).dtype
        return cls(*(torch.as_tensor(a, dtype=dtype) for a in tensors))

    @classmethod
    def join(cls, mixtures, weights):
        """Return the mixture of mixtures.

        Parameters
        ----------
        mixtures : list of GaussianMixtureScore
            In the same space.

        weights : sequence of float
            Their shares, summing to 1.

        Returns
        -------
        mixture : GaussianMixtureScore
            With the components of all of them.
        """
        rank = max(m.bases.shape[1] for m in mixtures)
        pad = torch.nn.functional.pad
        return cls(
            torch.cat([w * m.weights for w, m in zip(weights, mixtures, strict=True)]),
            torch.cat([m.means for m in mixtures]),
            torch.cat([pad(m.bases, (0, 0, 0, rank - m.bases.shape[1])) for m in mixtures]),
            torch.cat([pad(m.variances, (0, rank - m.variances.shape[1])) for m in mixtures]),
            torch.cat([m.isotropic for m in mixtures]),
        )

    def to(self, device):
        """Return the mixture on a device.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        mixture : GaussianMixtureScore
            With its tensors there.
        """
        return GaussianMixtureScore(*(tensor.to(device) for tensor in vars(self).values()))

    def _diffused(self, x, alpha_bar):
        """Return what density and score share, for x of shape (n_samples, n_features).

        The logarithms of the weighted component densities (n_samples, n_components); coefficients
        of x - m_k along U_k (n_components, n_samples, rank); the precisions' excess along U_k over
        the isotropic one (n_components, rank), and that one (n_components,).
        """
        alpha_bar = torch.as_tensor(alpha_bar, dtype=x.dtype, device=x.device)
        means = alpha_bar.sqrt() * self.means
        isotropic = alpha_bar * self.isotropic + (1.0 - alpha_bar)
        along = alpha_bar * self.variances + isotropic[:, None]
        excess = 1.0 / along - 1.0 / isotropic[:, None]
        # U (x - m) without the differences themselves, which would be n_samples x n_components
        # times as large as x.
        coefficients = x @ self.bases.mT - (self.bases @ means[..., None]).mT
        squared = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        mahalanobis = squared / isotropic + torch.einsum("knr,kr->nk", coefficients**2, excess)
        log_det = (along / isotropic[:, None]).log().sum(1) + x.shape[1] * isotropic.log()
        log_density = self.weights.log() - 0.5 * (
            mahalanobis + log_det + x.shape[1] * math.log(2.0 * math.pi)
        )
        return log_density, coefficients, excess, isotropic, means

    def log_density(self, x, alpha_bar=1.0):
        """Return the logarithm of the diffused mixture's density.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Points.

        alpha_bar : float or Tensor of shape (), default=1.0
            Noise level.

        Returns
        -------
        log_density : Tensor of shape (n_samples,)
            In nats.
        """
        return torch.logsumexp(self._diffused(x, alpha_bar)[0], dim=1)

    def score(self, x, alpha_bar):
        """Return the gradient of :meth:`log_density` in `x`.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)
            Points.

        alpha_bar : float or Tensor of shape ()
            Noise level.

        Returns
        -------
        score : Tensor of shape (n_samples, n_features)
            The sum over k of p(k | x) Sigma_k^-1 (sqrt(abar) m_k - x).
        """
        log_density, coefficients, excess, isotropic, means = self._diffused(x, alpha_bar)
        responsibility = torch.softmax(log_density, dim=1)
        shared = responsibility / isotropic
        pull = shared @ means - shared.sum(1, keepdim=True) * x
        weighted = coefficients * excess[:, None, :] * responsibility.T[..., None]
        return pull - torch.einsum("knr,krf->nf", weighted, self.bases)


class ClosedFormBackbone:
    """Diffusion without weights: the exact score of a mixture fitted to each class.

    Takes any numeric rows. Latents are the standardised rows: a scale a feature for tables, one
    scale for all pixels of images, whose geometry is that of the pixels. The noise prediction is
    -sqrt(1 - abar) times the score of the diffused mixture.

    Parameters
    ----------
    random_state : int or None, default=None
        Seed of the clustering that the mixtures' components come from.

    Attributes
    ----------
    latent_shape : tuple of int
        (n_features,), known after :meth:`fit`.

    guidance_scale : float
        1.0: classifier-free guidance is off unless asked for.

    default_scheduler : diffusers.DDPMScheduler
        Of 1,000 steps. Noise over signal, sqrt((1 - abar) / abar), falls geometrically from 80 to
        0.00125.

    mixtures : list of GaussianMixtureScore
        One a class.
    """

    name = fingerprint = "closed-form"
    guidance_scale = 1.0

    def __init__(self, random_state=None):
        self.random_state = random_state
        self.default_scheduler = diffusers.DDPMScheduler(
            N_TIMESTEPS, trained_betas=_geometric_betas(), clip_sample=False
        )

    def fit(self, x, labels, n_classes):
        """Fit scaling and mixtures.

        Parameters
        ----------
        x : ndarray of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of a table, or images in [-1, 1]. float64 is computed in float64. Or anything that
            gives such rows where it is indexed, as what lies on disk does: no more than those of
            one class are asked for at once.

        labels : ndarray of shape (n_samples,)
            Class indices.

        n_classes : int
            Number of classes; each has a row.

        Returns
        -------
        self : ClosedFormBackbone
            Fitted.

        Raises
        ------
        ValueError
            If values are so large that arithmetic gives infinity.
        """
        self.row_shape = x.shape[1:]
        n_features = math.prod(self.row_shape)
        self.latent_shape = (n_features,)
        batches = list(gen_batches(len(x), max(1, NUMBERS_AT_ONCE // n_features)))
        total, spread = np.zeros((2, n_features))
        low, high = np.full((2, n_features), [[np.inf], [-np.inf]])
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in batches:
                rows = x[batch].reshape(-1, n_features)
                total += rows.sum(axis=0, dtype=np.float64)
                low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
            self.offset = (total / len(x)).astype(x.dtype)
            for batch in batches:
                deviations = np.abs(
                    x[batch].reshape(-1, n_features) - self.offset, dtype=np.float64
                )
                # Squares of very small or large numbers would be zero or infinite.
                unit = np.where(deviations.max(axis=0) > 0, deviations.max(axis=0), 1.0)
                norm = unit * np.linalg.norm(deviations / unit, axis=0)
                spread = np.hypot(spread, norm)
        scale = (spread / math.sqrt(len(x))).astype(x.dtype)
        if not np.isfinite(self.offset).all() or not np.isfinite(scale).all():
            raise ValueError(
                "X has values so large that their sums are infinite; divide it by a constant."
            )
        varies = high > low
        if len(self.row_shape) == 3:
            scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
            varies[:] = varies.any()
        # A feature that does not vary, to within rounding, comes back as its mean.
        rounding = np.finfo(scale.dtype).eps * np.abs(self.offset)
        scale[~varies | (scale <= rounding)] = 0.0
        self.scale = scale
        self.mixtures = [
            GaussianMixtureScore.fit(self.encode(x[np.flatnonzero(labels == k)]), self.random_state)
            for k in range(n_classes)
        ]
        shares = np.bincount(labels, minlength=n_classes) / len(labels)
        self.marginal = GaussianMixtureScore.join(self.mixtures, shares)
        return self

    def to(self, device):
        """Move the mixtures to a device.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        self : ClosedFormBackbone
            With its tensors there.
        """
        self.mixtures = [mixture.to(device) for mixture in self.mixtures]
        self.marginal = self.marginal.to(device)
        return self

    def encode(self, x, calls=None):
        """Standardise rows.

        Parameters
        ----------
        x : ndarray of the shape given to :meth:`fit`
            Rows or images.

        calls : BatchedCalls, default=None
            Not needed: nothing here is large.

        Returns
        -------
        z : ndarray of shape (n_samples, n_features)
            Latents.
        """
        deviations = x.reshape(len(x), -1) - self.offset
        # Of a feature that does not vary, only rounding is left, which is large where values are.
        return np.divide(
            deviations, self.scale, out=np.zeros_like(deviations), where=self.scale > 0
        )

    def decode(self, z, calls=None):
        """Undo :meth:`encode`.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_features)
            Latents.

        calls : BatchedCalls, default=None
            Not needed: nothing here is large.

        Returns
        -------
        x : ndarray of shape (n_samples, ...)
            Rows or images.
        """
        rows = z.cpu().numpy() * self.scale + self.offset
        return rows.reshape(len(rows), *self.row_shape)

    def predict(self, x_t, t, alpha_bar, labels, guidance_scale=None):
        """Predict the noise in `x_t`.

        Parameters
        ----------
        x_t : Tensor of shape (n_samples, n_features)
            Noisy latents, sqrt(alpha_bar) z + sqrt(1 - alpha_bar) eps.

        t : Tensor of shape ()
            The timestep; the noise level says all there is to know.

        alpha_bar : Tensor of shape ()
            Noise level.

        labels : Tensor of shape (n_samples,), dtype int64
            Classes.

        guidance_scale : float, default=None
            Classifier-free guidance, against the mixture of all classes.

        Returns
        -------
        noise : Tensor of shape (n_samples, n_features)
            -sqrt(1 - alpha_bar) times the score.
        """
        score = torch.empty_like(x_t)
        for k in labels.unique().tolist():
            rows = labels == k
            score[rows] = self.mixtures[k].score(x_t[rows], alpha_bar)
        if guidance_scale is not None and guidance_scale != 1.0:
            marginal = self.marginal.score(x_t, alpha_bar)
            score = marginal + guidance_scale * (score - marginal)
        return -(1.0 - alpha_bar).sqrt().to(x_t) * score


def _geometric_betas():
    """Return the betas of noise that grows geometrically over the signal."""
    alphas_cumprod = 1.0 / (1.0 + np.geomspace(LEAST_NOISE, MOST_NOISE, N_TIMESTEPS) ** 2)
    return (1.0 - alphas_cumprod / np.append(1.0, alphas_cumprod[:-1])).tolist()
