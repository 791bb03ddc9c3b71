"""
Memory, time and survival at scale
==================================

:class:`~skdistill.ManifoldGDDistiller` fitted to a memory map of latents that is larger than the
memory it may take, with ever more classes: peak memory of a fresh process, and CPU time beside
that of one class clustered in memory. Then a run that is killed at random moments and started
again, and a run on a local Dask cluster that loses a worker.

A run does what is missing from ``docs/benchmarks/scale.jsonl``, one line a result, and writes the
tables to ``docs/benchmarks/scale.md``. It may be stopped at any time. It needs 22 GB of disk in
``--scratch``, and Dask. ``--page`` writes the tables from what is there.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import diffusers
import numpy as np
from joblib import parallel_config
from results import make_missing, read_lines, table
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.datasets import load_digits_split
from skdistill.io import RunDirectory
from skdistill.refining import MatchingRefiner

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "scale.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "scale.md"
N_CLASSES = (25, 50, 100, 200, 1000)
ROWS_OF_CLASS = 1280
SIDE = 64
IPC = 10
N_KILLS = 20
REFINING_STEPS = 10
MIB = 2**20
PRELOADED = [
    f"diffusers.{module}"
    for module in (
        "models.autoencoders.autoencoder_kl",
        "models.transformers.dit_transformer_2d",
        "schedulers.scheduling_ddpm",
    )
]


class Latents:
    """A backbone of which the images are the latents, so that no network is timed."""

    name = fingerprint = "latents"
    guidance_scale = 1.0
    image_shape = (1, SIDE, SIDE)
    latent_shape = (1, SIDE, SIDE)
    value_range = None
    default_scheduler = diffusers.DDPMScheduler(clip_sample=False)

    def class_indices(self, classes, class_map):
        return np.arange(len(classes))

    def to(self, device):
        return self

    def encode(self, x, calls):
        return x

    def decode(self, z, calls):
        return z.numpy()

    def predict(self, x_t, t, alpha_bar, labels, guidance_scale=None):
        return x_t


def write_latents(path, n_classes):
    """Write latents of many classes, float16, class by class."""
    n_features = SIDE**2
    rng = np.random.default_rng(0)
    scales = np.arange(1, n_features + 1, dtype=np.float32) ** -0.5
    noise = scales * rng.standard_normal((ROWS_OF_CLASS, n_features), dtype=np.float32)
    shape = (n_classes * ROWS_OF_CLASS, n_features)
    with path.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for k in range(n_classes):
            rng = np.random.default_rng((1, k))
            signs = rng.choice(np.array([-1, 1], dtype=np.float32), n_features)
            modes = scales * rng.standard_normal((20, n_features), dtype=np.float32)
            Z = noise * signs
            Z += modes[rng.integers(20, size=ROWS_OF_CLASS)]
            file.write(Z.astype(np.float16).data)


class Peak(threading.Thread):
    """Watches the anonymous memory of this process: what is no page of a file."""

    def __init__(self):
        super().__init__(daemon=True)
        self.anonymous = 0
        self.start()

    def run(self):
        while True:
            with open("/proc/self/status") as file:
                (line,) = (line for line in file if line.startswith("RssAnon"))
            self.anonymous = max(self.anonymous, int(line.split()[1]) * 1024)
            time.sleep(0.05)


def reference_seconds(path):
    """Return the CPU time to cluster one class in memory."""
    Z = np.load(path, mmap_mode="r")[:ROWS_OF_CLASS].astype(np.float32)
    clusterer = HierarchicalIPC(IPC, random_state=0)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        clone(clusterer).fit(Z)
        seconds.append(time.process_time() - start)
    return min(seconds)


def fit_in_this_process(path, n_classes, memory):
    """Fit to the first classes of a file; return what it took."""
    peak = Peak()
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    X = np.load(path, mmap_mode="r")[: n_classes * ROWS_OF_CLASS]
    y = np.repeat(np.arange(n_classes), ROWS_OF_CLASS)
    distiller = ManifoldGDDistiller(
        ipc=IPC,
        backbone=Latents(),
        image_shape=(SIDE, SIDE),
        value_range=(-8, 8),
        latents_dtype="float16",
        batch_size=ROWS_OF_CLASS,
        memory=memory,
        random_state=0,
    )
    with threadpool_limits(1):
        before = reference_seconds(path)
        start = time.process_time()
        distiller.fit(X, y)
        seconds = time.process_time() - start
        reference = (before + reference_seconds(path)) / 2
    assert distiller.cluster_centers_.shape == (n_classes * IPC, SIDE**2)
    return {
        "rows": len(X),
        "bytes": X.nbytes,
        "bytes_at_start": at_start,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_anonymous_bytes": peak.anonymous,
        "time": round(seconds / reference, 1),
    }


def measure_fit(n_classes, scratch):
    """Return what a fit takes in a fresh process."""
    path = scratch / "latents.npy"
    most = max(N_CLASSES)
    if not path.exists() or len(np.load(path, mmap_mode="r")) != most * ROWS_OF_CLASS:
        write_latents(path, most)
    memory = tempfile.mkdtemp(dir=scratch)
    try:
        command = [sys.executable, __file__, "--fit", str(n_classes), str(path), memory]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        shutil.rmtree(memory)
    return json.loads(done.stdout.splitlines()[-1])


def digits_distiller():
    """Return a distiller of the digits, fitted, of which the set takes seconds in ten batches."""
    X, _, y, _ = load_digits_split()
    distiller = ManifoldGDDistiller(
        ipc=10,
        backbone="digits",
        num_inference_steps=10,
        refiner=MatchingRefiner(REFINING_STEPS),
        random_state=0,
    )
    return distiller.fit(X, y)


def hashes(folder):
    """Return the SHA-256 of all files of a folder by their names."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sample_in_another_process(pickled, out_dir, started):
    """Sample into a run directory; say when that starts."""
    distiller = pickle.loads(pickled)
    started.set()
    distiller.sample(out_dir=out_dir)


