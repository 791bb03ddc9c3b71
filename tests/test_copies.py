import math

import numpy as np
import pytest
from drawn_sets import grid_rows
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from skdistill import metrics
from skdistill.datasets import load_digits_split

X, X_TEST, _, _ = load_digits_split()


@given(grid_rows(2), grid_rows(1))
@settings(max_examples=100, deadline=None)
def test_copying_against_its_definition(real, synthetic):
    check = metrics.copying(real, synthetic)
    to_real = cdist(synthetic.astype(float), real.astype(float))
    among_real = cdist(real.astype(float), real.astype(float))
    np.fill_diagonal(among_real, np.inf)
    assert_allclose(check.distances, to_real.min(axis=1), atol=1e-12)
    assert_allclose(check.real_distances, among_real.min(axis=1), atol=1e-12)
    assert_allclose(to_real[np.arange(len(synthetic)), check.indices], check.distances, atol=1e-12)


def test_exact_and_near_copies_are_found():
    rng = np.random.default_rng(0)
    originals = rng.choice(len(X), size=50, replace=False)
    for noise in (0.0, 0.5):
        copies = X[originals] + noise * rng.normal(size=X[originals].shape)
        check = metrics.copying(X, copies)
        assert_array_equal(check.indices, originals)
        assert check.copied_share == 1.0
        assert check.ratio < 0.3
    mixed = metrics.copying(X, np.concatenate([X[originals], X_TEST[:50]]))
    assert_array_equal(mixed.distances[:50], 0.0)
    assert 0.5 <= mixed.copied_share < 0.65


def test_independent_real_images_are_no_copies():
    check = metrics.copying(X, X_TEST)
    assert check.ratio == pytest.approx(1.0, abs=0.1)
    assert check.copied_share < 0.1


def test_exact_copies_are_found_among_duplicates():
    real = np.repeat(X[:200], 2, axis=0)
    check = metrics.copying(real, np.concatenate([X[:10], X_TEST[:30]]))
    assert_array_equal(check.real_distances, 0.0)
    assert check.copied_share == 0.25
    assert math.isnan(check.ratio)


def test_rows_are_told_from_their_near_duplicates_by_their_index():
    rows = np.random.default_rng(0).normal(size=(50, 20))
    # So near that rounding decides which of the two seems the nearer.
    check = metrics.copying(np.concatenate([rows, rows + 1e-10]), rows)
    assert_allclose(check.real_distances, 1e-10 * np.sqrt(20), rtol=1e-4)


@pytest.mark.parametrize(("far", "n_far"), [(1e8, 200), (1e12, 1)])
def test_copies_are_found_though_some_rows_are_far_away(far, n_far):
    real = np.random.default_rng(0).normal(size=(400, 20))
    real[:n_far] += far
    check = metrics.copying(real, real[5:45])
    assert check.copied_share == 1.0
    assert_array_equal(check.indices, np.arange(5, 45))
    expected = cdist(real, real)
    np.fill_diagonal(expected, np.inf)
    # An origin far from most rows takes digits of them.
    assert_allclose(check.real_distances, expected.min(axis=1), rtol=1e-6)
