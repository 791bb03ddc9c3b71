"""The published guidance step, plainly, for the scripts beside this file to compare with.

Written from the mathematics of ManifoldGD (Roy et al., CVPR 2026, arXiv:2602.23295): one sample at
a time, 300 fresh points around its centroid, the full covariance of the 12 nearest of them and all
of its eigenvectors, of which three are used.
"""

import torch

N_POINTS, N_NEIGHBORS, N_COMPONENTS = 300, 12, 3
LARGEST_RADIUS = 0.1
RIDGE = 1e-6


def points_on_spheres(centroid, generator):
    """Draw the clean points of the published code, of shape (N_POINTS, n_features)."""
    options = {"generator": generator, "device": centroid.device, "dtype": centroid.dtype}
    directions = torch.randn(N_POINTS, len(centroid), **options)
    radii = LARGEST_RADIUS * torch.rand(N_POINTS, 1, **options)
    return centroid + radii * directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)


def tangent(x_t, points, alpha_bar, generator):
    """Estimate the tangent space at a noisy point (n_features,) from clean points.

    Returns the mean of the clean neighbours and a basis of shape (N_COMPONENTS, n_features).
    """
    noise = torch.randn(points.shape, generator=generator, device=points.device, dtype=points.dtype)
    noisy = alpha_bar**0.5 * points + (1.0 - alpha_bar) ** 0.5 * noise
    squared_distances = (noisy - x_t).square().sum(dim=1)
    nearest = squared_distances.topk(N_NEIGHBORS, largest=False).indices
    deviations = noisy[nearest] - noisy[nearest].mean(dim=0)
    covariance = deviations.T @ deviations / (N_NEIGHBORS - 1)
    covariance += RIDGE * torch.eye(len(x_t), device=x_t.device, dtype=x_t.dtype)
    _, vectors = torch.linalg.eigh(covariance)
    return points[nearest].mean(dim=0), vectors[:, -N_COMPONENTS:].T


def correct(x0, x_t, centroid, scale, alpha_bar, generator, *, strength, normal_strength):
    """Return the corrected clean predictions of a batch, one sample after the other."""
    corrected = torch.empty_like(x0)
    for i in range(len(x0)):
        points = points_on_spheres(centroid[i], generator)
        mean, basis = tangent(x_t[i], points, alpha_bar, generator)
        projection = basis.T @ basis
        moved = x0[i] + strength * projection @ (centroid[i] - x0[i])
        normal = (moved - mean) - projection @ (moved - mean)
        distance = torch.linalg.vector_norm(normal)
        corrected[i] = moved - normal_strength * torch.tanh(distance / scale[i]) * normal
    return corrected
