import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skdistill.datasets import load_digits_split
from skdistill.students import ConvNetClassifier, ResNetClassifier

X, X_TEST, Y, Y_TEST = load_digits_split()
FEW = np.concatenate([np.flatnonzero(label == Y)[:10] for label in range(10)])


def student(**params):
    return ConvNetClassifier(**{"width": 32, "steps": 60, "random_state": 0} | params)


def test_learns_digits():
    judge = student(width=64, steps=500, batch_size=64)
    assert judge.fit(X, Y).score(X_TEST, Y_TEST) > 0.97


def test_learns_from_few_digits():
    assert student(steps=300).fit(X[FEW], Y[FEW]).score(X_TEST, Y_TEST) > 0.8


def test_seed_fixes_the_result_and_leaves_global_generator_alone():
    torch_state = torch.get_rng_state()
    first = student().fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
    again = clone(student()).fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
    other = student(random_state=1).fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
    assert_allclose(first, again, atol=1e-6)
    assert np.abs(first - other).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_images_and_flat_rows_are_the_same():
    images = student().fit(X[FEW], Y[FEW])
    rows = student(image_shape=(8, 8)).fit(X[FEW].reshape(-1, 64), Y[FEW])
    probabilities = images.predict_proba(X_TEST)
    assert_allclose(rows.predict_proba(X_TEST.reshape(-1, 64)), probabilities, atol=1e-6)
    assert_allclose(rows.predict_proba(X_TEST), probabilities, atol=1e-6)
    assert rows.n_features_in_ == images.n_features_in_ == 64
    assert rows.image_shape_ == images.image_shape_ == (8, 8)


def test_features_come_in_the_container_that_is_asked_for():
    rows = X[FEW].reshape(-1, 64)
    pipeline = make_pipeline(StandardScaler(), student(image_shape=(8, 8), value_range=(-3, 3)))
    pipeline.set_output(transform="pandas").fit(pd.DataFrame(rows), Y[FEW])
    features = pipeline.transform(pd.DataFrame(rows[:4], index=list("abcd")))
    assert features.shape == (4, 32 * 2 * 2)
    assert features.index.tolist() == list("abcd")
    assert features.columns[:2].tolist() == ["convnetclassifier0", "convnetclassifier1"]
    assert get_tags(pipeline[-1]).estimator_type == "classifier"
    plain = clone(pipeline[-1]).set_output(transform="default").fit(X[FEW], Y[FEW])
    assert isinstance(plain.transform(X[FEW]), np.ndarray)


def test_probabilities_agree_with_predictions_and_string_labels():
    names = np.array([f"digit {label}" for label in Y])
    judge = student().fit(X[FEW], names[FEW])
    probabilities = judge.predict_proba(X_TEST)
    assert probabilities.shape == (len(X_TEST), 10)
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert_array_equal(judge.classes_, np.unique(names))
    assert_array_equal(judge.predict(X_TEST), judge.classes_[probabilities.argmax(axis=1)])
    assert judge.score(X_TEST, np.array([f"digit {label}" for label in Y_TEST])) > 0.5


@pytest.mark.parametrize(
    ("scaled", "value_range"),
    [
        (lambda X: (X / 16).astype(np.float32), (0.0, 1.0)),
        (lambda X: np.rint(X * 255 / 16).astype(np.uint8), (0.0, 255.0)),
        (lambda X: X - 20, (-20.0, -4.0)),
    ],
    ids=["unit floats", "bytes", "negative floats"],
)
def test_units_of_the_pixels_do_not_matter(scaled, value_range):
    judge = student().fit(scaled(X[FEW]), Y[FEW])
    assert judge.value_range_ == value_range
    expected = student().fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
    assert_allclose(judge.predict_proba(scaled(X_TEST)), expected, atol=0.1)


def test_given_value_range_is_kept():
    dim = X[FEW] * 0.1
    judge = student(value_range=(0, 16)).fit(dim, Y[FEW])
    assert judge.value_range_ == (0.0, 16.0)
    assert_array_equal(
        judge.predict(dim), student(value_range=(0, 160)).fit(dim * 10, Y[FEW]).predict(dim * 10)
    )


