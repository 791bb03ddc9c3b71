"""What other processes and machines are sent, and that they make the same set."""

import json
import os
import pickle
import shutil
import signal

import numpy as np
import pytest
from conftest import write_dit_folder
from joblib import delayed, parallel_config, register_parallel_backend
from joblib._parallel_backends import LokyBackend
from sklearn.base import clone

from skdistill import ManifoldGDDistiller
from skdistill.backbones import DiTBackbone
from skdistill.datasets import load_digits_split
from skdistill.generate import BatchedCalls
from skdistill.io import RunDirectory
from skdistill.refining import MatchingRefiner
from skdistill.tasks import SampleTask, _load_once, run_tasks

pytestmark = pytest.mark.filterwarnings("ignore:The VAE of backbone", "ignore:Images through")


@pytest.fixture(scope="module")
def digits():
    X, _, y, _ = load_digits_split()
    distiller = ManifoldGDDistiller(
        ipc=4,
        backbone="digits",
        refiner=MatchingRefiner(20, width=16),
        num_inference_steps=4,
        batch_size=8,
        random_state=0,
    )
    # Fractions, so that samples are not rounded to whole numbers, which may differ by one.
    X = X / 16
    return X, y, distiller.fit(X, y)


def task(distiller, places=(0, 1)):
    plan = distiller._plan(distiller.ipc).part(np.array(places))
    return SampleTask(distiller, distiller._sampler(), plan)


def test_a_task_is_sent_the_rows_of_its_classes_and_no_weights(digits):
    _, _, distiller = digits
    Z = distiller._latents[0]
    weights = sum(p.numel() for p in distiller.backbone_.denoiser.parameters())
    sent = len(pickle.dumps(task(distiller)))
    assert sent < Z.nbytes + 50_000 < 4 * weights
    assert sent < len(pickle.dumps(distiller)) / 20


def test_a_process_loads_a_backbone_once(digits):
    _, _, distiller = digits
    _load_once.cache_clear()
    first, second = (pickle.loads(pickle.dumps(task(distiller, [i]))) for i in (0, 9))
    assert first.backbone.backbone.denoiser is second.backbone.backbone.denoiser
    assert _load_once.cache_info().misses == 1


def test_a_backbone_that_may_be_unlike_its_folder_is_sent_whole(small_images, dit_folder):
    X, y = small_images
    backbone = DiTBackbone(dit_folder)
    for parameter in backbone.denoiser.parameters():
        parameter.data *= 1.5
    params = {"ipc": 1, "num_inference_steps": 2, "random_state": 0, "refiner": "passthrough"}
    distiller = ManifoldGDDistiller(backbone=backbone, **params).fit(X, y)
    expected = distiller.sample()[0]
    made = pickle.loads(pickle.dumps(task(distiller, [0, 1, 2])))
    np.testing.assert_allclose(made(BatchedCalls(3)).astype(int), expected, atol=1)


def test_a_folder_that_a_machine_lacks_or_has_otherwise_is_named(
    tmp_path, small_images, dit_folder
):
    distiller = ManifoldGDDistiller(
        ipc=1, backbone=dit_folder, num_inference_steps=2, random_state=0
    ).fit(*small_images)
    pickled = pickle.dumps(task(distiller))
    shutil.rmtree(dit_folder)
    _load_once.cache_clear()
    with pytest.raises(ValueError, match="is not on this machine"):
        pickle.loads(pickled)
    # Where it is not on this machine either, it is sent whole.
    assert pickle.loads(pickle.dumps(task(distiller))).backbone.backbone.name == str(dit_folder)
    write_dit_folder(dit_folder, n_classes=4)
    with pytest.raises(ValueError, match="are others than when the distiller was fitted"):
        pickle.loads(pickled)


