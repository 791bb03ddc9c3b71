"""Estimators on torch tensors, which scikit-learn takes only where SCIPY_ARRAY_API is set early.

So the tests of this module are run in a process of their own, by the last of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import estimator_checks_generator

import skdistill
from skdistill import HierarchicalIPC, TangentProjector
from skdistill.array_api import beside, on_host
from skdistill.tree import first_equal_row, squared_distances

DISPATCHES = os.environ.get("SCIPY_ARRAY_API") == "1"
dispatches = pytest.mark.skipif(not DISPATCHES, reason="SCIPY_ARRAY_API is not set")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
on_devices = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=cuda)])
of_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

X, y = load_digits(n_class=3, return_X_y=True)
X = X / 16.0


@pytest.fixture
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


def assert_same(tensor, expected, *, like, rtol=1e-5, atol=1e-5):
    """Check the values of a tensor, and that it is where another is and of the dtype expected."""
    assert isinstance(tensor, torch.Tensor)
    assert tensor.device == like.device
    assert on_host(tensor).dtype == expected.dtype
    np.testing.assert_allclose(on_host(tensor), expected, rtol=rtol, atol=atol)


@dispatches
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pair
        for estimator in (HierarchicalIPC(ipc=3), TangentProjector())
        for pair in estimator_checks_generator(estimator)
        if pair[1].func.__name__.startswith("check_array_api")
    ],
)
def test_scikit_learn_contract_of_tensors(estimator, check):
    check(estimator)


@dispatches
@on_devices
@of_dtypes
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prototype": "medoid", "selection": "leaves"},
        {"criterion": "variance", "n_init": 1, "start_level": 2},
    ],
)
def test_a_hierarchy_of_tensors_is_that_of_arrays(dispatch, place, dtype, options):
    rows = np.concatenate([X, X[:30]]).astype(dtype)
    labels = np.concatenate([y, y[:30]])
    expected = HierarchicalIPC(ipc=6, random_state=0, **options).fit(rows, labels)
    tensor = torch.from_numpy(rows).to(place)
    actual = HierarchicalIPC(ipc=6, random_state=0, **options).fit(tensor, labels)
    for name in (
        "classes_",
        "cluster_centers_",
        "labels_",
        "prototype_classes_",
        "prototype_nodes_",
        "prototype_levels_",
        "prototype_indices_",
    ):
        assert_same(getattr(actual, name), getattr(expected, name), like=tensor)
    for tree, other in zip(actual.trees_, expected.trees_, strict=True):
        np.testing.assert_array_equal(tree.order, other.order)
        np.testing.assert_allclose(tree.sse, other.sse, rtol=1e-5)
        assert isinstance(tree.centers, np.ndarray)
    assert_same(actual.transform(tensor), expected.transform(rows), like=tensor, atol=1e-4)
    assert_same(actual.predict(tensor), expected.predict(rows), like=tensor)


@dispatches
@pytest.mark.parametrize("n_features", [2, 64])
def test_points_and_gram_matrices_split_tensors_alike(dispatch, n_features):
    rows = X[:150, 20 : 20 + n_features]
    expected = HierarchicalIPC(ipc=5, random_state=0).fit(rows)
    actual = HierarchicalIPC(ipc=5, random_state=0).fit(torch.from_numpy(rows))
    assert_same(actual.cluster_centers_, expected.cluster_centers_, like=torch.zeros(1))


@dispatches
def test_labels_may_be_texts_or_tensors(dispatch):
    tensor = torch.from_numpy(X)
    names = np.array(["zero", "one", "two"])[y]
    by_name = HierarchicalIPC(ipc=2, random_state=0).fit(tensor, names)
    assert by_name.classes_.tolist() == ["one", "two", "zero"]
    assert by_name.prototype_classes_.tolist() == ["one"] * 2 + ["two"] * 2 + ["zero"] * 2
    assert isinstance(by_name.cluster_centers_, torch.Tensor)
    by_tensor = HierarchicalIPC(ipc=2, random_state=0).fit(tensor, torch.from_numpy(y))
    by_array = HierarchicalIPC(ipc=2, random_state=0).fit(tensor, y)
    assert torch.equal(by_tensor.prototype_classes_, by_array.prototype_classes_)
    assert torch.equal(by_tensor.cluster_centers_, by_array.cluster_centers_)


@dispatches
def test_a_warm_start_grows_the_tree_of_tensors(dispatch):
    tensor = torch.from_numpy(X)
    grown = HierarchicalIPC(ipc=2, warm_start=True, random_state=0).fit(tensor, y)
    grown.set_params(ipc=5).fit(tensor, y)
    fresh = HierarchicalIPC(ipc=5, random_state=0).fit(tensor, y)
    assert torch.equal(grown.cluster_centers_, fresh.cluster_centers_)


@dispatches
@on_devices
@of_dtypes
@pytest.mark.parametrize(
    "options",
    [{}, {"radius": 1.5, "n_components": 5}, {"alpha_bar": 0.6}, {"n_neighbors": 2}],
)
def test_planes_of_tensors_are_those_of_arrays(dispatch, place, dtype, options):
    # Pixels have few values, and so many neighbours that are equally near.
    jittered = X + np.random.default_rng(1).normal(scale=0.01, size=X.shape)
    reference, points = jittered[:200].astype(dtype), jittered[200:260].astype(dtype)
    vectors = np.random.default_rng(0).normal(size=points.shape).astype(dtype)
    expected = TangentProjector(**options).fit(reference)
    tensors = [torch.from_numpy(a).to(place) for a in (reference, points, vectors)]
    actual = TangentProjector(**options).fit(tensors[0])
    like = tensors[0]
    assert_same(actual.reference_, reference, like=like)
    tolerance = {"atol": 2e-4} if dtype == "float32" else {"atol": 1e-9}
    assert_same(actual.transform(tensors[1]), expected.transform(points), like=like, **tolerance)
    for method in ("project", "normal"):
        found = getattr(actual, method)(tensors[2], tensors[1])
        wanted = getattr(expected, method)(vectors, points)
        assert_same(found, wanted, like=like, **tolerance)
    means, bases = actual.tangent_bases(tensors[1], radius=1.2)
    expected_means, expected_bases = expected.tangent_bases(points, radius=1.2)
    assert_same(means, expected_means, like=like, **tolerance)
    # Directions are found up to their sign.
    spans = np.matmul(np.swapaxes(on_host(bases), 1, 2), on_host(bases))
    expected_spans = np.matmul(np.swapaxes(expected_bases, 1, 2), expected_bases)
    np.testing.assert_allclose(spans, expected_spans, **tolerance)
    indices, weights = actual.neighborhoods(tensors[1])
    expected_indices, expected_weights = expected.neighborhoods(points)
    np.testing.assert_array_equal(on_host(indices), expected_indices)
    assert_same(weights, expected_weights, like=like, **tolerance)
    distances = actual.neighbor_distances(tensors[1])
    np.testing.assert_allclose(on_host(distances), expected.neighbor_distances(points), rtol=1e-5)


@dispatches
def test_a_projector_takes_tensors_of_another_precision_than_it_was_fitted_on(dispatch):
    projector = TangentProjector().fit(torch.from_numpy(X[:200]))
    plane = projector.transform(torch.from_numpy(X[200:210].astype("float32")))
    expected = TangentProjector().fit(X[:200]).transform(X[200:210].astype("float32"))
    assert_same(plane, expected, like=torch.zeros(1))


@dispatches
@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (HierarchicalIPC(ipc=2), "predict"),
        (HierarchicalIPC(ipc=2), "transform"),
        (TangentProjector(), "transform"),
        (TangentProjector(), "tangent_bases"),
    ],
)
def test_another_library_than_in_fit_is_refused(dispatch, estimator, method):
    rows = torch.from_numpy(X[:40])
    name = rf"{type(estimator).__name__}\.{method}\(\)"
    message = f"{name} must use the same namespace .* torch on cpu; got numpy on cpu"
    with pytest.raises(ValueError, match=message):
        getattr(estimator.fit(rows), method)(X[:40])
    with pytest.raises(ValueError, match="must use the same namespace"):
        getattr(estimator.fit(X[:40]), method)(rows)


@on_devices
def test_arrays_go_there_and_back(place):
    like = torch.zeros(1, device=place)
    for array in (np.arange(3), np.array([0.5, -1.0]), np.array([True, False])[::-1]):
        there = beside(array, like)
        assert there.device == like.device
        assert on_host(there).dtype == array.dtype
        np.testing.assert_array_equal(on_host(there), array)
    there[0] = not there[0]
    assert array.tolist() == [False, True]
    assert beside(array, np.zeros(1)) is array
    assert on_host(array) is array


@on_devices
@of_dtypes
def test_rows_are_compared_and_measured_where_they_are(place, dtype):
    rows = X[[0, 1, 0, 2, 1, 0]].astype(dtype)
    tensor = torch.from_numpy(rows).to(place)
    assert first_equal_row(tensor).tolist() == [0, 1, 0, 3, 1, 0]
    np.testing.assert_allclose(
        squared_distances(tensor, X[3]), squared_distances(rows, X[3]), rtol=1e-6
    )


@pytest.mark.skipif(DISPATCHES, reason="this is that process")
def test_the_contract_holds_for_tensors_in_a_process_of_its_own():
    # What is tested here is tested there: the sources or an installed copy.
    place = str(Path(skdistill.__file__).parents[1])
    settings = ["-q", "-o", "pythonpath=", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, __file__],
        env=os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
