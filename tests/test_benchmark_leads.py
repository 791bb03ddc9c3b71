"""That leads which later methods give can be measured again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skdistill import ManifoldGDDistiller


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("leads")


@pytest.fixture
def few_digits(benchmark):
    X, _, y, _ = benchmark.load("digits")
    rows = np.concatenate([np.flatnonzero(y == label)[:40] for label in range(10)])
    return X[rows], y[rows]


@pytest.fixture
def short(benchmark, few_digits, monkeypatch):
    """Make three images a class, of few digits and in few steps."""
    monkeypatch.setattr(benchmark, "IPC", 3)
    made = ManifoldGDDistiller(
        benchmark.IPC, "digits", value_range=(0, 16), num_inference_steps=12, random_state=0
    ).fit(*few_digits)
    monkeypatch.setattr(benchmark, "distiller", lambda data, seed: made)
    return made


def test_no_lead_makes_what_another_makes(benchmark, short):
    sets = {lead: torch.cat(benchmark.sampled("digits", lead, 0)) for lead in benchmark.LEADS}
    shape = (10 * benchmark.IPC, *short.backbone_.latent_shape)
    assert all(z.shape == shape and z.isfinite().all() for z in sets.values())
    flat = torch.stack(list(sets.values())).flatten(1)
    assert torch.pdist(flat).min() > 0.1


def test_the_default_is_what_the_distiller_samples(benchmark, short, few_digits):
    X_syn, y_syn = benchmark.images("digits", benchmark.DEFAULT, 0, "sampled")
    expected, labels = short.set_params(refiner="passthrough").fit(*few_digits).sample()
    np.testing.assert_array_equal(y_syn, labels)
    # One batch a class there, 64 at a time here.
    np.testing.assert_allclose(X_syn, expected, atol=1.0)
    assert np.mean(X_syn == expected) > 0.99


def test_the_candidates_of_a_centroid_are_its_own_and_begin_with_its_sample(benchmark, short):
    plan = short._plan(benchmark.IPC)
    more = benchmark.several(plan, 4)
    for k in range(10):
        of_class = more.assigned[more.labels == k].reshape(4, benchmark.IPC)
        np.testing.assert_array_equal(of_class, np.tile(plan.assigned[plan.labels == k], (4, 1)))
        np.testing.assert_array_equal(more.indices[more.labels == k], np.arange(12))


ROWS = arrays(np.float64, (5, 3), elements=st.floats(-10, 10, width=32), unique=True)


def test_a_plan_takes_all_of_the_samples_to_all_of_the_mass(benchmark):
    @given(ROWS, arrays(np.float64, 4, elements=st.floats(0.1, 1.0)))
    def check(points, mass):
        mass = torch.from_numpy(mass / mass.sum())
        x, centers = torch.from_numpy(points), torch.from_numpy(points[:4, ::-1].copy())
        plan = benchmark.sinkhorn(x, centers, mass, n_iter=500, regularization=1.0)
        assert (plan >= 0).all()
        torch.testing.assert_close(plan.sum(dim=0), mass)
        torch.testing.assert_close(plan.sum(dim=1), torch.full((5,), 0.2, dtype=mass.dtype))

    check()


def test_repulsion_makes_samples_less_alike(benchmark):
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) + 2.0

    def likeness(x):
        return torch.corrcoef(x).mean()

    apart = benchmark.repel(0.1, guided=False)(None, x).correct(x, None, None, None, None)
    assert likeness(apart) < likeness(x)
    torch.testing.assert_close(apart.mean(dim=0), x.mean(dim=0))


def test_herding_keeps_candidates_that_look_like_the_class(benchmark, short):
    zeros, ones = (torch.from_numpy(np.float32(short._latents[k])) for k in (0, 1))
    z = torch.cat([ones[:20], zeros[:20]]).reshape(-1, *short.backbone_.latent_shape)
    kept = benchmark.herd(short, z, zeros.flatten(1), torch.Generator().manual_seed(0))
    places = [int((z - one).flatten(1).norm(dim=1).argmin()) for one in kept]
    assert len(set(places)) == benchmark.IPC
    assert min(places) >= 20
    assert all(torch.equal(z[place], one) for place, one in zip(places, kept, strict=True))
