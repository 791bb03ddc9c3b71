import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdistill.guidance import (
    Guidance,
    PreparedTangents,
    Targets,
    kernel_rate,
    prepare_targets,
    project,
    pull_to_centroid,
    pull_to_plane,
    radius_multipliers,
)
from skdistill.tangent import TangentProjector

seeds = st.integers(0, 10_000)
weights = st.floats(0.0, 1.0)


def problem(seed, n=5, n_components=2, n_features=6):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    x0, centroid = torch.randn(2, n, n_features, **options)
    basis, _ = torch.linalg.qr(torch.randn(n, n_features, n_components, **options))
    return x0, centroid, basis.mT


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "imq"])
@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_kernel_rate_is_the_gradient_of_the_log_affinity(kernel, bandwidth):
    c = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = torch.tensor([0.3, 0.4, -1.0], dtype=torch.float64, requires_grad=True)
    r = torch.linalg.vector_norm(c - x)
    log_affinity = {
        "rbf": -(r**2) / (2 * bandwidth**2),
        "laplace": -r / bandwidth,
        "imq": -0.5 * torch.log(r**2 + bandwidth**2),
    }[kernel]
    (gradient,) = torch.autograd.grad(log_affinity, x)
    expected = kernel_rate(r.detach()[None], kernel, bandwidth) * (c - x.detach())
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "imq"])
def test_pull_vanishes_at_the_centroid(kernel):
    x0 = torch.zeros(2, 3)
    targets = Targets(centroid=x0.clone(), scale=torch.ones(2))
    guided = Guidance(strength=1.0, kernel=kernel).correct(x0, x0, 0.5, 0, targets)
    assert torch.equal(guided, x0)


@settings(deadline=None, max_examples=50)
@given(seeds, weights)
def test_pull_leaves_the_normal_part_untouched(seed, weight):
    x0, centroid, basis = problem(seed)
    moved = pull_to_centroid(x0, centroid, torch.full((5,), weight), basis)
    torch.testing.assert_close(moved - project(moved, basis), x0 - project(x0, basis))


@settings(deadline=None, max_examples=50)
@given(seeds, weights)
def test_pull_is_a_convex_combination_within_the_tangent_space(seed, weight):
    x0, centroid, basis = problem(seed)
    moved = pull_to_centroid(x0, centroid, torch.full((5,), weight), basis)
    expected = (1 - weight) * project(x0, basis) + weight * project(centroid, basis)
    torch.testing.assert_close(project(moved, basis), expected)
    before = torch.linalg.vector_norm(centroid - x0, dim=1)
    after = torch.linalg.vector_norm(centroid - moved, dim=1)
    assert (after <= before + 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(seeds, weights)
def test_pull_to_the_plane_leaves_the_tangential_part_untouched(seed, weight):
    x0, mean, basis = problem(seed)
    scale = torch.ones(5, dtype=torch.float64)
    moved = pull_to_plane(x0, mean, basis, weight, scale)
    torch.testing.assert_close(project(moved, basis), project(x0, basis))

    def height(x):
        return torch.linalg.vector_norm(x - mean - project(x - mean, basis), dim=1)

    torch.testing.assert_close(
        height(moved), height(x0) * (1 - weight * torch.tanh(height(x0))), atol=1e-12, rtol=1e-9
    )


@settings(deadline=None, max_examples=30)
@given(
    seeds,
    st.sampled_from(["rbf", "laplace", "imq"]),
    st.floats(0.0, 1.0),
    st.floats(0.01, 10.0),
    st.floats(0.0, 1000.0),
)
def test_a_clipped_correction_never_overshoots(seed, kernel, strength, bandwidth, rate):
    x0, centroid, basis = problem(seed)
    planes = PreparedTangents(x0[None], basis[None])
    targets = Targets(centroid, torch.full((5,), 0.7, dtype=torch.float64), planes)
    guidance = Guidance(strength=strength, kernel=kernel, bandwidth=bandwidth)
    moved = guidance.correct(x0, x0, 0.5, 0, targets, rate=rate)
    before, after = (project(centroid - x, basis) for x in (x0, moved))
    # What is left of the way leads on in the same direction.
    assert ((before * after).sum(dim=1) >= -1e-9).all()


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0.0, 1.0), st.floats(0.0, 1000.0))
def test_a_clipped_pull_to_the_plane_does_not_cross_it(seed, normal_strength, rate):
    x0, mean, basis = problem(seed)
    planes = PreparedTangents(mean[None], basis[None])
    targets = Targets(x0, torch.full((5,), 0.7, dtype=torch.float64), planes)
    guidance = Guidance(strength=0.0, normal_strength=normal_strength)
    moved = guidance.correct(x0, x0, 0.5, 0, targets, rate=rate)
    before, after = (x - mean - project(x - mean, basis) for x in (x0, moved))
    assert ((before * after).sum(dim=1) >= -1e-9).all()