def measure_kills(n_kills):
    """Kill runs at random moments and start them again; return what came of it."""
    distiller = digits_distiller()
    pickled = pickle.dumps(distiller)
    context = multiprocessing.get_context("forkserver")
    # What takes long to import, so that each run starts at once.
    context.set_forkserver_preload(["torch", "sklearn.metrics", *PRELOADED])
    rng = np.random.default_rng(0)
    finished, same = [], []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        distiller.sample(out_dir=whole)
        expected = hashes(whole)

        def run(out_dir, seconds=None):
            """Run to the end, or kill after some seconds; return seconds, None if killed."""
            started = context.Event()
            process = context.Process(
                target=sample_in_another_process, args=(pickled, out_dir, started)
            )
            process.start()
            started.wait()
            start = time.monotonic()
            process.join(seconds)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            return time.monotonic() - start if process.exitcode == 0 else None

        out_dir = Path(scratch) / "run"
        longest = run(out_dir)
        while len(same) < n_kills:
            shutil.rmtree(out_dir)
            if run(out_dir, rng.uniform(0, longest)) is not None:
                # It was done before the moment came.
                continue
            finished.append(len(list(out_dir.glob("images/*/[0-9]*.png"))))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                run(out_dir)
            same.append(hashes(out_dir) == expected)
    return {"images_at_kill": sorted(finished), "images": 100, "same": same}


def measure_dask():
    """Distil on a cluster of two processes, then again while one is killed; compare the sets."""
    from dask.distributed import Client, LocalCluster

    X, _, y, _ = load_digits_split()
    expected = digits_distiller().sample()[0]
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(**options) as cluster,
        Client(cluster) as client,
        parallel_config("dask"),
        tempfile.TemporaryDirectory() as scratch,
    ):
        distiller = clone(digits_distiller()).fit(X, y)
        made = distiller.sample()[0]
        killed = []
        write = RunDirectory.write

        def kill_once(run, places, X):
            write(run, places, X)
            if not killed:
                killed.append(min(client.run(os.getpid).values()))
                os.kill(killed[0], signal.SIGKILL)

        RunDirectory.write = kill_once
        try:
            after_kill = distiller.sample(out_dir=Path(scratch) / "run")[0]
        finally:
            RunDirectory.write = write
    return {
        "workers": 2,
        "largest_difference": float(np.abs(made - expected).max()),
        "largest_difference_after_kill": float(np.abs(after_kill - expected).max()),
        "samples": len(expected),
    }


