"""
What distilled sets are worth
=============================

Every rival, unguided and mode-guided diffusion, ManifoldGD as published and as it is here, on
digits, Fashion-MNIST and CIFAR-10, at 1, 10 and 50 images a class: accuracies of students trained
on the sets, how far the sets are from the data, whether they copy it and what they cost. And the
paper's ablation, one step after the other, at 10 a class.

A run does what is missing from ``docs/benchmarks/study.jsonl``, one line a result, and writes the
tables to ``docs/benchmarks/study.md`` and a short one to the README. It may be stopped at any time.
One command a data set::

    python examples/benchmarks/study.py digits
    python examples/benchmarks/study.py fashion-mnist
    python examples/benchmarks/study.py cifar10

``--only REGEX`` takes the results whose names match, so that several processes can share the work;
``--list`` names what is missing; ``--page`` writes the tables from what is there. The data are
found by SKDISTILL_DATA or downloaded, and encoded once, into a folder of temporary files.
"""

import argparse
import functools
import re
import time
from pathlib import Path

import numpy as np
from judges import RAW as JUDGED
from judges import SEEDS as JUDGED_SEEDS
from results import (
    BACKBONES,
    MATCHING,
    TITLES,
    distiller_settings,
    make_missing,
    read_lines,
    table,
    with_number,
    write_readme,
)
from sklearn.base import clone
from sklearn.cluster import KMeans

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.baselines import rivals
from skdistill.datasets import SPLITS
from skdistill.matching import DistributionMatching
from skdistill.metrics import (
    copying,
    diversity,
    frechet_distance,
    mean_distance,
    mmd,
    representativeness,
)
from skdistill.protocols import judges

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "study.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "study.md"
IPCS = (1, 10, 50)
# Sets and, for each of them, students; fewer where a ConvNet takes a minute.
SEEDS = {"digits": 5, "fashion-mnist": 3, "cifar10": 3}
STUDENT_SEEDS = {"digits": 3, "fashion-mnist": 2, "cifar10": 2}
OURS, REFERENCE = "ManifoldGD", "k-means medoids"
# Against which the default is held, seed by seed.
COMPARED = ("unguided", "MGD", REFERENCE)
# What the README shows.
SUMMARY = (
    OURS,
    "DM",
    REFERENCE,
    "random real",
    f"{OURS}, not refined",
    "MGD",
    "unguided",
    f"{OURS}, published",
)
# What also trains networks of another kind, beside the default: so many, the best by the ConvNet.
LEADERS = 5
PUBLISHED = {
    "clusterer": HierarchicalIPC(),
    "strength": 0.1,
    "normal_strength": 0.1,
    "projector": TangentProjector(3, n_neighbors=12),
    "guidance_form": "paper",
    "clip_guidance": False,
    "scheduler": "DDPMScheduler",
    "annealing": "exponential",
    "max_radius": 2.0,
    "warm_steps": 5,
    "guidance_interval": (0.0, 0.5),
    "refiner": "passthrough",
}
# The rows of the paper's ablation, each as published but for what it leaves out; then one factor
# at a time from the last of them.
LADDER = {
    "k-means": {"clusterer": KMeans(n_init=10), "projector": "passthrough", "normal_strength": 0.0},
    "divisive, leaves": {
        "clusterer": HierarchicalIPC(selection="leaves"),
        "projector": "passthrough",
        "normal_strength": 0.0,
    },
    "divisive, level-wise": {"projector": "passthrough", "normal_strength": 0.0},
    "+ tangent projection": {"annealing": None, "normal_strength": 0.0},
    "+ annealing": {"normal_strength": 0.0},
    "+ pull towards the plane": {},
    "Laplace kernel": {"normal_strength": 0.0, "kernel": "laplace"},
    "IMQ kernel": {"normal_strength": 0.0, "kernel": "imq"},
    "neighbours by their posterior": {"normal_strength": 0.0, "tangents": "posterior"},
}
FIGURES = {
    "fid": ("FID", 1),
    "mean_distance": ("l2", 2),
    "mmd": ("MMD", 4),
    "representativeness": ("representativeness", 3),
    "diversity": ("diversity", 3),
    "nearest_real_ratio": ("nearest real", 2),
}


def cells(data):
    """Return the names of a data set's results, in the order in which they are made."""
    names = []
    for seed in range(SEEDS[data]):
        for ipc in IPCS:
            for method in estimators(data, ipc, seed):
                names.append(f"figures/{data}/{ipc}/{method}/{seed}")
                names += student_cells(data, f"accuracy/{data}/{ipc}/{method}", seed)
        for row in LADDER:
            names += student_cells(data, f"ladder/{data}/10/{row}", seed)
    return names


