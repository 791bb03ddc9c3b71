"""
What synthetic rows of tables are worth
=======================================

Rows that :class:`~skdistill.ManifoldGDDistiller` draws from the closed-form backbone, under its
default noise schedule and under DDPM's linear one, guided and not, refined to support points and
not, beside real rows and the means of clusters: accuracies of a logistic regression, a support
vector machine and a random forest that are trained on 1, 5 and 20 of them a class and tested on
rows that were held out.

The noise schedule was chosen by the data sets of the first group, support points on splits of the
training rows of the first and the second. Those of the third and the fourth were first looked at
when all settings were as they are; the fourth has columns that a mixture of Gaussians describes
badly.

A run does what is missing from ``docs/benchmarks/tables.jsonl``, one line a set, and writes the
tables to ``docs/benchmarks/tables.md``. It may be stopped at any time. ``--only REGEX`` takes the
results whose names match; ``--page`` writes the tables from what is there. Fashion-MNIST is found
by SKDISTILL_DATA or downloaded.
"""

import argparse
import functools
import re
from pathlib import Path

import diffusers
import numpy as np
from results import make_missing, mean_and_error, read_lines, table
from sklearn.cluster import KMeans
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_circles,
    make_classification,
    make_gaussian_quantiles,
    make_hastie_10_2,
    make_moons,
)
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.svm import SVC

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.baselines import rivals
from skdistill.datasets import load_cifar10, load_fashion_mnist
from skdistill.protocols import linear_student
from skdistill.refining import SupportPointsRefiner
from skdistill.subsets import MedoidSubset

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "tables.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "tables.md"
IPCS = (1, 5, 20)
SPLITS = range(3)
OURS = "geometric, guided to 0.5, refined: the defaults"
MEDOIDS, SCALED_MEDOIDS = "k-means medoids", "k-means medoids, of standardised rows"


def small_fashion():
    """Return 20,000 images of Fashion-MNIST as rows of 7 x 7 mean values."""
    X, _, y, _ = load_fashion_mnist()
    return X[:20000].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49), y[:20000]


