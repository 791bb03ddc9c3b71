import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

from skdistill.evaluation import accuracies, format_accuracies, format_figures, train_student
from skdistill.metrics import compare_sets
from skdistill.protocols import linear_student

X, Y = load_iris(return_X_y=True)


class Fixed(ClassifierMixin, BaseEstimator):
    """Predicts the first label it saw; keeps its seed."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.label_ = y[0]
        return self

    def predict(self, X):
        return np.full(len(X), self.label_)


def test_students_are_cloned_and_seeded():
    student = Fixed()
    trained = train_student(student, X, Y, 5)
    assert trained is not student
    assert trained.random_state == 5
    assert student.random_state is None
    assert not hasattr(student, "label_")
    # A pipeline without a seed of its own is left as it is.
    assert train_student(linear_student(), X, Y, 5).score(X, Y) > 0.9


def test_scores_are_those_of_each_set_seed_and_student():
    asked, done = [], []

    def drawn(seed):
        asked.append(seed)
        return X[seed * 25 :], Y[seed * 25 :]

    test = X[:75], Y[:75]
    sets = {"drawn": drawn, "all": lambda seed: (X, Y)}
    students = {"fixed": Fixed(), "linear": linear_student()}
    scores = accuracies(students, sets, test, [0, 1, 2], progress=lambda: done.append(1))
    # Of the 75, 50 are of class 0 and 25 of class 1; the draw of seed 2 begins with class 1.
    assert scores["drawn"]["fixed"] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert scores["all"]["fixed"] == pytest.approx([2 / 3] * 3)
    assert min(scores["all"]["linear"]) > 0.9
    # One set serves all students of a seed.
    assert asked == [0, 1, 2]
    assert len(done) == 2 * 3 * 2


def test_tables_show_what_they_are_given():
    scores = {"a set with a long name": {"linear": [0.5, 0.7]}, "b": {"linear": [1.0, 1.0]}}
    table = format_accuracies(scores, 75)
    assert "75 held-out real samples" in table
    assert "over 2 seeds" in table.replace("\n", " ")
    lines = table.splitlines()
    assert lines[-2].endswith("60.0 ± 14.1")
    assert lines[-1].endswith("100.0 ± 0.0")
    assert len({len(line) for line in lines[-3:]}) == 1
    single = format_accuracies({"b": {"linear": [0.5]}}, 75)
    assert "one seed" in single
    assert single.endswith("50.0")


def test_figures_that_are_undefined_are_dashes():
    comparison = compare_sets(X, Y, X[[0, 60]], Y[[0, 60]])
    table = format_figures(
        {"two rows": comparison["overall"], "class 0": comparison["by_class"][0]}
    )
    lines = {line.split()[0]: line.split()[-2:] for line in table.splitlines()[1:]}
    assert list(lines) == list(comparison["overall"])
    assert lines["diversity"][1] == "-"
    assert lines["copied_share"] == ["1", "1"]


@pytest.mark.parametrize("width", [30, 45, 60, None])
def test_tables_fit_the_width_and_lose_nothing(width):
    figures = {f"set {i}": {"fid": i + 0.125, "mmd": None} for i in range(12)}
    scores = {name: {f"student {k}": [0.5, 0.5] for k in range(5)} for name in figures}
    tables = (format_figures(figures, width=width), format_accuracies(scores, 75, width=width))
    for table in tables:
        if width is not None:
            assert max(map(len, table.splitlines())) <= width
    lines = tables[0].splitlines()
    shown = [cell for line in lines if line.startswith("fid") for cell in line.split()[1:]]
    assert shown == [f"{i + 0.125:.4g}" for i in range(12)]
    heads = "  ".join(line for line in lines if line.startswith("figure"))
    assert all(name in heads for name in figures)
    assert tables[1].count("50.0 ± 0.0") == 12 * 5


def test_a_column_wider_than_the_terminal_is_shown_all_the_same():
    table = format_figures({"a" * 40: {"fid": 1.0}, "b": {"fid": 2.0}}, width=20)
    assert "a" * 40 in table
    assert "2" in table.splitlines()[-1]
