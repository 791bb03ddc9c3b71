import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import ortho_group
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdistill.tangent import TangentProjector, local_basis, posterior_weights

SEEDS = st.integers(0, 2**32 - 1)
few_examples = settings(max_examples=25, deadline=None)


@st.composite
def projectors(draw):
    """A fitted projector of any kind, with points and vectors to use it on."""
    rng = np.random.default_rng(draw(SEEDS))
    n_features = draw(st.integers(1, 8))
    reference = rng.normal(size=(draw(st.integers(1, 40)), n_features))
    reference *= rng.uniform(0, 3, size=n_features)
    projector = TangentProjector(
        n_components=draw(st.integers(1, 5)),
        n_neighbors=draw(st.integers(1, 15)),
        radius=draw(st.none() | st.floats(0.2, 3.0)),
        alpha_bar=draw(st.none() | st.floats(0.01, 0.99)),
    ).fit(reference)
    X = rng.normal(size=(6, n_features))
    return projector, X, rng.normal(size=(6, n_features))


def projections(bases):
    return np.matmul(bases.transpose(0, 2, 1), bases)


def anisotropic(rng, n_samples, n_features=6):
    return rng.normal(size=(n_samples, n_features)) * 0.5 ** np.arange(n_features)


@parametrize_with_checks([TangentProjector()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@few_examples
@given(projectors())
def test_projection_is_idempotent_symmetric_and_non_expansive(case):
    projector, X, V = case
    tangent = projector.project(V, X)
    assert_allclose(projector.project(tangent, X), tangent, atol=1e-10)
    W = V[::-1]
    assert_allclose(
        np.sum(W * tangent, axis=1), np.sum(projector.project(W, X) * V, axis=1), atol=1e-10
    )
    assert np.all(np.linalg.norm(tangent, axis=1) <= np.linalg.norm(V, axis=1) * (1 + 1e-10))


@few_examples
@given(projectors())
def test_vector_is_tangential_plus_normal_and_they_are_orthogonal(case):
    projector, X, V = case
    tangent, normal = projector.project(V, X), projector.normal(V, X)
    assert_allclose(tangent + normal, V, atol=1e-12)
    assert_allclose(np.sum(tangent * normal, axis=1), 0, atol=1e-10)


@few_examples
@given(projectors())
def test_bases_are_orthonormal_and_describe_transform_and_project(case):
    projector, X, V = case
    means, bases = projector.tangent_bases(X)
    assert bases.shape == (len(X), projector.n_components, X.shape[1])
    lengths = np.matmul(bases, bases.transpose(0, 2, 1))
    rank = np.any(bases != 0, axis=2)
    assert_allclose(lengths, rank[:, :, None] * np.eye(projector.n_components), atol=1e-10)
    P = projections(bases)
    assert_allclose(projector.project(V, X), np.einsum("nij,nj->ni", P, V), atol=1e-10)
    on_plane = means + np.einsum("nij,nj->ni", P, X - means)
    assert_allclose(projector.transform(X), on_plane, atol=1e-10)


@few_examples
@given(SEEDS, st.integers(1, 3), st.integers(3, 3000))
def test_exact_on_affine_subspaces(seed, dimension, n_features):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(dimension, n_features))
    X = 5 + rng.normal(size=(40, dimension)) @ directions
    projector = TangentProjector(n_components=3).fit(X)
    within = 5 + rng.normal(size=(4, dimension)) @ directions
    scale = np.sqrt(n_features)
    assert_allclose(projector.transform(within), within, atol=1e-8 * scale)
    assert_allclose(projector.project(within - 5, within), within - 5, atol=1e-8 * scale)
    assert np.all(np.any(projector.tangent_bases(within)[1] != 0, axis=2).sum(axis=1) == dimension)


def test_error_on_a_sphere_shrinks_with_the_square_of_the_radius():
    rng = np.random.default_rng(0)

    def error(radius):
        angle, length = 2 * np.pi * rng.uniform(size=60), radius * np.sqrt(rng.uniform(size=60))
        x, y = length * np.cos(angle), length * np.sin(angle)
        cap = np.column_stack([x, y, np.sqrt(1 - length**2)])
        # As many neighbours as there are points: every point has the tangent plane of the cap.
        projector = TangentProjector(n_components=2, n_neighbors=60).fit(cap)
        return np.linalg.norm(projector.transform(cap) - cap, axis=1).mean()

    errors = np.array([error(radius) for radius in (0.4, 0.2, 0.1, 0.05)])
    assert_allclose(errors[:-1] / errors[1:], 4, rtol=0.15)


@few_examples
@given(SEEDS)
def test_equivariant_under_rotation_and_translation(seed):
    rng = np.random.default_rng(seed)
    reference, X, V = anisotropic(rng, 60), anisotropic(rng, 5), anisotropic(rng, 5)
    projector = TangentProjector(n_components=2).fit(reference)
    indices, _ = projector.neighborhoods(X)
    for neighbors in reference[indices]:
        variances = np.linalg.eigvalsh(np.cov(neighbors.T))[::-1]
        assume(variances[2] < 0.9 * variances[1])
    rotation, shift = ortho_group.rvs(6, random_state=rng), rng.normal(size=6)
    moved = TangentProjector(n_components=2).fit(reference @ rotation + shift)
    X_moved = X @ rotation + shift
    assert_allclose(moved.transform(X_moved), projector.transform(X) @ rotation + shift, atol=1e-8)
    assert_allclose(
        moved.project(V @ rotation, X_moved), projector.project(V, X) @ rotation, atol=1e-8
    )


@pytest.mark.parametrize("alpha_bar", [0.9, 0.3])
def test_isotropic_noise_on_chosen_neighbours_leaves_the_tangent_space(alpha_bar):
    rng = np.random.default_rng(0)
    neighbors = anisotropic(rng, 12) * 4
    _, basis = local_basis(neighbors[None], n_components=2)
    clean = np.cov(neighbors.T, bias=True)

    n_copies = 50_000
    noise = rng.normal(size=(12, n_copies, 6))
    noised = np.sqrt(alpha_bar) * neighbors[:, None] + np.sqrt(1 - alpha_bar) * noise
    covariance = np.cov(noised.reshape(-1, 6).T, bias=True)
    assert_allclose(covariance, alpha_bar * clean + (1 - alpha_bar) * np.eye(6), atol=0.05)
    top = np.linalg.eigh(covariance)[1][:, -2:]
    assert_allclose(projections(basis)[0], top @ top.T, atol=0.01)


@few_examples
@given(projectors())
def test_batch_of_one_equals_row_of_a_batch(case):
    projector, X, V = case
    for row in (0, 3):
        one = slice(row, row + 1)
        assert_allclose(projector.transform(X[one]), projector.transform(X)[one], atol=1e-8)
        assert_allclose(projector.project(V[one], X[one]), projector.project(V, X)[one], atol=1e-8)


def test_small_working_memory_gives_the_same_result():
    rng = np.random.default_rng(0)
    projector = TangentProjector().fit(rng.normal(size=(30, 1000)))
    X = rng.normal(size=(20, 1000))
    with config_context(working_memory=1):
        batched = projector.transform(X)
    assert_allclose(batched, projector.transform(X), atol=1e-10)


def test_unit_radius_gives_the_nearest_neighbours():
    rng = np.random.default_rng(0)
    reference, X = anisotropic(rng, 80), anisotropic(rng, 20)
    by_k = TangentProjector(n_neighbors=9).fit(reference)
    by_radius = TangentProjector(n_neighbors=9, radius=1.0).fit(reference)
    assert_array_equal(by_k.neighborhoods(X)[0], by_radius.neighborhoods(X)[0])
    assert_allclose(by_k.transform(X), by_radius.transform(X))
    assert_allclose(by_k.transform(X), by_k.fit(reference).transform(X))


def test_radius_takes_exactly_the_reference_points_within():
    rng = np.random.default_rng(0)
    reference, X = anisotropic(rng, 80), anisotropic(rng, 20)
    projector = TangentProjector(n_neighbors=5, radius=2.0).fit(reference)
    indices, weights = projector.neighborhoods(X)
    distances = np.linalg.norm(X[:, None] - reference, axis=2)
    scales = np.sort(distances, axis=1)[:, 4]
    assert_allclose(projector.neighbor_distances(X), scales)
    for row in range(len(X)):
        inside = np.flatnonzero(distances[row] <= 2.0 * scales[row])
        assert_array_equal(np.sort(indices[row][weights[row] > 0]), inside)
        assert_allclose(weights[row][weights[row] > 0], 1 / len(inside))


@pytest.mark.parametrize("alpha_bar", [None, 0.3])
@pytest.mark.parametrize(("n_reference", "n_features"), [(60, 5), (200, 150), (400, 150)])
def test_planes_of_several_radii_are_those_of_each(n_reference, n_features, alpha_bar):
    """Neighbourhoods of a few points, and of nearly all where there are many."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, n_features + 1) ** -0.5
    reference = scales * rng.normal(size=(n_reference, n_features))
    projector = TangentProjector(n_components=2, n_neighbors=6, alpha_bar=alpha_bar).fit(reference)
    X, radii = reference[:3] + 0.1, [2.5, 1.0, 1.5]
    means, bases = projector.tangent_bases(X, radius=radii)
    assert means.shape == (3, 3, n_features)
    shrunk = 1.0 if alpha_bar is None else alpha_bar**0.5
    for j, radius in enumerate(radii):
        mean, basis = projector.tangent_bases(X, radius=radius)
        assert_allclose(means[:, j], mean, atol=1e-10)
        assert_allclose(projections(bases[:, j]), projections(basis), atol=1e-8)
        indices, weights = projector.neighborhoods(X, radius=radius)
        for i in range(len(X)):
            members, w = reference[indices[i]], weights[i]
            assert_allclose(mean[i], shrunk * (w @ members), atol=1e-10)
            deviations = np.sqrt(w)[:, None] * (members - w @ members)
            top = np.linalg.eigh(deviations.T @ deviations)[1][:, -2:]
            assert_allclose(basis[i].T @ basis[i], top @ top.T, atol=1e-8)


def test_wider_radius_holds_the_narrower_neighbourhood():
    rng = np.random.default_rng(0)
    projector = TangentProjector().fit(anisotropic(rng, 200))
    X = anisotropic(rng, 10)
    narrower = None
    for radius in (0.1, 0.5, 1.0, 1.4, 2.0, 4.0):
        indices, weights = projector.neighborhoods(X, radius=radius)
        members = [set(i[w > 0]) for i, w in zip(indices, weights, strict=True)]
        assert min(map(len, members)) >= 4
        if narrower is not None:
            assert all(small <= large for small, large in zip(narrower, members, strict=True))
        narrower = members
        assert_allclose(
            projector.tangent_bases(X, radius=radius)[0],
            [projector.reference_[list(m)].mean(axis=0) for m in members],
        )


@pytest.mark.parametrize(
    ("reference", "rank"),
    [
        (np.ones((20, 5)), 0),
        (np.full((20, 5), 1e5 / 3), 0),
        (np.repeat(np.eye(5)[:2], 10, axis=0), 1),
        (np.ones((1, 5)), 0),
        (np.eye(5)[:3] + 7, 2),
        (np.outer(np.arange(20.0), [1, 0, 0, 0, 0]) + 0.1, 1),
    ],
    ids=["constant", "inexact constant", "duplicates", "one row", "three rows", "constant columns"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", [{}, {"radius": 2.0}, {"alpha_bar": 0.5}])
def test_degenerate_data_gives_a_smaller_rank(reference, rank, dtype, options):
    projector = TangentProjector(n_neighbors=20, **options).fit(reference.astype(dtype))
    X = np.random.default_rng(0).normal(size=(4, 5)).astype(dtype)
    _, bases = projector.tangent_bases(X)
    assert np.isfinite(bases).all()
    assert np.isfinite(projector.transform(X)).all()
    assert_array_equal(np.any(bases != 0, axis=2).sum(axis=1), rank)


def test_ridge_drops_directions_of_little_variance():
    neighbors = np.random.default_rng(0).normal(size=(1, 200, 3)) * [1.0, 0.3, 0.01]
    for ridge, rank in ((0.0, 3), (1e-6, 3), (1e-3, 2), (0.2, 1), (1.0, 0)):
        _, basis = local_basis(neighbors, n_components=3, ridge=ridge)
        assert np.any(basis != 0, axis=2).sum() == rank


def test_rounding_is_no_direction_of_the_data():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(6, 30, 1)) * rng.normal(size=(6, 1, 50))
    for neighbors in (line, line.astype(np.float32)):
        offsets = neighbors - 3
        gram = np.matmul(offsets, offsets.transpose(0, 2, 1))
        for given_gram in (None, gram):
            _, basis = local_basis(neighbors, n_components=3, ridge=0, gram=given_gram)
            assert_array_equal(np.any(basis != 0, axis=2).sum(axis=1), 1)


def test_orthonormal_in_float32_however_unlike_the_variances():
    rng = np.random.default_rng(0)
    neighbors = rng.normal(size=(20, 12, 64)) * 0.01
    neighbors[:, :, :1] = 2 * rng.normal(size=(20, 12, 1))
    _, basis = local_basis(neighbors.astype(np.float32), n_components=3)
    assert_allclose(
        np.matmul(basis, basis.transpose(0, 2, 1)), np.tile(np.eye(3), (20, 1, 1)), atol=1e-6
    )


def test_noisy_points_are_put_onto_the_plane_of_the_noisy_data():
    rng = np.random.default_rng(0)
    reference, alpha_bar = anisotropic(rng, 100), 0.6
    X = np.sqrt(alpha_bar) * anisotropic(rng, 5) + np.sqrt(1 - alpha_bar) * rng.normal(size=(5, 6))
    projector = TangentProjector(2, n_neighbors=10, alpha_bar=alpha_bar).fit(reference)
    indices, weights = projector.neighborhoods(X)
    distances = np.linalg.norm(X[:, None] - np.sqrt(alpha_bar) * reference, axis=2)
    assert_array_equal(indices, np.argsort(distances, axis=1)[:, :10])
    assert_allclose(weights, posterior_weights(X, reference[indices], alpha_bar, 3))
    means, bases = projector.tangent_bases(X)
    mean, basis = local_basis(reference[indices], weights, n_components=2)
    assert_allclose(means, np.sqrt(alpha_bar) * mean)
    assert_allclose(projections(bases), projections(basis))


@few_examples
@given(SEEDS, st.floats(0.001, 1.0), st.floats(1e-3, 1e3), st.integers(1, 8))
def test_posterior_weights_are_as_broad_as_asked(seed, alpha_bar, scale, min_effective):
    rng = np.random.default_rng(seed)
    neighbors = scale * rng.normal(size=(5, 8, 3))
    x_t = scale * rng.normal(size=(5, 3))
    weights = posterior_weights(x_t, neighbors, alpha_bar, min_effective)
    assert_allclose(weights.sum(axis=1), 1)
    effective = 1 / np.sum(weights**2, axis=1)
    assert np.all(effective >= min_effective * (1 - 1e-7))
    if alpha_bar == 1.0:
        return
    distances = np.linalg.norm(x_t[:, None] - np.sqrt(alpha_bar) * neighbors, axis=2)
    exact = softmax(-(distances**2) / (2 * (1 - alpha_bar)), axis=1)
    broad = 1 / np.sum(exact**2, axis=1) >= min_effective * (1 + 1e-9)
    assert_allclose(weights[broad], exact[broad], rtol=1e-6, atol=1e-12)
    # Tempered no further than needed, and the order of the neighbours is kept.
    assert_allclose(effective[~broad], min_effective, rtol=1e-6)
    order = np.argsort(distances, axis=1)
    assert np.all(np.diff(np.take_along_axis(weights, order, axis=1), axis=1) <= 1e-15)


@pytest.mark.parametrize("alpha_bar", [0.3, 0.9999])
def test_padding_has_no_weight_even_where_it_is_nearest(alpha_bar):
    rng = np.random.default_rng(0)
    x_t, neighbors = rng.normal(size=(5, 3)), 50 * rng.normal(size=(5, 8, 3))
    neighbors[:, 2] = x_t / np.sqrt(alpha_bar)
    present = np.ones((5, 8))
    present[:, 2] = 0
    weights = posterior_weights(x_t, neighbors, alpha_bar, 4, present=present)
    others = np.delete(neighbors, 2, axis=1)
    assert_array_equal(weights[:, 2], 0)
    assert_allclose(
        np.delete(weights, 2, axis=1), posterior_weights(x_t, others, alpha_bar, 4), atol=1e-12
    )


def test_zero_weight_is_absence():
    rng = np.random.default_rng(0)
    neighbors = rng.normal(size=(3, 8, 20))
    weights = rng.uniform(size=(3, 8))
    weights[:, 5:] = 0
    padded = local_basis(neighbors, weights, n_components=2)
    short = local_basis(neighbors[:, :5], weights[:, :5], n_components=2)
    assert_allclose(padded[0], short[0])
    assert_allclose(projections(padded[1]), projections(short[1]), atol=1e-12)


def test_weighted_basis_spans_the_top_of_the_weighted_covariance():
    rng = np.random.default_rng(0)
    neighbors, weights = rng.normal(size=(4, 12, 5)), rng.uniform(size=(4, 12))
    mean, basis = local_basis(neighbors, weights, n_components=2)
    for z, w, m, U in zip(neighbors, weights, mean, basis, strict=True):
        assert_allclose(m, np.average(z, axis=0, weights=w))
        top = np.linalg.eigh(np.cov(z.T, aweights=w, bias=True))[1][:, :-3:-1]
        assert_allclose(np.abs(U @ top), np.eye(2), atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_gram_matrix_about_any_origin_changes_nothing(weighted):
    rng = np.random.default_rng(0)
    neighbors = rng.normal(size=(4, 12, 40)) + 3
    weights = rng.uniform(size=(4, 12)) if weighted else None
    mean, basis = local_basis(neighbors, weights, n_components=3)
    for origin in (0.0, 3.0, neighbors.mean(axis=1, keepdims=True)):
        offsets = neighbors - origin
        gram = np.matmul(offsets, offsets.transpose(0, 2, 1))
        mean_gram, basis_gram = local_basis(neighbors, weights, n_components=3, gram=gram)
        assert_allclose(mean_gram, mean)
        assert_allclose(projections(basis_gram), projections(basis), atol=1e-10)


@pytest.mark.parametrize("n_features", [4, 300])
def test_torch_equals_numpy(n_features):
    rng = np.random.default_rng(0)
    neighbors = anisotropic(rng, 5 * 12, n_features).reshape(5, 12, n_features)
    x_t = rng.normal(size=(5, n_features))
    weights = posterior_weights(x_t, neighbors, 0.9, 4)
    mean, basis = local_basis(neighbors, weights, n_components=3)
    z = torch.as_tensor(neighbors)
    weights_torch = posterior_weights(torch.as_tensor(x_t), z, 0.9, 4)
    mean_torch, basis_torch = local_basis(z, weights_torch, n_components=3, gram=z @ z.mT)
    assert isinstance(basis_torch, torch.Tensor)
    assert_allclose(weights_torch.numpy(), weights, atol=1e-10)
    assert_allclose(mean_torch.numpy(), mean, atol=1e-10)
    assert_allclose(projections(basis_torch.numpy()), projections(basis), atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_floats_are_computed_in_float32(dtype):
    torch_rng = torch.Generator().manual_seed(0)
    z = torch.randn(4, 12, 64, generator=torch_rng).to(dtype)
    weights = posterior_weights(z[:, 0], z, 0.5, 4)
    mean, basis = local_basis(z, weights, n_components=3)
    assert weights.dtype == mean.dtype == basis.dtype == torch.float32
    reference = local_basis(z.double(), weights, n_components=3)[1].numpy()
    assert_allclose(projections(basis.numpy()), projections(reference), atol=1e-4)
    assert_allclose((basis @ basis.mT).numpy(), np.tile(np.eye(3), (4, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"radius": 1.5}, {"alpha_bar": 0.5}])
def test_float32_in_float32_out(options):
    rng = np.random.default_rng(0)
    reference, X = anisotropic(rng, 60), anisotropic(rng, 10)
    double = TangentProjector(**options).fit(reference)
    single = TangentProjector(**options).fit(reference.astype(np.float32))
    X32 = X.astype(np.float32)
    results = [
        single.transform(X32),
        single.project(X32, X32),
        single.normal(X32, X32),
        *single.tangent_bases(X32),
        single.neighborhoods(X32)[1],
    ]
    assert [r.dtype for r in results] == [np.float32] * len(results)
    assert_allclose(results[0], double.transform(X), atol=1e-4)


def test_bad_input_is_refused():
    X = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(NotFittedError):
        TangentProjector().project(X, X)
    projector = TangentProjector().fit(X)
    with pytest.raises(ValueError, match=r"same shape, got \(19, 4\) and \(20, 4\)"):
        projector.project(X[1:], X)
    with pytest.raises(ValueError, match="V contains NaN"):
        projector.normal(np.full_like(X, np.nan), X)
    with pytest.raises(ValueError, match="radius must be a positive number, got 0"):
        projector.tangent_bases(X, radius=0)
    with pytest.raises(ValueError, match="'alpha_bar' parameter"):
        TangentProjector(alpha_bar=1.0).fit(X)


def test_points_far_from_zero_have_the_neighbours_that_they_have_at_zero():
    # Whole numbers, which a shift does not round.
    X = np.random.default_rng(0).integers(0, 2**20, size=(300, 20)).astype(float)
    far = X + 2.0**46
    near, moved = TangentProjector().fit(X), TangentProjector().fit(far)
    assert_array_equal(moved.neighborhoods(far)[0], near.neighborhoods(X)[0])
    assert_array_equal(moved.neighbor_distances(far), near.neighbor_distances(X))
    assert_allclose(moved.transform(far) - 2.0**46, near.transform(X), atol=2.0)
    # Of points that noise has drawn towards zero.
    noisy = TangentProjector(alpha_bar=0.9).fit(far).neighborhoods(0.9**0.5 * far)[0]
    assert_array_equal(noisy[:, 0], np.arange(300))


def test_at_least_one_radius_is_needed():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match=r"radius=\[\] must hold at least one"):
        TangentProjector().fit(X).tangent_bases(X, radius=[])


@pytest.mark.parametrize("n_features", [3, 200])
def test_points_are_the_same_to_all_batches(n_features, monkeypatch):
    X = np.random.default_rng(0).normal(size=(220, n_features))
    # To a point far from all others, all of them are as far as its neighbours.
    X[0] = 1e3
    projector = TangentProjector(radius=1.2, n_neighbors=5).fit(X)

    def results():
        bases = projector.tangent_bases(X, radius=[0.5, 2.0])[1]
        # Bases may point the other way.
        return projector.transform(X), projector.project(X[::-1], X), np.abs(bases)

    at_once = results()
    monkeypatch.setattr("skdistill.tangent.POINTS_AT_ONCE", 7)
    for expected, found in zip(at_once, results(), strict=True):
        assert_allclose(found, expected, atol=1e-9)
