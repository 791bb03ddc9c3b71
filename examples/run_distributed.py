"""
Distil with several processes, GPUs or machines
===============================================

For whoever has more data than one processor gets through. Clustering is split by class and
sampling by batch, through joblib, so that nothing in skdistill has to know where the work is done:
``n_jobs`` spreads it over processes of this machine, and :class:`joblib.parallel_config` hands it
to a cluster that runs already. The set is the same, since the random numbers of a sample depend on
its place in the set alone.

A process loads the backbone from its folder once, and reads memory maps and image files for itself:
machines of a cluster have to see these under the same paths.

It starts processes of its own, so it is shown here, not run; ``python examples/run_distributed.py``
does, with ``pip install "dask[distributed]"``.
"""

import numpy as np
from dask.distributed import Client, LocalCluster
from joblib import parallel_config

from skdistill import ManifoldGDDistiller
from skdistill.datasets import load_digits_split


def main():
    """Distil the digits in this process and on a cluster; compare."""
    X, _, y, _ = load_digits_split()
    distiller = ManifoldGDDistiller(ipc=10, backbone="digits", batch_size=16, random_state=0)
    expected, _ = distiller.fit(X, y).sample()

    # %%
    # Two workers of one thread each on this machine. ``Client("scheduler:8786")`` is a cluster that
    # others have started. If a worker is lost, Dask gives its tasks to another one; with
    # ``sample(out_dir=...)`` the batches that are finished outlive this process too.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        parallel_config(backend="dask"),
    ):
        X_syn, _ = distiller.fit(X, y).sample()
    print(f"{len(X_syn)} samples, largest difference {np.abs(X_syn - expected).max():.1e}")

    # %%
    # Ray does the same once it is registered: ``ray.util.joblib.register_ray()``, then
    # ``parallel_config(backend="ray", n_jobs=-1, ray_remote_args=options)``. With ``options =
    # {"max_restarts": -1, "max_task_retries": -1}`` it starts a lost worker again; without them the
    # run stops there.
    #
    # Several GPUs want one process each that sees no other GPU. ``dask_cuda.LocalCUDACluster()``
    # starts such workers; by hand, ``CUDA_VISIBLE_DEVICES=0 dask worker scheduler:8786
    # --nthreads 1`` does, and so on for each GPU. Ray's ``options`` have ``"num_gpus": 1``.


# Worker processes import this file.
if __name__ == "__main__":
    main()