def test_a_rate_is_a_factor_on_both_strengths():
    x0, centroid, basis = problem(0)
    planes = PreparedTangents(centroid[None] + 1.0, basis[None])
    targets = Targets(centroid, torch.ones(5, dtype=torch.float64), planes)
    one, other = (
        Guidance(strength=0.1 * f, normal_strength=0.2 * f, clip=False) for f in (1.0, 3.0)
    )
    torch.testing.assert_close(
        one.correct(x0, x0, 0.5, 0, targets, rate=3.0), other.correct(x0, x0, 0.5, 0, targets)
    )


def test_each_guided_step_has_its_stage_and_the_last_one_stays():
    """Two planes, of which only the first one has the direction to the centroid."""
    bases = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    planes = PreparedTangents(torch.zeros(2, 1, 2), bases)
    targets = Targets(torch.tensor([[3.0, 5.0]]), torch.ones(1), planes)
    x0 = torch.zeros(1, 2)
    guidance = Guidance(strength=1.0, stages=2)
    moved = [guidance.correct(x0, x0, 0.5, step, targets)[0].tolist() for step in range(3)]
    assert moved == [[3.0, 0.0], [0.0, 5.0], [0.0, 5.0]]


@pytest.mark.parametrize(("kernel", "rate"), [("rbf", 1.0), ("laplace", 1 / 2), ("imq", 1 / 5)])
def test_kernel_distances_are_in_units_of_the_targets_scale(kernel, rate):
    """At a distance of 4 and a scale of 2 the kernel sees r = 2."""
    targets = Targets(torch.tensor([[4.0, 0.0]]), torch.tensor([2.0]))
    guided = Guidance(strength=0.5, kernel=kernel).correct(torch.zeros(1, 2), None, 0.5, 0, targets)
    torch.testing.assert_close(guided, torch.tensor([[0.5 * rate * 4.0, 0.0]]))


def test_the_normal_pull_is_to_the_plane_through_the_mean_of_the_neighbours():
    """The plane y = 1, the centroid 4 above it and the prediction 3 above it."""
    planes = PreparedTangents(torch.tensor([[[7.0, 1.0]]]), torch.tensor([[[[1.0, 0.0]]]]))
    targets = Targets(torch.tensor([[2.0, 5.0]]), torch.tensor([2.0]), planes)
    x0 = torch.tensor([[2.0, 4.0]])
    guided = Guidance(strength=0.3, normal_strength=0.5).correct(x0, None, 0.5, 0, targets)
    height = 3.0 * (1.0 - 0.5 * math.tanh(3.0 / 2.0))
    torch.testing.assert_close(guided, torch.tensor([[2.0, 1.0 + height]]))


def test_without_clipping_the_paper_form_overshoots():
    x0, centroid, _ = problem(0)
    targets = Targets(centroid, torch.ones(5, dtype=torch.float64))
    moved = Guidance(strength=0.1, clip=False).correct(x0, x0, 0.5, 0, targets, rate=190.0)
    torch.testing.assert_close(moved, x0 + 19.0 * (centroid - x0))


@pytest.mark.parametrize("annealing", ["exponential", "linear", "cosine"])
def test_radii_shrink_from_the_multiplier_to_one(annealing):
    radii = radius_multipliers(annealing, max_multiplier=3.0, warm_steps=4)
    assert len(radii) == 5
    assert radii[0] == pytest.approx(3.0)
    assert radii[-1] == pytest.approx(1.0)
    assert (np.diff(radii) < 0).all()


def test_exponential_radii_follow_the_formula():
    radii = radius_multipliers("exponential", max_multiplier=2.0, warm_steps=5)
    np.testing.assert_allclose(radii, [2 ** (1 - i / 5) for i in range(6)])


def test_cosine_radii_follow_the_formula():
    radii = radius_multipliers("cosine", max_multiplier=3.0, warm_steps=4)
    expected = [1.0 + 2.0 * (1.0 + math.cos(math.pi * i / 4)) / 2.0 for i in range(5)]
    np.testing.assert_allclose(radii, expected)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="kernel='gauss' must be one of 'rbf'"):
        kernel_rate(torch.ones(1), "gauss")
    with pytest.raises(ValueError, match="annealing='gauss' must be one of 'exponential'"):
        radius_multipliers("gauss")


def test_no_annealing_is_one_radius():
    assert radius_multipliers(None, 2.0, 5) == [1.0]


def test_the_interval_and_zero_strength_decide_what_is_guided():
    guidance = Guidance(strength=0.1, interval=(0.2, 0.5))
    covered = [guidance.covers(f) for f in (0.0, 0.2, 0.49, 0.5, 1.0)]
    assert covered == [False, True, True, False, False]
    # As fractions of whole steps are.
    assert guidance.covers(0.1 + 0.1 - 1e-9)
    assert not guidance.covers(0.5 - 1e-9)
    assert not Guidance(strength=0.0).covers(0.2)
    assert Guidance(strength=0.0, normal_strength=0.1).covers(0.2)


@pytest.fixture
def fitted_projectors():
    generator = np.random.default_rng(0)
    return [
        TangentProjector(n_components=2, n_neighbors=6).fit(generator.normal(size=(n, 5)) + 10 * k)
        for k, n in enumerate((60, 4))
    ]