def student_cells(data, prefix, seed):
    """Return the names of the results of all students of a set."""
    names = []
    for student in students(data):
        # A logistic regression draws nothing at random.
        n_seeds = 1 if student == "linear" else STUDENT_SEEDS[data]
        names += [f"{prefix}/{student}/{seed}/{i}" for i in range(n_seeds)]
    return names


def transfer_cells(data):
    """Return the names of the results of a ResNet-18, none before it is known who leads."""
    if "ResNet-18" not in judges(data):
        # It halves images three times, which is too often for digits.
        return []
    results = read_lines(RAW)
    return [
        f"accuracy/{data}/10/{method}/ResNet-18/{seed}/0"
        for seed in range(SEEDS[data])
        for method in leaders(results, data)
    ]


def leaders(results, data):
    """Return the default and the best of the others at ten images a class, once all are known."""
    student = next(iter(students(data)))
    means = {}
    for method in estimators(data, 10, 0):
        values = accuracies(results, f"accuracy/{data}/10/{method}", student)
        if len(values) < SEEDS[data]:
            return []
        means[method] = np.mean(list(values.values()))
    others = sorted(means.keys() - {OURS}, key=means.get, reverse=True)
    return [OURS, *others[:LEADERS]]


def students(data):
    """Return the students that judge every set."""
    made = all_judges(data)
    return {name: made[name] for name in (next(iter(made)), "linear")}


def all_judges(data):
    """Return every student that there is for a data set."""
    # Compiling costs as much as it saves on images as small as the digits.
    return judges(data, compile=data != "digits")


@functools.cache
def load(data):
    """Return training images, test images, training labels and test labels."""
    return SPLITS[data]()


def estimators(data, ipc, seed):
    """Return what makes sets, by name."""
    backbone, shared = BACKBONES[data], distiller_settings(data)
    made = rivals(ipc, backbone, random_state=seed, **shared)
    made["ManifoldGD, not refined"] = ManifoldGDDistiller(
        ipc, backbone, random_state=seed, refiner="passthrough", **shared
    )
    made["ManifoldGD, published"] = ManifoldGDDistiller(
        ipc, backbone, random_state=seed, **shared, **PUBLISHED
    )
    made["DM"] = DistributionMatching(
        ipc, value_range=shared["value_range"], random_state=seed, **MATCHING[data]
    )
    return made


def ladder_row(data, row, seed):
    """Return the distiller of one row of the ablation."""
    return ManifoldGDDistiller(
        10, BACKBONES[data], random_state=seed, **distiller_settings(data) | PUBLISHED | LADDER[row]
    )


@functools.lru_cache(maxsize=1)
def make_set(data, ipc, method, seed, ladder=False):
    """Return a set and the seconds that it took."""
    X, _, y, _ = load(data)
    made = ladder_row(data, method, seed) if ladder else estimators(data, ipc, seed)[method]
    started = time.perf_counter()
    small = made.fit(X, y).sample()
    return *small, time.perf_counter() - started


def measure(name):
    """Return the result of that name."""
    part, data, ipc, method, *rest = name.split("/")
    if part == "figures":
        X_syn, y_syn, seconds = make_set(data, int(ipc), method, int(rest[0]))
        return figures(data, X_syn) | {"cost": seconds / reference_seconds(data)}
    student, seed, student_seed = rest
    X_syn, y_syn, _ = make_set(data, int(ipc), method, int(seed), ladder=part == "ladder")
    judge = clone(all_judges(data)[student])
    if student != "linear":
        judge.set_params(random_state=100 * int(seed) + int(student_seed))
    _, X_test, _, y_test = load(data)
    return {"accuracy": float(judge.fit(X_syn, y_syn).score(X_test, y_test))}


@functools.cache
def embedding(data):
    """Return a network that was trained on all training images, and its features of them."""
    X, _, y, _ = load(data)
    network = clone(next(iter(students(data).values()))).set_params(random_state=0).fit(X, y)
    return network, network.transform(X)


def figures(data, X_syn):
    """Return how a set compares with the training images, those of `compare_sets` overall."""
    X, _, _, _ = load(data)
    network, real = embedding(data)
    synthetic = network.transform(X_syn)
    return {
        "fid": frechet_distance(real, synthetic),
        "mean_distance": mean_distance(real, synthetic),
        "mmd": mmd(real, synthetic, random_state=0),
        "representativeness": representativeness(real, synthetic),
        "diversity": diversity(synthetic),
        "nearest_real_ratio": copying(X, X_syn, random_state=0).ratio,
    }