def small_cifar():
    """Return 20,000 images of CIFAR-10 as rows of 4 x 4 mean colours."""
    X, _, y, _ = load_cifar10()
    few = np.random.default_rng(0).choice(len(X), 20000, replace=False)
    return X[few].reshape(-1, 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(-1, 48), y[few]


def spirals():
    """Return three arms of a spiral in the plane."""
    rng = np.random.default_rng(0)
    y = np.arange(1500) % 3
    radius = np.sqrt(rng.uniform(0.05, 1.0, len(y)))
    angle = 2 * np.pi * (1.25 * radius + y / 3)
    X = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return X + rng.normal(scale=0.05, size=X.shape), y


def checks():
    """Return a board of 4 x 4 squares of two classes, with two features of noise."""
    X = np.random.default_rng(0).uniform(0.0, 4.0, (2000, 4))
    return X, np.floor(X[:, :2]).sum(axis=1).astype(int) % 2


def black_or_white_digits():
    """Return 64 columns of 0 or 1."""
    X, y = load_digits(return_X_y=True)
    return (X > 7).astype(float), y


def wine_by_thirds():
    """Return three columns of 0 or 1 for each of wine's: in which third of the rows a value is."""
    X, y = load_wine(return_X_y=True)
    thirds = KBinsDiscretizer(
        3, encode="onehot-dense", strategy="quantile", quantile_method="averaged_inverted_cdf"
    )
    return thirds.fit_transform(X), y


def counts():
    """Return counts of 30 kinds of events, of which each of four classes has its own rates."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, 2.0, size=(4, 30))
    y = np.arange(2000) % 4
    # Rows differ in how much happens altogether, as texts do in their lengths.
    return rng.poisson(rates[y] * rng.gamma(2.0, 0.5, size=(len(y), 1))).astype(float), y


def exponentials():
    """Return columns with long tails: exponentials of mixtures of Gaussians."""
    X, y = make_classification(
        2000, 20, n_informative=8, n_classes=4, n_clusters_per_class=3, random_state=1
    )
    return np.exp(X), y


CHOSE_THE_SCHEDULE = {
    "breast cancer": functools.partial(load_breast_cancer, return_X_y=True),
    "wine": functools.partial(load_wine, return_X_y=True),
    "digits": functools.partial(load_digits, return_X_y=True),
    "moons": functools.partial(make_moons, 1000, noise=0.2, random_state=0),
    "classification": functools.partial(
        make_classification,
        2000,
        20,
        n_informative=8,
        n_classes=4,
        n_clusters_per_class=3,
        random_state=0,
    ),
}
CHOSE_THE_REFINING = {
    "iris": functools.partial(load_iris, return_X_y=True),
    "circles": functools.partial(make_circles, 1000, noise=0.1, factor=0.5, random_state=0),
    "quantiles": functools.partial(
        make_gaussian_quantiles, n_samples=2000, n_features=10, n_classes=3, random_state=0
    ),
    "Fashion-MNIST, 7 x 7": small_fashion,
}
NEW = {
    "hastie": functools.partial(make_hastie_10_2, 4000, random_state=0),
    "spirals": spirals,
    "checks": checks,
    "CIFAR-10, 4 x 4": small_cifar,
}
ODD = {
    "digits, black or white": black_or_white_digits,
    "wine, by thirds": wine_by_thirds,
    "counts": counts,
    "exponentials": exponentials,
}
GROUPS = {
    "Data that chose the schedule and the refining": CHOSE_THE_SCHEDULE,
    "Data that chose the refining": CHOSE_THE_REFINING,
    "New data": NEW,
    "New data, of few values or with long tails": ODD,
}
DATA = CHOSE_THE_SCHEDULE | CHOSE_THE_REFINING | NEW | ODD


class ScaledMedoids(MedoidSubset):
    """Pick real rows among standardised ones."""

    def fit(self, X, y):
        """Keep the rows as they are, too."""
        self.rows_, self.labels_ = X, y
        return super().fit(StandardScaler().fit_transform(X), y)

    def sample(self):
        """Return the rows, as they were, and their labels."""
        chosen = self.select()
        return self.rows_[chosen], self.labels_[chosen]


def methods(ipc, seed):
    """Return what makes sets, by name."""
    made = rivals(ipc, diffusion=False, random_state=seed)
    made[SCALED_MEDOIDS] = ScaledMedoids(ipc, random_state=seed)
    names = ("random real", "herding", MEDOIDS, SCALED_MEDOIDS, "cluster means")
    linear = diffusers.DDPMScheduler(clip_sample=False)
    centers = KMeans(n_init=10)
    settings = {
        "linear, guided to 0.5": {"scheduler": linear},
        "linear, guided to 0.9": {"scheduler": linear, "guidance_interval": (0.0, 0.9)},
        "geometric, unguided": {"strength": 0.0},
        "geometric, guided to 0.5": {},
        "the same, towards nodes of all levels": {"clusterer": HierarchicalIPC()},
        "the same, towards k-means centres": {"clusterer": centers},
    }
    refined = {
        "k-means centres, refined": {"clusterer": centers, "init_noise": 0.0},
        "geometric, unguided, refined": {"strength": 0.0},
        OURS: {},
    }
    distillers = {
        name: ManifoldGDDistiller(ipc, random_state=seed, refiner=refiner, **params)
        for refiner, group in (("passthrough", settings), (SupportPointsRefiner(), refined))
        for name, params in group.items()
    }
    return {name: made[name] for name in names} | distillers


def judges(seed):
    """Return the classifiers that are trained on the sets."""
    return {
        "logistic regression": linear_student(),
        "support vectors": make_pipeline(StandardScaler(), SVC()),
        "random forest": RandomForestClassifier(random_state=seed),
    }


@functools.cache
def split(data, seed):
    """Return training rows, held-out rows and the labels of both."""
    X, y = DATA[data]()
    return train_test_split(X, y, test_size=0.4, stratify=y, random_state=seed)


def names():
    """Return the names of all results, in the order in which they are made."""
    return [
        f"{data}/{ipc}/{method}/{seed}"
        for data in DATA
        for ipc in IPCS
        for method in methods(ipc, 0)
        for seed in SPLITS
    ]


def measure(name):
    """Return the accuracy of each judge."""
    data, ipc, method, seed = name.split("/")
    seed = int(seed)
    X_train, X_test, y_train, y_test = split(data, seed)
    X, y = methods(int(ipc), seed)[method].fit(X_train, y_train).sample()
    return {
        kind: float(judge.fit(X, y).score(X_test, y_test)) for kind, judge in judges(seed).items()
    }


def accuracies(results, data, ipc, method):
    """Return the accuracy of each split, the mean of the judges', in per cent."""
    found = [results.get(f"{data}/{ipc}/{method}/{seed}") for seed in SPLITS]
    return np.array(
        [100.0 * np.mean([result[kind] for kind in judges(0)]) for result in found if result]
    )


def is_whole(results, data):
    """Return whether all results of a data set are there."""
    return all(name in results for name in names() if name.startswith(f"{data}/"))


def method_table(results, group):
    """Lay out the accuracy of every method, the mean over a group of data sets."""
    rows = []
    for method in methods(1, 0):
        cells = [
            mean_and_error(
                np.mean([accuracies(results, data, ipc, method) for data in group], axis=0)
            )
            for ipc in IPCS
        ]
        rows.append([method, *cells])
    return table(["rows a class", *map(str, IPCS)], rows)


def difference_table(results, data_sets):
    """Lay out what the defaults are ahead of real medoids of both kinds, by data set."""
    rows = []
    for data in data_sets:
        gains = [
            accuracies(results, data, ipc, OURS) - accuracies(results, data, ipc, rival)
            for rival in (MEDOIDS, SCALED_MEDOIDS)
            for ipc in IPCS
        ]
        rows.append([data, *map(mean_and_error, gains)])
    scaled = [f"{ipc}, standardised" for ipc in IPCS]
    return table(["rows a class", *map(str, IPCS), *scaled], rows)


def page(results):
    """Return the page."""
    parts = []
    whole = [data for data in DATA if is_whole(results, data)]
    for title, group in GROUPS.items():
        there = [data for data in group if data in whole]
        if there:
            parts.append(f"## {title}\n\n{', '.join(there)}.\n\n{method_table(results, there)}\n")
    return TEMPLATE.format(
        tables="\n".join(parts), reference=MEDOIDS, differences=difference_table(results, whole)
    )


TEMPLATE = """\
<!-- Written by examples/benchmarks/tables.py from tables.jsonl. -->
# What synthetic rows of tables are worth

Accuracies, in per cent, on 40% of the rows, held out, of classifiers that were trained on 1, 5 and
20 rows a class: the mean of a logistic regression, a support vector machine and a random forest,
averaged over the data sets of a group. Errors are standard errors over three splits, each of which
has its own set; they say nothing of other data sets.

"Linear" and "geometric" are noise schedules of the closed-form backbone: DDPM's linear one, under
which noise is more than three times the signal at the middle of a run, where guidance ends by
default, and the backbone's own, of noise that falls geometrically from 80 times the signal to
0.00125 of it. "Guided to 0.9" goes on until nine tenths of the run are over. "Refined" rows were
moved to support points afterwards. Real rows, the means of clusters and "k-means centres, refined"
need no diffusion.

The data sets of the first group chose the schedule, and splits of the training rows of the first
two chose the refining, so for these they are no test; those of the third were first looked at after
all was settled, those of the fourth, which a mixture of Gaussians describes badly, later still.
Wherever refining starts from, it ends at sets that are worth the same.

{tables}
## By data set

The defaults minus {reference}, of the rows as they are and of standardised ones, in points of
accuracy.

{differences}
"""


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--only", default="", metavar="REGEX", help="results whose names match")
    parser.add_argument("--page", action="store_true", help="only write the tables")
    options = parser.parse_args()
    if not options.page:
        chosen = [name for name in names() if re.search(options.only, name)]
        make_missing(RAW, chosen, measure)
    text = page(read_lines(RAW))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