@pytest.mark.parametrize("tangents", ["prepared", "posterior"])
def test_targets_of_a_sample_do_not_depend_on_its_batch(fitted_projectors, tangents):
    centers = np.concatenate([p.reference_[:3] for p in fitted_projectors])
    classes = np.repeat([0, 1], 3)
    options = {"radii": [2.0, 1.0], "tangents": tangents}
    assigned = np.array([4, 0, 5, 0, 2])
    together = prepare_targets(centers, classes, assigned, fitted_projectors, **options)
    x_t = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for i, center in enumerate(assigned):
        alone = prepare_targets(centers, classes, [center], fitted_projectors, **options)
        torch.testing.assert_close(alone.centroid[0], together.centroid[i])
        torch.testing.assert_close(alone.scale[0], together.scale[i])
        for stage in (0, 1):
            mean, basis = together.tangent(x_t, 0.3, stage)
            mean_alone, basis_alone = alone.tangent(x_t[i : i + 1], 0.3, stage)
            torch.testing.assert_close(mean_alone[0], mean[i])
            torch.testing.assert_close(
                basis_alone[0].mT @ basis_alone[0], basis[i].mT @ basis[i], atol=1e-8, rtol=1e-6
            )


@pytest.mark.parametrize("n_features", [5, 300])
def test_inner_products_are_made_for_many_features_only(n_features):
    X = np.random.default_rng(0).normal(size=(80, n_features))
    projector = TangentProjector(n_components=2, n_neighbors=6).fit(X)
    targets = prepare_targets(
        X[:2], np.zeros(2, int), [0, 1], [projector], radii=[1.0], tangents="posterior"
    )
    assert (targets.tangent.gram is None) is (n_features == 5)


@pytest.mark.parametrize("tangents", ["prepared", "posterior", None])
def test_the_scale_is_the_distance_to_the_last_of_the_neighbours(tangents):
    """Three neighbours on two lines; a centroid that is itself a row is its own first one."""
    line = np.array([0.0, 1.0, 3.0, 7.0, 20.0])
    projectors = [
        TangentProjector(n_components=1, n_neighbors=3).fit(np.outer(step * line, [0.6, 0.8]))
        for step in (1.0, 10.0)
    ]
    targets = prepare_targets(
        np.outer([0.0, 7.5, 10.0], [0.6, 0.8]),
        np.array([0, 0, 1]),
        np.array([2, 0, 1]),
        projectors,
        radii=[1.0],
        tangents=tangents,
    )
    np.testing.assert_allclose(targets.scale, [20.0, 3.0, 6.5])


def test_prepared_planes_are_those_of_the_projector_at_each_radius(fitted_projectors):
    centers = fitted_projectors[0].reference_[:2]
    targets = prepare_targets(
        centers, np.zeros(2, int), np.array([1, 0]), fitted_projectors, radii=[3.0, 1.0]
    )
    for stage, radius in enumerate([3.0, 1.0]):
        mean, basis = targets.tangent(None, None, stage)
        expected = fitted_projectors[0].tangent_bases(centers[[1, 0]], radius=radius)
        np.testing.assert_allclose(mean, expected[0])
        np.testing.assert_allclose(basis, expected[1])


def test_radii_are_multiples_of_the_projectors_own():
    X = np.random.default_rng(0).normal(size=(60, 5))
    wide, plain = (
        TangentProjector(n_components=2, n_neighbors=6, radius=radius).fit(X)
        for radius in (2.0, None)
    )
    options = [X[:2], np.zeros(2, int), np.array([0, 1])]
    targets = prepare_targets(*options, [wide], radii=[1.5])
    means, _ = plain.tangent_bases(X[:2], radius=3.0)
    np.testing.assert_allclose(targets.tangent(None, None, 0)[0], means)


def test_the_padding_of_a_small_class_has_no_weight(fitted_projectors):
    """Under much noise all rows of the class count alike, and only these."""
    rows = fitted_projectors[1].reference_
    targets = prepare_targets(
        rows[:1], np.ones(1, int), [0], fitted_projectors, radii=[1.0], tangents="posterior"
    )
    mean, _ = targets.tangent(torch.zeros(1, 5, dtype=torch.float64), 1e-9, 0)
    np.testing.assert_allclose(mean[0], rows.mean(axis=0), rtol=1e-3)


def test_posterior_tangents_have_all_their_components():
    X = np.random.default_rng(0).normal(size=(300, 40))
    projector = TangentProjector(n_components=32, n_neighbors=2).fit(X)
    targets = prepare_targets(
        X[:1], np.zeros(1, int), [0], [projector], radii=[1.0], tangents="posterior"
    )
    _, basis = targets.tangent(torch.from_numpy(X[:1]), 0.1, 0)
    assert torch.linalg.matrix_rank(basis[0]) == 32


def test_identical_rows_give_finite_targets():
    projector = TangentProjector().fit(np.ones((5, 3)))
    targets = prepare_targets(np.ones((1, 3)), np.zeros(1, int), [0], [projector], radii=[1.0])
    guided = Guidance(strength=0.5, kernel="laplace").correct(
        torch.zeros(1, 3, dtype=torch.float64), None, 0.5, 0, targets
    )
    assert torch.isfinite(guided).all()