def reference_seconds(data):
    """Time the training of one student on ten images a class, the unit of costs."""
    X, _, y, _ = load(data)
    few = np.concatenate([np.flatnonzero(y == label)[:10] for label in np.unique(y)])
    judge = clone(next(iter(students(data).values()))).set_params(random_state=0)
    started = time.perf_counter()
    judge.fit(X[few], y[few])
    return time.perf_counter() - started


def accuracies(results, prefix, student):
    """Return the accuracy of each set, the mean of its students', in per cent, by its seed."""
    found = {}
    pattern = re.compile(re.escape(f"{prefix}/{student}/") + r"(\d+)/\d+")
    for name, result in results.items():
        match = pattern.fullmatch(name)
        if match:
            found.setdefault(int(match[1]), []).append(100.0 * result["accuracy"])
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def accuracy_table(results, data, methods):
    """Lay out the accuracy of every method, by number of images and by student."""
    columns = [(ipc, student) for ipc in IPCS for student in students(data)]
    rows = []
    for method in methods:
        row = [method]
        for ipc, student in columns:
            values = accuracies(results, f"accuracy/{data}/{ipc}/{method}", student)
            row.append(with_number(list(values.values()), SEEDS[data]))
        rows.append(row)
    return table(["trained on", *(f"{ipc}, {student}" for ipc, student in columns)], rows)


def difference(results, data, ipc, other, student):
    """Return how much better the default is than another method, seed by seed."""
    ours, theirs = (
        accuracies(results, f"accuracy/{data}/{ipc}/{method}", student) for method in (OURS, other)
    )
    return np.array([ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()])


def is_ahead(differences):
    """Return whether differences are positive by more than two standard errors of their mean."""
    if len(differences) < 2:
        return False
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    return bool(np.mean(differences) > 2 * error)


def difference_table(results, data):
    """Lay out the paired differences to what counts; bold where the default is ahead."""
    columns = [(ipc, student) for ipc in IPCS for student in students(data)]
    rows = []
    for other in COMPARED:
        row = [f"- {other}"]
        for ipc, student in columns:
            values = difference(results, data, ipc, other, student)
            text = with_number(values, SEEDS[data])
            row.append(f"**{text}**" if is_ahead(values) else text)
        rows.append(row)
    return table([OURS, *(f"{ipc}, {student}" for ipc, student in columns)], rows)


def figure_tables(results, data, methods):
    """Lay out the figures of all sets, a table a number of images of which there are any."""
    return "\n\n".join(
        figure_table(results, data, methods, ipc)
        for ipc in IPCS
        if any(name.startswith(f"figures/{data}/{ipc}/") for name in results)
    )


def figure_table(results, data, methods, ipc):
    """Lay out the means of the figures of every method's sets."""
    rows = []
    for method in methods:
        prefix = f"figures/{data}/{ipc}/{method}/"
        found = [result for name, result in results.items() if name.startswith(prefix)]
        row = [method]
        for figure, (_, decimals) in (*FIGURES.items(), ("cost", ("cost", 1))):
            values = [result[figure] for result in found]
            row.append(f"{np.mean(values):.{decimals}f}" if values else "-")
        rows.append(row)
    return table([f"{ipc} a class", *(title for title, _ in FIGURES.values()), "cost"], rows)


def transfer_table(results, data):
    """Lay out what a ResNet-18 learns from the best sets of ten images a class."""
    if not any(f"/{data}/" in name and "/ResNet-18/" in name for name in results):
        return NOT_MEASURED
    rows = []
    for method in leaders(results, data):
        values = accuracies(results, f"accuracy/{data}/10/{method}", "ResNet-18")
        rows.append([method, with_number(list(values.values()), SEEDS[data])])
    return table(["trained on", "ResNet-18"], rows)


def ladder_table(results, data):
    """Lay out what there is of the ablation."""
    rows = []
    for row in LADDER:
        found = [
            accuracies(results, f"ladder/{data}/10/{row}", student) for student in students(data)
        ]
        if any(found):
            cells = [with_number(list(values.values()), SEEDS[data]) for values in found]
            rows.append([row, *cells])
    return table(["as published", *students(data)], rows) if rows else NOT_MEASURED


