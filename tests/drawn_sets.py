"""Sets of rows for hypothesis to draw."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

property_test = settings(max_examples=25, deadline=None)


@st.composite
def two_sets(draw, min_real=7, min_synthetic=2):
    """Gaussian rows of two sets, with their random generator."""
    n_features = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    real = rng.normal(size=(draw(st.integers(min_real, 30)), n_features))
    synthetic = rng.normal(size=(draw(st.integers(min_synthetic, 20)), n_features))
    return real, synthetic + draw(st.floats(-2, 2)), rng


def grid_rows(min_rows, n_features=2):
    """Rows of small whole numbers, full of ties and duplicates."""
    shape = st.tuples(st.integers(min_rows, 12), st.just(n_features))
    return arrays(np.int16, shape, elements=st.integers(0, 4))