def test_flip_sees_mirror_images():
    corner = np.zeros((40, 8, 8))
    corner[:20, :3, :3] = 1
    corner[20:, 5:, :3] = 1
    labels = np.repeat(["top", "bottom"], 20)
    mirrored = corner[:, :, ::-1]
    with_flip = student(augmentation=["flip"]).fit(corner, labels)
    assert with_flip.score(mirrored, labels) == 1.0
    left_or_right = np.concatenate([corner[:20], mirrored[:20]])
    side = np.repeat(["left", "right"], 20)
    sure = student().fit(left_or_right, side).predict_proba(left_or_right)
    unsure = student(augmentation=["flip"]).fit(left_or_right, side).predict_proba(left_or_right)
    assert sure.max() > 0.95
    assert unsure.max() < 0.75


@pytest.mark.parametrize(
    ("shape", "depth"),
    [((2, 2), 1), ((8, 8), 2), ((28, 28), 3), ((32, 40, 3), 3), ((256, 256, 3), 6)],
)
def test_depth_leaves_about_four_pixels(shape, depth):
    images = np.random.default_rng(0).uniform(size=(4, *shape))
    judge = student(width=2, steps=1, batch_size=2).fit(images, [0, 1, 0, 1])
    convolutions = [m for m in judge.network_ if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == depth
    assert judge.predict_proba(images).shape == (4, 2)


def test_pickles_and_says_what_it_takes():
    judge = student().fit(X[FEW], Y[FEW])
    copy = pickle.loads(pickle.dumps(judge))
    assert_allclose(copy.predict_proba(X_TEST), judge.predict_proba(X_TEST), atol=1e-6)
    assert get_tags(judge).input_tags.three_d_array


def test_resnets_learn_and_pool_or_stride():
    images = X[FEW].repeat(2, axis=1).repeat(2, axis=2)
    for layers, pooling, n_convolutions in ((18, False, 20), (10, True, 12)):
        judge = ResNetClassifier(layers, pooling=pooling, width=8, steps=60, random_state=0)
        assert judge.fit(images, Y[FEW]).score(images, Y[FEW]) > 0.9
        convolutions = [m for m in judge.network_.modules() if isinstance(m, torch.nn.Conv2d)]
        # Three of them in shortcuts.
        assert len(convolutions) == n_convolutions
        assert pooling != any(m.stride == (2, 2) for m in convolutions)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in judge.network_.modules())


def test_one_hot_distributions_are_hard_labels():
    hard = student().fit(X[FEW], Y[FEW])
    soft = student().fit(X[FEW], np.eye(10)[Y[FEW]])
    assert_allclose(soft.predict_proba(X_TEST), hard.predict_proba(X_TEST), atol=1e-4)
    assert_array_equal(soft.classes_, range(10))
    named = student(classes=list("abcdefghij")).fit(X[FEW], np.eye(10)[Y[FEW]])
    assert_array_equal(named.predict(X_TEST), np.array(list("abcdefghij"))[soft.predict(X_TEST)])


def test_soft_labels_are_learnt_as_they_are():
    images = np.zeros((60, 8, 8))
    images[30:, :4] = 1
    distributions = np.repeat([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], 30, axis=0)
    learnt = student(steps=300).fit(images, distributions).predict_proba(images[[0, 59]])
    assert_allclose(learnt, distributions[[0, 59]], atol=0.05)


def test_features_feed_the_last_layer():
    judge = student().fit(X[FEW], Y[FEW])
    features = judge.transform(X_TEST)
    assert features.shape == (len(X_TEST), 32 * 4)
    logits = judge.network_[-1](torch.from_numpy(features)).detach()
    assert_allclose(logits.softmax(dim=1), judge.predict_proba(X_TEST), atol=1e-6)


