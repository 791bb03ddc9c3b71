import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skdistill.pixels import from_networks, infer_format, infer_value_range, to_networks


@given(arrays(np.uint8, (3, 4, 5, 3)))
def test_bytes_survive_the_way_there_and_back(X):
    x = to_networks(X, (0.0, 255.0))
    assert x.shape == (3, 3, 4, 5)
    assert np.abs(x).max() <= 1.0
    back = from_networks(x, (0.0, 255.0), shape=(4, 5, 3), dtype=X.dtype)
    np.testing.assert_array_equal(back, X)


@given(
    arrays(np.float64, (2, 3, 4), elements=st.floats(-100, 100)),
    st.floats(-50, 0),
    st.floats(1, 50),
)
def test_results_are_clipped_to_the_value_range(X, low, width):
    value_range = (low, low + width)
    x = to_networks(X, value_range, np.float64)
    back = from_networks(x, value_range, shape=(3, 4), dtype=np.float64)
    np.testing.assert_allclose(back, np.clip(X, *value_range), atol=1e-9)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (np.zeros((1, 2, 2), np.uint8), (0, 255)),
        (np.zeros((1, 2, 2), np.uint16), (0, 65535)),
        (np.array([[[3, 200]]]), (3, 200)),
        (np.array([[[0, 1]]]), (0, 1)),
        (np.array([[[0.2, 0.7]]]), (0, 1)),
        (np.array([[[True, False]]]), (0, 1)),
        (np.array([[[-0.2, 0.7]]]), (-0.2, 0.7)),
        (np.full((1, 2, 2), 7.0), (7, 8)),
        # The largest float64 that an int64 can be is 2 ** 63 - 1024.
        (np.array([[[0, 2**63 - 1]]]), (0, 2**63 - 1024)),
    ],
)
def test_value_ranges_are_inferred(X, expected):
    assert infer_value_range(X) == expected


def test_booleans_are_rounded_to_the_nearer_value():
    x = np.array([-0.9, -0.1, 0.1, 0.9]).reshape(1, 1, 2, 2)
    X = from_networks(x, (0.0, 1.0), shape=(2, 2), dtype=bool)
    assert X.tolist() == [[[False, False], [True, True]]]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resized_grey_images_come_back_grey(mode):
    X = np.linspace(0, 255, 2 * 64).reshape(2, 64).astype(np.uint8)
    data_format = infer_format(X, (8, 8), network_shape=(3, 16, 16), resize=mode)
    x = data_format.to_backbone(X)
    assert x.shape == (2, 3, 16, 16)
    assert x.dtype == np.float32
    back = data_format.from_backbone(x)
    assert back.shape == (2, 8, 8)
    assert np.abs(back.reshape(2, 64).astype(int) - X).max() < 40


def test_images_become_bytes_for_files():
    data_format = infer_format(np.array([[0.0, 8.0, 16.0, 4.0]]), (2, 2))
    pixels = data_format.to_uint8(np.array([[[0.0, 8.0], [16.0, 99.0]]]))
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[0, 128], [255, 255]]]


@pytest.mark.parametrize("largest", [1.0, 16.0])
def test_whole_numbers_come_back_as_such_and_fractions_as_fractions(largest):
    rows = np.array([[0.0, 1.0, largest, 1.0]])
    x = np.array([[[[-0.96, 0.97], [0.99, 0.0]]]])
    for known, is_whole in ((rows, True), (rows / 3, False)):
        data_format = infer_format(known, (2, 2), value_range=(0, largest))
        back = data_format.from_backbone(x)
        assert back.dtype == rows.dtype
        assert np.array_equal(back, np.rint(back)) == is_whole


def test_a_range_with_fractions_is_no_reason_to_leave_it():
    data_format = infer_format(np.zeros((1, 4)), (2, 2), value_range=(0.4, 0.6))
    assert data_format.from_backbone(np.ones((1, 1, 2, 2))).max() == 0.6


@pytest.mark.parametrize("value", [2**64 - 1024, 2**64 - 1, 2**53 + 1])
def test_integers_that_float64_rounds_stay_within_what_was_seen(value):
    rows = np.array([[value]], dtype=np.uint64)
    data_format = infer_format(rows, (1,))
    assert data_format.from_backbone(rows.astype(np.float64)).tolist() == [[value]]


def test_a_range_that_the_caller_names_holds_for_integers_too():
    rows = np.array([[0], [9]])
    back = infer_format(rows, (1,), value_range=(2, 5)).from_backbone(np.array([[1.0], [7.0]]))
    assert back.dtype == rows.dtype
    assert back.tolist() == [[2], [5]]


def test_images_far_from_zero_keep_their_contrast():
    X = np.random.default_rng(0).random((3, 4, 4))
    near, far = (to_networks(X + shift, (shift, shift + 1.0)) for shift in (0.0, 1e9))
    assert far.dtype == np.float32
    np.testing.assert_allclose(far, near, atol=1e-6)
