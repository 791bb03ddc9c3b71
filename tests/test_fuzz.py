"""Arrays of every kind: what comes out is right, or an error that names the cause."""

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from skdistill import ManifoldGDDistiller

DTYPES = ("float16", "float32", "float64", "uint8", "int8", "uint16", "int64", "uint64", "bool")
SHAPES = ((), (1,), (3,), (2, 3), (1, 1), (4, 4), (3, 2, 3), (2, 2, 1), (2, 2, 2, 2))
SCALES = (0.0, 1e-300, 1e-38, 1e-8, 1.0, 1e4, 1e30, 1e300)


@st.composite
def rows(draw):
    """Rows, of which the second value says whether there is nothing wrong with them."""
    n = draw(st.integers(0, 12))
    row_shape = draw(st.sampled_from(SHAPES))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = (n, *row_shape)
    if dtype.kind == "f":
        elements = st.floats(-1, 1, width=16, allow_subnormal=False)
        X = draw(hnp.arrays(np.float64, shape, elements=elements))
        scale, offset = draw(st.sampled_from(SCALES)), draw(st.sampled_from((0.0, *SCALES)))
        with np.errstate(over="ignore"):
            X = (X * scale + offset).astype(dtype)
    else:
        X = draw(hnp.arrays(dtype, shape))
        scale = offset = 1.0
    if n and draw(st.booleans()):
        # Duplicated rows.
        X = X[draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))]
    if X.size and draw(st.integers(0, 3)) == 0:
        # A constant feature.
        X[..., 0] = X.flat[0]
    if X.size and dtype.kind == "f" and draw(st.integers(0, 4)) == 0:
        X.flat[draw(st.integers(0, X.size - 1))] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    layout = draw(st.sampled_from(("as it is", "fortran", "strided", "reversed", "read-only")))
    if layout == "fortran":
        X = np.asfortranarray(X)
    elif layout == "strided":
        X = np.repeat(X, 2, axis=0)[::2]
    elif layout == "reversed":
        X = X[::-1]
    elif layout == "read-only":
        X.flags.writeable = False
    sound = n > 0 and len(row_shape) in (1, 2, 3) and bool(np.isfinite(X).all())
    return X, sound and max(scale, offset) <= 1e8


@st.composite
def labels(draw, n):
    kind = draw(st.sampled_from(("int", "str", "bool", "one class")))
    if kind == "one class":
        return np.zeros(n, dtype=int)
    values = {"int": [3, -1, 7], "str": ["b", "a/..", "c\n"], "bool": [False, True]}[kind]
    return np.array(draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)))


@st.composite
def problems(draw):
    X, sound = draw(rows())
    n = draw(st.sampled_from((len(X),) * 9 + (len(X) + 1,)))
    return X, draw(labels(n)), sound and n == len(X), draw(st.integers(1, 5))


def check(problem):
    X, y, sound, ipc = problem
    before = X.copy()
    distiller = ManifoldGDDistiller(
        ipc=ipc, num_inference_steps=2, warm_steps=1, batch_size=4, random_state=0
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            X_syn, y_syn = distiller.fit(X, y).sample()
    except ValueError as error:
        message = str(error)
        if sound or not any(name in message for name in ("X", "array", "y ", "sample", "labels")):
            raise
        return
    assert X_syn.dtype == X.dtype
    assert X_syn.shape == (ipc * len(np.unique(y)), *X.shape[1:])
    np.testing.assert_array_equal(y_syn, np.repeat(np.unique(y), ipc))
    assert np.isfinite(X_syn).all()
    low, high = (np.asarray(bound, dtype=np.float64) for bound in distiller.value_range_)
    assert np.all((X_syn.astype(np.float64) >= low) & (X_syn.astype(np.float64) <= high))
    np.testing.assert_array_equal(X, before)


fuzz = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(fuzz, max_examples=150)
@given(problems())
def test_any_array_gives_a_right_set_or_an_error_that_names_the_cause(problem):
    check(problem)


@pytest.mark.slow
@settings(fuzz, max_examples=10_000, derandomize=False)
@given(problems())
def test_very_many_arrays_give_a_right_set_or_an_error_that_names_the_cause(problem):
    check(problem)


def test_a_class_of_3_rows_beside_one_of_30_000():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [30_000, 3])
    X = rng.normal(size=(len(y), 4)) + 10 * y[:, None]
    distiller = ManifoldGDDistiller(ipc={0: 20, 1: 5}, num_inference_steps=10, random_state=0)
    X_syn, y_syn = distiller.fit(X, y).sample()
    assert np.bincount(y_syn).tolist() == [20, 5]
    assert len(distiller.clusterers_[1].cluster_centers_) == 3
    assert (X_syn[y_syn == 0].mean(axis=1) < 5).all()
    assert (X_syn[y_syn == 1].mean(axis=1) > 5).all()