def test_epochs_count_where_they_are_more_than_the_steps(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("skdistill.progress.DELAY", 0)
    for steps, epochs, expected in ((10, 3, 24), (30, 3, 30), (7, 0, 7)):
        judge = student(width=2, steps=steps, epochs=epochs, batch_size=13, verbose=1)
        judge.fit(X[FEW], Y[FEW])
        assert f"/{expected} " in capsys.readouterr().err


def test_half_precision_changes_little():
    few = student(steps=200).fit(X[FEW], Y[FEW]).score(X_TEST, Y_TEST)
    half = student(steps=200, dtype="bfloat16").fit(X[FEW], Y[FEW]).score(X_TEST, Y_TEST)
    assert abs(few - half) < 0.05


@pytest.mark.parametrize("native", [False, True])
def test_half_precision_is_for_devices_that_have_it(native, monkeypatch):
    monkeypatch.setattr("skdistill.students.has_bfloat16", lambda device: native)
    full, half = (
        student(steps=2, epochs=0, dtype=dtype).fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
        for dtype in ("float32", "bfloat16")
    )
    assert np.array_equal(full, half) == (not native)


@pytest.mark.slow
def test_compiled_training_is_the_same():
    expected = student(steps=20).fit(X[FEW], Y[FEW]).predict_proba(X_TEST)
    compiled = student(steps=20, compile=True).fit(X[FEW], Y[FEW])
    assert_allclose(compiled.predict_proba(X_TEST), expected, atol=1e-3)
    pickle.dumps(compiled)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_compilation_serves_all_steps_and_all_students(dtype):
    torch.compiler.reset()
    judge = student(steps=3, epochs=0, dtype=dtype, compile=True)
    judge.fit(X[FEW], Y[FEW])
    with torch.compiler.set_stance("fail_on_recompile"):
        clone(judge).set_params(random_state=1, learning_rate=1e-2).fit(X[FEW], Y[FEW])


def test_verbose_shows_the_loss_on_a_terminal_only(capsys, monkeypatch):
    student(verbose=1, steps=2).fit(X[FEW], Y[FEW])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("skdistill.progress.DELAY", 0)
    student(steps=2).fit(X[FEW], Y[FEW])
    assert capsys.readouterr().err == ""
    student(verbose=1, steps=2).fit(X[FEW], Y[FEW])
    assert "loss=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "data", "labels", "message"),
    [
        ({}, np.full_like(X[FEW], np.nan), Y[FEW], "X contains NaN"),
        ({}, X[FEW], Y[FEW][1:], "inconsistent numbers of samples"),
        ({}, X[FEW], np.zeros(100), "at least two classes, got only one: 0.0."),
        ({}, X[:1], Y[:1], "at least two classes, got only one: [0-9]."),
        ({}, X[FEW], np.linspace(0, 1, 100), "Unknown label type"),
        ({}, X[FEW].reshape(100, 64), Y[FEW], "give image_shape="),
        ({"image_shape": (7, 8)}, X[FEW].reshape(100, 64), Y[FEW], "does not fit X"),
        (
            {"image_shape": (-8, -8)},
            X[FEW].reshape(100, 64),
            Y[FEW],
            r"image_shape=\(-8, -8\) must be",
        ),
        ({"image_shape": (64,)}, X[FEW].reshape(100, 64), Y[FEW], r"got \(64,\)"),
        ({}, X[FEW].reshape(100, 2, 4, 4, 2), Y[FEW], r"got \(2, 4, 4, 2\)"),
        ({"depth": 4}, X[FEW], Y[FEW], "depth of at most 3, got 4"),
        ({"value_range": (1, 0)}, X[FEW], Y[FEW], "value_range must be"),
        ({"steps": 0}, X[FEW], Y[FEW], "'steps' parameter"),
        ({"augmentation": ["mirror"]}, X[FEW], Y[FEW], "'flip', 'crop', .*, got 'mirror'"),
        ({"classes": [1, 2]}, X[FEW], Y[FEW], r"y has the shape \(100,\)"),
        ({"classes": [1, 1]}, X[:2], np.eye(2), "must name each of the 2 columns of y once"),
        ({}, X[:2], [[0.5, 0.5], [0.5, 0.6]], r"sum 1; row 1 is \[0.5 0.6\]"),
        ({}, X[:2], [[1.5, -0.5], [0.5, 0.5]], "row 0 is"),
        ({}, X[:3], np.eye(2), "inconsistent numbers of samples"),
    ],
)
def test_bad_input_is_refused(params, data, labels, message):
    with pytest.raises(ValueError, match=message):
        student(**params).fit(data, labels)


def test_training_that_diverges_is_refused():
    with pytest.raises(ValueError, match=r"diverged; learning_rate=1e\+20 must be smaller"):
        student(width=4, learning_rate=1e20).fit(X[FEW], Y[FEW])


def test_resnets_refuse_small_images_and_other_depths():
    with pytest.raises(ValueError, match="8 x 8 pixels are too small for a ResNet"):
        ResNetClassifier().fit(X[FEW], Y[FEW])
    with pytest.raises(ValueError, match="'layers' parameter"):
        ResNetClassifier(34).fit(X[FEW], Y[FEW])


def test_unfitted_use_and_other_image_sizes_are_refused():
    with pytest.raises(NotFittedError):
        student().predict(X)
    judge = student(steps=1).fit(X[FEW], Y[FEW])
    with pytest.raises(ValueError, match=r"images of shape \(8, 8\) or flat rows of 64 values"):
        judge.predict(np.zeros((3, 9, 9)))
