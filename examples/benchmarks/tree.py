"""
How fast the divisive tree is
=============================

:class:`~skdistill.hierarchy.HierarchicalIPC` beside scikit-learn's ``BisectingKMeans`` and
``KMeans``, at the same number of leaves, restarts and random state and on the same data: how long
a fit takes, and what sum of squared errors the leaves have.

The data are Gaussian mixtures: 40 overlapping clusters of unequal shares in a common covariance of
which the eigenvalues fall as one over their rank, and the means drawn from a smaller copy of it.
All axes are principal ones, which none of the estimators can tell.

All four are fitted one after the other in one process with one thread, in an order that turns round
from seed to seed, so that a busy machine slows all alike. Times are CPU times, and only their ratio
within a seed is kept. A run does what is missing from ``docs/benchmarks/tree.jsonl``, one line a
size, number of restarts and seed, and writes the table to ``docs/benchmarks/tree.md``. It may be
stopped at any time. ``--page`` writes the table from what is there.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import sklearn
from results import make_missing, mean_and_error, read_lines, table
from sklearn.cluster import BisectingKMeans, KMeans
from threadpoolctl import threadpool_limits

from skdistill.hierarchy import HierarchicalIPC

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "tree.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "tree.md"
# Rows, features and leaves, and how many seeds the time allows by number of restarts.
SIZES = {
    (1300, 4096, 50): {1: 9, 10: 5},
    (6000, 256, 50): {1: 9, 10: 5},
    (50000, 64, 500): {1: 5, 10: 3},
}
RIVALS = {
    "BisectingKMeans": (BisectingKMeans, {}),
    "BisectingKMeans, k-means++": (BisectingKMeans, {"init": "k-means++"}),
    "KMeans": (KMeans, {}),
}
N_CLUSTERS = 40


def mixture(n, n_features, seed):
    """Draw the data of a seed."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, n_features + 1) ** -0.5
    means = 0.6 * scales * rng.normal(size=(N_CLUSTERS, n_features))
    cluster = rng.choice(N_CLUSTERS, size=n, p=rng.dirichlet(np.full(N_CLUSTERS, 2.0)))
    return means[cluster] + scales * rng.normal(size=(n, n_features))


def name_of(size, n_init, seed):
    """Return the name of a result."""
    return "/".join(map(str, (*size, n_init, seed)))


def names():
    """Return the names of all results, in the order in which they are measured."""
    return [
        name_of(size, n_init, seed)
        for size, n_seeds in SIZES.items()
        for n_init in n_seeds
        for seed in range(n_seeds[n_init])
    ]


def seconds_and_sse(estimator, X):
    """Fit an estimator; return the CPU time that it took and the SSE of its leaves or clusters."""
    start = time.process_time()
    estimator.fit(X)
    seconds = time.process_time() - start
    if isinstance(estimator, HierarchicalIPC):
        (tree,) = estimator.trees_
        return seconds, tree.sse[tree.leaves].sum()
    return seconds, estimator.inertia_


def measure(name):
    """Return the ratios of our time and SSE to those of each rival, as a dict."""
    n, n_features, n_leaves, n_init, seed = map(int, name.split("/"))
    X = mixture(n, n_features, seed)
    settings = {"n_init": n_init, "random_state": seed}
    estimators = {"ours": HierarchicalIPC(n_leaves, **settings)}
    for rival_name, (rival, params) in RIVALS.items():
        estimators[rival_name] = rival(n_leaves, **params, **settings)
    with threadpool_limits(1):
        # What a first fit has to load or set up is no part of any estimator's time.
        for estimator in estimators.values():
            sklearn.clone(estimator).set_params(n_init=1).fit(X[:n_leaves])
        order = list(estimators)
        found = {
            name: seconds_and_sse(estimators[name], X)
            for name in (reversed(order) if seed % 2 else order)
        }
    seconds, sse = found.pop("ours")
    return {
        "scikit-learn": sklearn.__version__,
        "time": {name: round(seconds / found[name][0], 4) for name in RIVALS},
        "sse": {name: round(sse / found[name][1], 6) for name in RIVALS},
    }


def ratios(results, size, n_init, figure, rival):
    """Return the ratio to a rival for each seed, "time" or "sse"."""
    made = [name_of(size, n_init, seed) for seed in range(SIZES[size][n_init])]
    return [results[name][figure][rival] for name in made if name in results]


def ratio_table(results):
    """Lay out the median time ratio and the mean SSE ratio to each rival."""
    header = ["rows; features; leaves", "restarts", "seeds"]
    header += [f"{figure}: {rival}" for figure in ("time", "SSE") for rival in RIVALS]
    rows = []
    for size, n_init in [(size, n_init) for size, n_seeds in SIZES.items() for n_init in n_seeds]:
        n_made = len(ratios(results, size, n_init, "time", "KMeans"))
        if not n_made:
            continue
        n, n_features, n_leaves = size
        row = [f"{n:,}; {n_features:,}; {n_leaves}", str(n_init), str(n_made)]
        for rival in RIVALS:
            times = ratios(results, size, n_init, "time", rival)
            row.append(f"{np.median(times):.2f} ({min(times):.2f} to {max(times):.2f})")
        sse = [ratios(results, size, n_init, "sse", rival) for rival in RIVALS]
        row += [mean_and_error(values, 4) for values in sse]
        rows.append(row)
    return table(header, rows)


def page(results):
    """Return the page."""
    versions = sorted({result["scikit-learn"] for result in results.values()})
    return TEMPLATE.format(
        table=ratio_table(results), versions=" and ".join(versions), n_clusters=N_CLUSTERS
    )


TEMPLATE = """\
<!-- Written by examples/benchmarks/tree.py from tree.jsonl. -->
# How fast the divisive tree is

The time that `HierarchicalIPC.fit` takes, and the sum of squared errors of its leaves, divided by
those of scikit-learn's estimators with as many leaves or clusters, as many restarts and the same
random state: below 1 is better than theirs. `BisectingKMeans` splits the cluster of largest SSE, as
`HierarchicalIPC` does, and starts from random rows unless k-means++ is named. `KMeans` has no tree
to keep to, so that it reaches a lower SSE.

Ratios of time are medians over seeds, with the lowest and the highest in brackets; ratios of SSE
are means ± standard errors. Each ratio is between fits to the same data, one after the other in one
process with one thread, by CPU time; the order turns round from seed to seed. scikit-learn is of
version {versions}.

{table}

The data of a seed are a mixture of {n_clusters} overlapping Gaussian clusters of unequal shares.
All have one covariance, of which the i-th eigenvalue is 1 / i, and their means are drawn from 0.36
times it. The first size is that of a class of ImageNette in the latent space of DiT-XL/2-256.
"""


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--page", action="store_true", help="only write the table")
    options = parser.parse_args()
    if not options.page:
        make_missing(RAW, names(), measure)
    text = page(read_lines(RAW))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
