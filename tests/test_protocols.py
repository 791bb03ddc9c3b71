import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skdistill.datasets import load_digits_split
from skdistill.protocols import PROTOCOLS, judges, linear_student

X, X_TEST, Y, Y_TEST = load_digits_split()
FEW = np.concatenate([np.flatnonzero(label == Y)[:10] for label in range(10)])


def test_judges_follow_the_protocol_of_the_data():
    for name, settings in PROTOCOLS.items():
        for student_name, judge in judges(name, device="cpu").items():
            if student_name != "linear":
                assert settings.items() <= judge.get_params().items()
                assert judge.device == "cpu"
    # A mirrored digit is another sign.
    assert judges("digits")["ConvNet-2"].augmentation == ()


@pytest.mark.parametrize("protocol", ["mnist", ["digits"], np.array(["digits", "cifar10"]), 10])
def test_unknown_protocols_are_refused(protocol):
    expected = "must be one of 'digits', 'fashion-mnist', 'cifar10', or None."
    with pytest.raises(ValueError, match=re.escape(f"protocol={protocol!r} {expected}")):
        judges(protocol)


def test_linear_student_takes_images():
    flat = linear_student().fit(X[FEW].reshape(len(FEW), -1), Y[FEW])
    images = linear_student().fit(X[FEW], Y[FEW])
    assert_array_equal(images.predict(X_TEST), flat.predict(X_TEST.reshape(len(X_TEST), -1)))


def test_linear_student_does_not_depend_on_the_units_of_a_feature():
    units = np.logspace(-3, 3, 64)
    rows, rows_test = X.reshape(len(X), 64), X_TEST.reshape(len(X_TEST), 64)
    judge = linear_student().fit(rows[FEW], Y[FEW])
    scaled = linear_student().fit(rows[FEW] * units, Y[FEW])
    assert judge.score(rows_test, Y_TEST) > 0.8
    assert np.mean(judge.predict(rows_test) == scaled.predict(rows_test * units)) > 0.99
