"""
What the judges are worth
=========================

Students, rivals and metrics against ground that is known:

- each student on all of the training data and on ten random real images a class, beside the
  published figures;
- each rival at 1, 10 and 50 images a class on digits, and at 10 on Fashion-MNIST;
- every metric between real sets, where the right answer is known.

A run does what is missing from ``docs/benchmarks/judges.jsonl``, one line a result, and writes the
tables to ``docs/benchmarks/judges.md``. It may be stopped at any time. ``--only REGEX`` takes the
results whose names match, so that several processes can share the work; ``--list`` names what is
missing; ``--page`` writes the tables from what is there. The data are found by SKDISTILL_DATA or
downloaded. On a CPU, glibc's allocator hands large blocks back and takes them anew at every step,
which costs time; these keep them::

    export MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=4000000000
"""

import argparse
import functools
import re
from pathlib import Path

import numpy as np
from results import (
    BACKBONES,
    MATCHING,
    TITLES,
    distiller_settings,
    make_missing,
    read_lines,
    table,
    with_number,
)
from sklearn.base import clone

from skdistill.baselines import rivals
from skdistill.datasets import SPLITS
from skdistill.matching import DistributionMatching
from skdistill.metrics import compare_sets
from skdistill.protocols import PROTOCOLS, judges
from skdistill.students import ConvNetClassifier
from skdistill.subsets import RandomSubset

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "judges.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "judges.md"
SEEDS = range(5)
# Accuracies in per cent of the ConvNet-3, mean and deviation, of all data and of 10 random images.
PUBLISHED = {
    ("fashion-mnist", "ConvNet-3", "all"): "93.5 ± 0.1 [1]",
    ("fashion-mnist", "ConvNet-3", "random 10"): "73.8 ± 0.7 [1]",
    ("cifar10", "ConvNet-3", "all"): "84.8 ± 0.1 [1]",
    ("cifar10", "ConvNet-3", "random 10"): "26.0 ± 1.2 [1]",
}
RIVAL_SETS = (("digits", 1), ("digits", 10), ("digits", 50), ("fashion-mnist", 10))
FIGURES = (
    "fid",
    "mean_distance",
    "mean_cosine",
    "mmd",
    "representativeness",
    "diversity",
    "coverage",
    "density",
    "nearest_real_ratio",
    "copied_share",
)
# Pairs of a real and another set, and what each figure should be; None where nothing is known.
PAIRS = {
    "itself": (0, 0, 1, 0, 1, None, 1, None, 0, 1),
    "the other half": (None, 0, 1, 0, 1, None, 0.97, 1, 1, 0.05),
    "10 a class of it": (None, None, None, None, 1, None, None, 1, 0, 1),
    "the other half, inverted": (None,) * 6 + (0, 0, None, 0),
}


def cells():
    """Return the name of each result, PART/DATA/..., in the order in which they are made."""
    names = []
    for seed in SEEDS:
        for data, ipc in RIVAL_SETS:
            for rival in judged():
                names += [f"rivals/{data}/{ipc}/{rival}/{s}/{seed}" for s in rival_students(data)]
        names += [f"metrics/digits/{pair}/{seed}" for pair in PAIRS]
    for data in SPLITS:
        for student in judges(data):
            for training in ("random 10", "all"):
                # A logistic regression draws nothing: on all of the data its seeds are one.
                seeds = SEEDS[:1] if (student, training) == ("linear", "all") else SEEDS
                names += [f"students/{data}/{training}/{student}/{seed}" for seed in seeds]
    return names


def judged():
    """Return the names of the rivals; the study is about the default."""
    return [*(name for name in rivals() if name != "ManifoldGD"), "DM"]


def rival_students(data):
    """Return the names of the two students that judge rivals."""
    return [next(iter(judges(data))), "linear"]


@functools.cache
def load(data):
    """Return training images, test images, training labels and test labels."""
    return SPLITS[data]()