def names():
    """Return the names of all results, in the order in which they are made."""
    return [*(f"fit {n}" for n in N_CLASSES), "kill", "dask"]


def measure(name, scratch):
    """Return a result by its name."""
    kind, _, n = name.partition(" ")
    if kind == "fit":
        return measure_fit(int(n), scratch)
    return measure_kills(N_KILLS) if kind == "kill" else measure_dask()


def page(results):
    """Return the page."""
    fits = [(n, results[f"fit {n}"]) for n in N_CLASSES if f"fit {n}" in results]
    rows = [
        [
            f"{n:,}",
            f"{fit['rows']:,}",
            f"{fit['bytes'] / MIB:,.0f}",
            f"{fit['peak_bytes'] / MIB:,.0f}",
            f"{fit['peak_anonymous_bytes'] / MIB:,.0f}",
            f"{fit['time']:,.0f}",
            f"{fit['time'] / n:.2f}",
        ]
        for n, fit in fits
    ]
    header = ["classes", "rows", "latents, MiB", "peak memory, MiB", "of it anonymous, MiB"]
    header += ["time", "time a class"]
    kill, dask = results["kill"], results["dask"]
    return TEMPLATE.format(
        fits=table(header, rows),
        n_features=SIDE**2,
        rows_of_class=f"{ROWS_OF_CLASS:,}",
        ipc=IPC,
        at_start=f"{fits[-1][1]['bytes_at_start'] / MIB:,.0f}",
        n_kills=len(kill["same"]),
        n_same=sum(kill["same"]),
        images=kill["images"],
        refining_steps=REFINING_STEPS,
        fewest=min(kill["images_at_kill"]),
        most=max(kill["images_at_kill"]),
        **{key: value for key, value in dask.items() if key in ("workers", "samples")},
        difference=f"{dask['largest_difference']:.1e}",
        difference_after_kill=f"{dask['largest_difference_after_kill']:.1e}",
    )


TEMPLATE = """\
<!-- Written by examples/benchmarks/scale.py from scale.jsonl. -->
# Memory, time and survival at scale

## Data larger than memory

`ManifoldGDDistiller.fit` on a memory map of latents, float16, {n_features:,} features,
{rows_of_class} rows a class, `ipc={ipc}`, in a fresh process with one thread. It checks and hashes
the rows, writes them class by class as the latents, in float16 again, and clusters one class after
the other.

{fits}

Peak memory is the maximum resident set size of the process, pages of files that are mapped at the
time included; the import of the package alone takes {at_start} MiB of it. Anonymous memory is what
is no page of a file, the highest of 20 looks a second. What grows with the number of classes is the
result: the centres of all nodes of the trees.

Time is the CPU time of `fit`, divided by that of clustering one class in memory, timed before and
after it in the same process.

The data are synthetic: a class is 20 clusters in one Gaussian covariance of which the i-th
eigenvalue is 1 / i. Its rows lie in the file one after the other. Each size was run once, on a
busy machine; means of rows have been computed in another way since.

## A run that is killed

A run that distils the digits to {images} images, class by class, each refined in {refining_steps}
steps, is killed by SIGKILL at {n_kills} moments drawn uniformly from its duration, {fewest} to
{most} images being there by then, and started again: **{n_same} of {n_kills} ended with the same
files**, byte for byte by their SHA-256, as the run that was not killed.

## A cluster

The same {samples} digits, fitted and sampled by a local Dask cluster of {workers} worker processes,
differ by at most {difference} (in pixel values of 0 to 16) from those of one process. With one
worker killed by SIGKILL after the first class, the set is complete and differs by at most
{difference_after_kill}.
"""


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--page", action="store_true", help="only write the tables")
    parser.add_argument("--scratch", type=Path, help="folder for the data", default=None)
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        n_classes, path, memory = options.fit
        print(json.dumps(fit_in_this_process(path, int(n_classes), memory)))
        return
    if not options.page:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            make_missing(RAW, names(), lambda name: measure(name, Path(scratch)))
    PAGE.write_text(page(read_lines(RAW)), encoding="utf-8")


if __name__ == "__main__":
    main()