def test_a_dask_cluster_makes_the_same_set_and_may_lose_a_worker(digits, tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed")
    X, y, distiller = digits
    expected = distiller.sample()[0]
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    write, killed = RunDirectory.write, []
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        parallel_config("dask"),
    ):
        on_cluster = clone(distiller).fit(X, y)

        def kill_once(run, places, samples):
            write(run, places, samples)
            if not killed:
                killed.append(min(client.run(os.getpid).values()))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(RunDirectory, "write", kill_once)
        made = on_cluster.sample(out_dir=tmp_path / "run")[0]
    assert killed
    np.testing.assert_allclose(made, expected, atol=1e-4)
    lines = (tmp_path / "run" / "images" / "metadata.jsonl").read_text().splitlines()
    assert len([json.loads(line)["sha256"] for line in lines]) == len(expected)


class AllAtOnce(LokyBackend):
    """Processes whose results come all at once, as Ray's do."""

    supports_return_generator = False


@pytest.fixture
def all_at_once():
    register_parallel_backend("all at once", AllAtOnce)
    with parallel_config("all at once", n_jobs=2):
        yield


@pytest.mark.usefixtures("all_at_once")
def test_a_backend_without_generators_is_given_tasks_by_and_by():
    taken = []
    results = run_tasks((delayed(abs)(-i) for i in range(9) if not taken.append(i)), None)
    assert next(results) == 0
    assert len(taken) < 9
    assert list(results) == list(range(1, 9))
    assert list(run_tasks((), None)) == []


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_results_come_while_tasks_are_left(backend):
    taken = []
    with parallel_config(backend, n_jobs=1):
        results = run_tasks((delayed(abs)(-i) for i in range(3) if not taken.append(i)), None)
        assert next(results) == 0
        assert len(taken) == 1
        assert list(results) == [1, 2]


@pytest.mark.usefixtures("all_at_once")
def test_a_backend_without_generators_makes_the_same_set(small_images, dit_folder, tmp_path):
    X, y = small_images
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    params = {"ipc": 2, "backbone": dit_folder, "num_inference_steps": 2, "random_state": 0}
    params["refiner"] = MatchingRefiner(5, width=16)
    made = ManifoldGDDistiller(**params).fit(mapped, y).sample(out_dir=tmp_path / "run")[0]
    with parallel_config("sequential"):
        expected = ManifoldGDDistiller(**params).fit(X, y).sample()[0]
    np.testing.assert_allclose(made.astype(int), expected, atol=1)


@pytest.mark.slow
def test_ray_makes_the_same_set_and_may_lose_a_worker(digits, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    from ray.util.joblib import register_ray

    X, y, distiller = digits
    expected = distiller.sample()[0]
    write, killed = RunDirectory.write, []

    def kill_once(run, places, samples):
        write(run, places, samples)
        if not killed:
            workers = [p for p in psutil.process_iter() if p.name() == "ray::PoolActor"]
            killed.append(workers[0].pid)
            workers[0].kill()

    monkeypatch.setattr(RunDirectory, "write", kill_once)
    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    again = {"max_restarts": -1, "max_task_retries": -1}
    try:
        with parallel_config("ray", n_jobs=-1, ray_remote_args=again):
            made = clone(distiller).fit(X, y).sample(out_dir=tmp_path / "run")[0]
    finally:
        ray.shutdown()
    assert killed
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_a_compiled_network_draws_the_same_samples_and_is_compiled_where_it_is_sent(
    small_images, dit_folder
):
    params = {"ipc": 1, "backbone": dit_folder, "num_inference_steps": 2, "random_state": 0}
    plain, compiled = (
        ManifoldGDDistiller(compile=compile, refiner="passthrough", **params).fit(*small_images)
        for compile in (False, True)
    )
    denoiser = compiled.backbone_.denoiser
    assert denoiser._compiled_call_impl is not None
    np.testing.assert_allclose(
        compiled.sample()[0].astype(int), plain.sample()[0].astype(int), atol=1
    )
    _load_once.cache_clear()
    received = pickle.loads(pickle.dumps(task(compiled))).backbone.backbone.denoiser
    assert received is not denoiser
    assert received._compiled_call_impl is not None
    assert pickle.loads(pickle.dumps(task(plain))).backbone.backbone.denoiser is not received
