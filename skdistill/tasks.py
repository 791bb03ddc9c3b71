"""What fitting and sampling hand to other processes and machines, through joblib.

A task holds what it needs and no more, and says by name what is on disk: rows, and the weights of
a backbone that comes from a folder, which a process loads once. Machines of a cluster have to see
these files under the same paths. Nothing is an argument of its own that is large: Dask would keep
it on one worker, and lose it with that one.
"""

import copy
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from joblib import Parallel, effective_n_jobs, parallel_config
from sklearn.utils import gen_batches

from skdistill.backbones.latent_diffusion import LatentDiffusion
from skdistill.generate import BatchedCalls
from skdistill.latents import at_least_float32
from skdistill.tree import first_equal_row

__all__ = ["ClusterTask", "EncodeTask", "Plan", "SampleTask", "count_distinct", "run_tasks"]


def run_tasks(tasks, n_jobs):
    """Yield the results of tasks in their order, so that each can be kept while others run.

    Parameters
    ----------
    tasks : iterable of joblib.delayed
        Taken as workers get free.

    n_jobs : int or None
        As joblib has it, within the backend of :class:`joblib.parallel_config`.

    Yields
    ------
    result : object
        Of a task.

    Examples
    --------
    >>> from joblib import delayed
    >>> from skdistill.tasks import run_tasks
    >>> list(run_tasks((delayed(abs)(i) for i in (-1, 2)), n_jobs=2))
    [1, 2]
    """
    try:
        parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    except ValueError:
        # Ray hands over all results at once: of a few tasks each time, or the first of them could
        # only be kept when the last is there.
        tasks, n_at_once = iter(tasks), 2 * effective_n_jobs(n_jobs)
        with Parallel(n_jobs=n_jobs) as parallel:
            while some := list(islice(tasks, n_at_once)):
                yield from parallel(some)
    else:
        yield from parallel(tasks)


def count_distinct(Z):
    """Return the number of distinct rows.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_features)
        Finite floats.

    Returns
    -------
    n_distinct : int
        Zeros of either sign are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from skdistill.tasks import count_distinct
    >>> count_distinct(np.array([[1.0], [0.0], [1.0], [-0.0]]))
    2
    """
    return len(np.unique(first_equal_row(Z)))


@dataclass(frozen=True)
class Plan:
    """Which centroid each sample of a set is pulled towards.

    Attributes
    ----------
    centers : ndarray of shape (n_centroids, n_latent_features)
    center_classes : ndarray of shape (n_centroids,)
    assigned : ndarray of shape (n_samples,)
        The centroid of each sample.
    indices : ndarray of shape (n_samples,) or None
        Its number within its class, where it has one.
    levels : list of length n_centroids or None
        Depth of each centroid in its tree, None where the clusterer has none.
    clusterers : list of length n_classes or None
        What has the centroids of each class.
    """

    centers: np.ndarray
    center_classes: np.ndarray
    assigned: np.ndarray
    indices: np.ndarray | None = None
    levels: list | None = None
    clusterers: list | None = None

    @property
    def labels(self):
        """Class of each sample, ndarray of shape (n_samples,)."""
        return self.center_classes[self.assigned]

    def part(self, batch):
        """Return what concerns some samples; `batch` is an ndarray of int."""
        needed, assigned = np.unique(self.assigned[batch], return_inverse=True)
        indices = self.indices[batch]
        return Plan(self.centers[needed], self.center_classes[needed], assigned, indices)


class _SentBackbone:
    """A backbone as it travels: by the name of its folder where it came from one.

    Parameters
    ----------
    backbone : backbone
        The backbone.

    by_name : bool
        Whether it is as its folder has it.
    """

    def __init__(self, backbone, by_name):
        self.backbone, self.by_name = backbone, by_name

    def __reduce__(self):
        backbone = self.backbone
        if not self.by_name or not backbone.folder.is_dir():
            return _SentBackbone, (backbone, False)
        state = {name: value for name, value in vars(backbone).items() if not _is_network(value)}
        where = (
            type(backbone),
            backbone.folder,
            backbone.dtype,
            backbone.compile,
            backbone.fingerprint,
        )
        return _received, (where, state)


