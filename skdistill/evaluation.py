"""What a small set is worth beside as many real samples, picked well."""

import textwrap

import numpy as np
from sklearn.base import clone

__all__ = ["accuracies", "format_accuracies", "format_figures", "train_student"]

# Of text, where nothing else limits it.
WIDTH = 88


def train_student(student, X, y, seed):
    """Train a clone of a student.

    Parameters
    ----------
    student : classifier
        Not fitted.

    X : ndarray of shape (n_samples, ...)
        Images, or rows of a table.

    y : ndarray of shape (n_samples,)
        Labels.

    seed : int
        For its ``random_state``, where it has one.

    Returns
    -------
    student : classifier
        A fitted one.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.evaluation import train_student
    >>> from skdistill.students import ConvNetClassifier
    >>> X_train, _, y_train, _ = load_digits_split()
    >>> train_student(ConvNetClassifier(width=8, steps=1), X_train, y_train, 7).random_state
    7
    """
    student = clone(student)
    if "random_state" in student.get_params():
        student.set_params(random_state=seed)
    return student.fit(X, y)


def accuracies(students, sets, test, seeds, *, progress=None):
    """Train students on sets and test them on real data.

    Parameters
    ----------
    students : dict of str to classifier
        Not fitted. Those that :func:`skdistill.protocols.judges` returns take images and rows.

    sets : dict of str to callable
        Each takes a seed and returns (X, y).

    test : tuple of ndarray
        X and y of real samples that no set has seen.

    seeds : sequence of int
        A seed decides the set, where it is drawn at random, and the student.

    progress : callable, default=None
        Called after each student.

    Returns
    -------
    scores : dict of str to dict of str to list of float
        Accuracies of each seed, by set and student.

    Examples
    --------
    >>> from skdistill.datasets import load_digits_split
    >>> from skdistill.evaluation import accuracies
    >>> from skdistill.protocols import linear_student
    >>> from skdistill.subsets import RandomSubset
    >>> X, X_test, y, y_test = load_digits_split()
    >>> sets = {"random": lambda seed: RandomSubset(10, random_state=seed).fit(X, y).sample()}
    >>> scores = accuracies({"linear": linear_student()}, sets, (X_test, y_test), range(2))
    >>> [score > 0.8 for score in scores["random"]["linear"]]
    [True, True]
    """
    scores = {}
    for name, make in sets.items():
        scores[name] = {kind: [] for kind in students}
        for seed in seeds:
            X, y = make(seed)
            for kind, student in students.items():
                score = train_student(student, X, y, seed).score(*test)
                scores[name][kind].append(float(score))
                if progress is not None:
                    progress()
    return scores


def format_accuracies(scores, n_test, *, width=None):
    """Lay accuracies out as a table.

    Parameters
    ----------
    scores : dict of str to dict of str to list of float
        Accuracies of each seed, by set and student.

    n_test : int
        Number of real samples they were measured on.

    width : int, default=None
        Characters that a line may have: what does not fit follows below. None sets no limit to
        tables.

    Returns
    -------
    table : str
        Means and sample standard deviations in per cent, a line a set; the mean alone where there
        is one seed.

    Examples
    --------
    >>> from skdistill.evaluation import format_accuracies
    >>> print(format_accuracies({"herding": {"linear": [0.9, 0.92]}}, 540))
    accuracy in % on 540 held-out real samples, mean and deviation over 2 seeds of the
    students and of the sets that are drawn at random
    trained on        linear
    herding       91.0 ± 1.4
    """
    students = list(next(iter(scores.values())))
    n_seeds = len(next(iter(scores.values()))[students[0]])
    if n_seeds == 1:
        heading = f"accuracy in % on {n_test} held-out real samples, one seed"
    else:
        heading = (
            f"accuracy in % on {n_test} held-out real samples, mean and deviation over {n_seeds} "
            "seeds of the students and of the sets that are drawn at random"
        )
    rows = {
        name: [
            f"{100 * np.mean(v):.1f}" + (f" ± {100 * np.std(v, ddof=1):.1f}" if n_seeds > 1 else "")
            for v in by_student.values()
        ]
        for name, by_student in scores.items()
    }
    return (
        f"{textwrap.fill(heading, width or WIDTH)}\n{_aligned('trained on', students, rows, width)}"
    )


def format_figures(figures, *, width=None):
    """Lay the figures of :func:`skdistill.metrics.compare_sets` out as a table.

    Parameters
    ----------
    figures : dict of str to dict of str to float or None
        Figures of each set or class.

    width : int, default=None
        Characters that a line may have: what does not fit follows below. None sets no limit to
        tables.

    Returns
    -------
    table : str
        A line a figure, a column a set; a dash where one is undefined.

    Examples
    --------
    >>> from skdistill.evaluation import format_figures
    >>> print(format_figures({"herding": {"mmd": 0.0123, "diversity": None}}))
    figure        herding
    mmd            0.0123
    diversity           -
    """
    rows = {
        figure: [
            "-" if values[figure] is None else f"{values[figure]:.4g}"
            for values in figures.values()
        ]
        for figure in next(iter(figures.values()))
    }
    return _aligned("figure", list(figures), rows, width)


def _aligned(head, columns, rows, width):
    """Lay out rows of strings by name, right-aligned under their columns, in blocks that fit."""
    first = max(12, len(head), *map(len, rows))
    widths = [
        max(len(column), *(len(cells[i]) for cells in rows.values()))
        for i, column in enumerate(columns)
    ]
    blocks, room = [], 0
    for i, needed in enumerate(widths):
        if not blocks or (width is not None and needed + 2 > room):
            blocks.append([])
            room = 0 if width is None else width - first
        blocks[-1].append(i)
        room -= needed + 2
    lines = {head: columns, **rows}
    return "\n\n".join(
        "\n".join(
            f"{name:<{first}}" + "".join(f"  {cells[i]:>{widths[i]}}" for i in block)
            for name, cells in lines.items()
        )
        for block in blocks
    )
