import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import ArpackNoConvergence

from skdistill import principal
from skdistill.principal import weighted_bases
from skdistill.tangent import local_basis


def projections(bases):
    return np.matmul(bases.transpose(0, 2, 1), bases)


def problem(n_points, n_features, dtype=np.float64):
    """Points whose variance falls by axis; weightings of all, of half and of unequal parts."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n_points, n_features)) / np.sqrt(np.arange(1, n_features + 1)) + 3.0
    weights = rng.uniform(size=(3, n_points))
    weights[0] = 1.0
    weights[1] = np.arange(n_points) % 2
    return points.astype(dtype), weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("n_points", "n_features"), [(60, 200), (300, 40), (60, 31)])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-10), (np.float32, 2e-4)])
def test_they_are_the_bases_of_neighbourhoods_one_by_one(n_points, n_features, dtype, atol):
    points, weights = problem(n_points, n_features, dtype)
    means, bases = weighted_bases(points, weights, n_components=3)
    assert means.dtype == bases.dtype == dtype
    for mean, basis, w in zip(means, bases, weights, strict=True):
        members = np.flatnonzero(w)
        expected = local_basis(points[None, members], w[None, members], n_components=3)
        assert_allclose(mean, expected[0][0], atol=atol)
        assert_allclose(projections(basis[None]), projections(expected[1]), atol=atol)
        assert_allclose(np.abs(np.sum(basis * expected[1][0], axis=1)), 1.0, atol=atol)


def test_a_weighting_does_not_depend_on_the_others_nor_on_points_without_weight():
    points, weights = problem(60, 200)
    together = weighted_bases(points, weights, n_components=2)
    members = np.flatnonzero(weights[1])
    alone = weighted_bases(points[members], weights[1:2, members], n_components=2)
    assert_allclose(alone[0][0], together[0][1], atol=1e-10)
    assert_allclose(projections(alone[1])[0], projections(together[1])[1], atol=1e-10)


def test_directions_without_variance_are_zero():
    points = np.zeros((40, 50))
    points[:, 0] = np.arange(40)
    points[:, 1] = 1e-5 * np.arange(40) ** 2
    _, bases = weighted_bases(points, np.full((1, 40), 1 / 40), n_components=3, ridge=1e-3)
    assert_allclose(np.abs(bases[0, 0]), np.eye(50)[0], atol=1e-3)
    assert_array_equal(bases[0, 1:], 0.0)
    means, bases = weighted_bases(np.ones((40, 50)), np.full((1, 40), 1 / 40), n_components=3)
    assert_array_equal(means, 1.0)
    assert_array_equal(bases, 0.0)


def test_without_a_ridge_rounding_is_no_variance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 50)) + 100.0
    _, bases = weighted_bases(points, np.full((1, 40), 1 / 40), n_components=4, ridge=0.0)
    assert_allclose(np.linalg.norm(bases[0], axis=1), [1, 1, 0, 0])


def test_where_iterations_do_not_converge_the_result_is_the_same(monkeypatch):
    points, weights = problem(60, 100)
    expected = weighted_bases(points, weights, n_components=3)

    def never(*args, **options):
        raise ArpackNoConvergence("%s", np.empty(0), np.empty((60, 0)))

    monkeypatch.setattr(principal, "eigsh", never)
    found = weighted_bases(points, weights, n_components=3)
    assert_allclose(found[0], expected[0])
    assert_allclose(projections(found[1]), projections(expected[1]), atol=1e-10)