def summary_table(results, judged):
    """Lay out what ConvNets learn from ten images a class, and from all of them, in short."""
    columns = [
        data for data in SPLITS if any(name.startswith(f"accuracy/{data}/10/") for name in results)
    ]
    rows = []
    for method in SUMMARY:
        row = [method]
        for data in columns:
            student = next(iter(students(data)))
            values = accuracies(results, f"accuracy/{data}/10/{method}", student)
            row.append(with_number(list(values.values()), SEEDS[data]))
        rows.append(row)
    row = ["all training data"]
    for data in columns:
        prefix = f"students/{data}/all/{next(iter(students(data)))}/"
        found = [100.0 * result["accuracy"] for name, result in judged.items() if prefix in name]
        row.append(with_number(found, len(JUDGED_SEEDS)))
    rows.append(row)
    return table(["10 images a class", *(TITLES[data] for data in columns)], rows) + "\n"


def page(results):
    """Return the page of all data sets of which there are results."""
    (steps,) = {settings["steps"] for settings in MATCHING.values()}
    parts = [HEAD.format(steps=steps)]
    for data in SPLITS:
        if not any(name.split("/")[1] == data for name in results):
            continue
        methods = list(estimators(data, 1, 0))
        parts.append(
            SECTION.format(
                title=TITLES[data],
                n_sets=SEEDS[data],
                n_students=STUDENT_SEEDS[data],
                accuracies=accuracy_table(results, data, methods),
                differences=difference_table(results, data),
                transfer=TRANSFER.format(table=transfer_table(results, data))
                if "ResNet-18" in judges(data)
                else "",
                figures=figure_tables(results, data, methods),
                ladder=ladder_table(results, data),
            )
        )
    return "\n".join(parts)


NOT_MEASURED = "Not measured yet."
HEAD = """\
<!-- Written by examples/benchmarks/study.py from study.jsonl. -->
# What distilled sets are worth

Accuracies in per cent on real test images of students that were trained on a set alone, with hard
labels; mean ± standard error over sets, each the mean of its students. The number before the
student is that of images a class. In brackets: the number of sets, where not all are measured yet;
a dash: none. CIFAR-10 is a copy in JPEG, which loses a little.

The first five are real images; cluster means average them. From "decoded centroids" on, all but DM
come from the shipped diffusion models, as `skdistill.baselines.rivals` makes them. "ManifoldGD" is
the distiller as it comes, "not refined" without its last step, "published" with the paper's
settings and without the last step. DM, distribution matching, trains the pixels, in {steps} steps
instead of the paper's 20,000, with which it may well be worth more.

All settings were chosen on training images. That refining might heed the mean of the pixels was
thought of after linear students had learnt little from one Fashion-MNIST image a class here; how
much was settled on training images.
"""
SECTION = """\
## {title}

{n_sets} sets a method and number of images, {n_students} ConvNets and one linear student a set.

{accuracies}

What the default gains, set by set with the same seed; in bold where it is ahead by more than two
standard errors.

{differences}

{transfer}The sets against the training images, among the features of a ConvNet trained on these:
FID, distance of means (l2) and MMD, lower is better; representativeness and diversity, higher is
better; distance of the nearest real image, between pixels, in units of that between real ones (0 is
a copy); cost of making the set, in units of training one ConvNet on ten images a class. Means over
the sets that were measured.

{figures}

The paper's ablation, at 10 a class and with its settings: rows add its parts one after the other;
the last three change one part of "+ annealing".

{ladder}
"""
TRANSFER = """\
Another network, trained on the sets of 10 a class of the default and of the five that the ConvNet
learns most from.

{table}

"""


def main():
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("data", nargs="*", help=f"of {', '.join(SPLITS)}; all if unset")
    parser.add_argument("--only", default="", metavar="REGEX", help="results to make")
    parser.add_argument("--list", action="store_true", help="name what is missing and stop")
    parser.add_argument("--page", action="store_true", help="only write the tables")
    options = parser.parse_args()
    unknown = sorted(set(options.data) - set(SPLITS))
    if unknown:
        parser.error(f"data={unknown[0]!r} must be of {', '.join(SPLITS)}")
    for data in options.data or SPLITS:
        # The second list needs what the first one has brought.
        for wanted in (cells, transfer_cells):
            names = [name for name in wanted(data) if re.search(options.only, name)]
            if options.list:
                print("\n".join(name for name in names if name not in read_lines(RAW)))
            elif not options.page:
                make_missing(RAW, names, measure)
    if options.list:
        return
    results = read_lines(RAW)
    PAGE.write_text(page(results), encoding="utf-8")
    write_readme("study", summary_table(results, read_lines(JUDGED)))


if __name__ == "__main__":
    main()