def _is_network(value):
    return isinstance(value, torch.nn.Module)


@lru_cache(maxsize=1)
def _load_once(kind, folder, dtype, compile, fingerprint):
    """Load a backbone that other tasks of this process may have loaded."""
    if not folder.is_dir():
        raise ValueError(
            f"The backbone's folder {str(folder)!r} is not on this machine; all machines of a "
            "cluster must see it under that path."
        )
    backbone = kind(folder, dtype, compile=compile)
    if backbone.fingerprint != fingerprint:
        raise ValueError(
            f"The weights in {str(folder)!r} are others than when the distiller was fitted."
        )
    return backbone


def _received(where, state):
    backbone = copy.copy(_load_once(*where))
    # What fit has told it, as the prompts of the classes.
    vars(backbone).update(state)
    return _SentBackbone(backbone, True)


def _sent(distiller):
    given_by_name = isinstance(distiller.backbone, (str, os.PathLike))
    by_name = given_by_name and isinstance(distiller.backbone_, LatentDiffusion)
    return _SentBackbone(distiller.backbone_, by_name)


class EncodeTask:
    """Encode the rows of a class.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        With its backbone and format.

    x : BackboneRows
        The rows.
    """

    def __init__(self, distiller, x):
        self.backbone, self.x = _sent(distiller), x
        self.device, self.batch_size = distiller._device(), distiller.batch_size
        self.dtype = distiller.latents_dtype

    def __call__(self):
        """Return latents of shape (n_samples, n_features)."""
        backbone, calls = self.backbone.backbone.to(self.device), BatchedCalls(self.batch_size)
        latents = None
        # What a batch is made of must not depend on how much is read at once.
        for batch in gen_batches(len(self.x), self.batch_size):
            z = backbone.encode(self.x[batch], calls)
            if latents is None:
                dtype = z.dtype if self.dtype is None else np.dtype(self.dtype)
                latents = np.empty((len(self.x), z[0].size), dtype=dtype)
            latents[batch] = z.reshape(len(z), -1)
        return latents


class ClusterTask:
    """Fit a clusterer to the latents of a class.

    Parameters
    ----------
    clusterer : estimator
        Unfitted.

    Z : ndarray of shape (n_samples, n_features)
        The latents.

    n : int
        The budget, capped by the number of distinct rows.
    """

    def __init__(self, clusterer, Z, n):
        self.clusterer, self.Z, self.n = clusterer, Z, n

    def __call__(self):
        """Return the fitted clusterer."""
        Z = at_least_float32(self.Z)
        params = self.clusterer.get_params()
        for name in ("ipc", "n_clusters"):
            if name in params:
                n = min(self.n, count_distinct(Z)) if self.n > 1 else self.n
                self.clusterer.set_params(**{name: n})
        return self.clusterer.fit(Z)


class SampleTask:
    """Make a batch of samples.

    Parameters
    ----------
    distiller : ManifoldGDDistiller
        Fitted.

    sampler : Sampler
        Of the distiller.

    plan : Plan
        Of these samples alone.
    """

    def __init__(self, distiller, sampler, plan):
        self.backbone, self.plan = _sent(distiller), plan
        sampler = sampler.of_classes(np.unique(plan.labels).tolist())
        self.sampler = replace(sampler, backbone=None)

    def __call__(self, calls, progress=None):
        """Return the samples in the caller's terms."""
        sampler = replace(self.sampler, backbone=self.backbone.backbone)
        # Within a worker, estimators would ask the cluster again for what they run in parallel.
        with parallel_config("sequential"):
            return sampler.sample(self.plan, slice(None), calls, progress)