def measure(name):
    """Return the result of that name as a dict."""
    part, data, *rest, seed = name.split("/")
    return MEASURES[part](data, *rest, int(seed))


def measure_student(data, training, student, seed):
    """Return the accuracy of a student on real test images."""
    X, _, y, _ = load(data)
    if training == "random 10":
        X, y = RandomSubset(10, random_state=seed).fit(X, y).sample()
    return accuracy(data, student, X, y, seed)


def measure_rival(data, ipc, rival, student, seed):
    """Return the accuracy of a student that is trained on a rival's set."""
    return accuracy(data, student, *rival_set(data, int(ipc), rival, seed), seed)


@functools.lru_cache(maxsize=1)
def rival_set(data, ipc, rival, seed):
    """Return the set that a rival makes of the training images."""
    X, _, y, _ = load(data)
    if rival == "DM":
        value_range = PROTOCOLS[data]["value_range"]
        estimator = DistributionMatching(
            ipc, value_range=value_range, random_state=seed, **MATCHING[data]
        )
    else:
        made = rivals(ipc, BACKBONES[data], random_state=seed, **distiller_settings(data))
        estimator = made[rival]
    return estimator.fit(X, y).sample()


def accuracy(data, student, X, y, seed):
    """Train a student and test it on the real test images."""
    _, X_test, _, y_test = load(data)
    # Compiling costs as much as it saves on images as small as the digits.
    judge = clone(judges(data, compile=data != "digits")[student])
    if student != "linear":
        judge.set_params(random_state=seed)
    score = float(judge.fit(X, y).score(X_test, y_test))
    return {"accuracy": score, "n_training": len(y), "n_test": len(y_test)}


def measure_metric(data, pair, seed):
    """Return all figures of a pair of real sets, among the pixels."""
    X, _, y, _ = load(data)
    order = np.random.default_rng(seed).permutation(len(X))
    half, other = order[: len(X) // 2], order[len(X) // 2 :]
    X_real, y_real = X[half], y[half]
    X_other, y_other = {
        "itself": lambda: (X_real, y_real),
        "the other half": lambda: (X[other], y[other]),
        "10 a class of it": lambda: (
            RandomSubset(10, random_state=seed).fit(X_real, y_real).sample()
        ),
        "the other half, inverted": lambda: (X.max() - X[other], y[other]),
    }[pair]()
    return compare_sets(X_real, y_real, X_other, y_other, random_state=seed)["overall"]


MEASURES = {"students": measure_student, "rivals": measure_rival, "metrics": measure_metric}


def found(results, prefix, key="accuracy", scale=100.0):
    """Return the values of all results whose names are the prefix and a seed."""
    names = (f"{prefix}/{seed}" for seed in SEEDS)
    values = [results[name][key] for name in names if name in results]
    return [scale * value for value in values if value is not None]


def cell(results, prefix, key="accuracy", scale=100.0, decimals=1):
    """Write the results of a prefix, or a dash where there are none."""
    return with_number(found(results, prefix, key, scale), len(SEEDS), decimals)


def students_table(results):
    """Lay out the students' accuracies beside the published ones."""
    rows = []
    for data in SPLITS:
        for student in judges(data):
            row = [TITLES[data], student]
            for training in ("all", "random 10"):
                row.append(cell(results, f"students/{data}/{training}/{student}"))
                row.append(PUBLISHED.get((data, student, training), "-"))
            rows.append(row)
    header = ["data", "student", "all data", "published", "10 random a class", "published"]
    return table(header, rows)


def rivals_table(results):
    """Lay out the rivals' accuracies."""
    columns = [(data, ipc, s) for data, ipc in RIVAL_SETS for s in rival_students(data)]
    header = ["trained on", *(f"{TITLES[data]} {ipc}, {s}" for data, ipc, s in columns)]
    rows = [
        [rival, *(cell(results, f"rivals/{data}/{ipc}/{rival}/{s}") for data, ipc, s in columns)]
        for rival in judged()
    ]
    return table(header, rows)


def metrics_table(results):
    """Lay out the figures of each pair of real sets, and what they should be."""
    header = ["figure"]
    for pair in PAIRS:
        header += [pair, "expected"]
    rows = []
    for i, figure in enumerate(FIGURES):
        row = [f"`{figure}`"]
        for pair, expected in PAIRS.items():
            row.append(cell(results, f"metrics/digits/{pair}", figure, 1.0, 3))
            row.append("" if expected[i] is None else str(expected[i]))
        rows.append(row)
    return table(header, rows)


def page(results):
    """Return the page of all tables."""
    return TEMPLATE.format(
        n_seeds=len(SEEDS),
        students=students_table(results),
        rivals=rivals_table(results),
        metrics=metrics_table(results),
        matching_steps=MATCHING["digits"]["steps"],
        protocols=protocols_table(),
    )


def protocols_table():
    """Lay out how students are trained; what a protocol leaves out is the student's default."""
    default = ConvNetClassifier().get_params()
    settings = ("steps", "epochs", "batch_size", "learning_rate", "weight_decay", "augmentation")
    rows = []
    for data, protocol in PROTOCOLS.items():
        values = [(default | protocol)[setting] for setting in (*settings, "dtype")]
        values = [", ".join(v) or "none" if isinstance(v, tuple) else str(v) for v in values]
        rows.append([TITLES[data], *(v.replace("auto", "float32") for v in values)])
    return table(["data", *(f"`{setting}`" for setting in settings), "computed in"], rows)


TEMPLATE = """\
<!-- Written by examples/benchmarks/judges.py from judges.jsonl. -->
# What the judges are worth

Accuracies in per cent on real test images, mean ± standard error over {n_seeds} seeds, or over the
number of seeds in brackets. A seed decides the set and the student. A dash: not measured.

## Students

On all of the training data and on ten real images a class, drawn at random. CIFAR-10 is a copy in
JPEG, which loses a little. Published accuracies are means ± standard deviations.

{students}

[1] B. Zhao, K. R. Mopuri, H. Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, with
other training: hundreds of epochs, and no augmentation for the random images.

The protocol, `skdistill.protocols.PROTOCOLS`, was chosen on a split of CIFAR-10's training images
before any method was judged on these data, and is the same for all sets of a data set: AdamW, of
which the step size rises over the first fifth of the updates and falls to zero along half a cosine.
A set is seen for `steps` updates or `epochs` passes, whichever is more. What crops are filled with
was settled on that split too, after a first version, with black, had fallen short of the published
figure on CIFAR-10's test images. Where a processor would have to emulate bfloat16, students compute
in float32.

{protocols}

## Rivals

Accuracy of students trained on the sets that rivals make of the training images; the number is
that of images a class. Real subsets are picked by distances between pixels. The diffusion models
behind the last rivals are the shipped backbones `digits` and `fashion`. DM, the only one that is
trained, has {matching_steps} steps instead of the paper's 20,000. What draws nothing at random
differs between seeds by the student. ManifoldGD itself is on [another page](study.md).

{rivals}

## Metrics

Figures of `skdistill.metrics.compare_sets` between one half of digits' training images, as the real
set, and four other sets, among pixels; means ± standard errors over halves. Expected is what the
definition demands, or the limit for large sets.

{metrics}
"""


def main():
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--only", default="", metavar="REGEX", help="results to make")
    parser.add_argument("--list", action="store_true", help="name what is missing and stop")
    parser.add_argument("--page", action="store_true", help="only write the tables")
    options = parser.parse_args()
    names = [name for name in cells() if re.search(options.only, name)]
    if options.list:
        print("\n".join(name for name in names if name not in read_lines(RAW)))
        return
    if not options.page:
        make_missing(RAW, names, measure)
    PAGE.write_text(page(read_lines(RAW)), encoding="utf-8")


if __name__ == "__main__":
    main()
