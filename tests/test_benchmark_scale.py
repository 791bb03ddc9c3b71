"""What the benchmark of scale says, and that its page says what was measured."""

import numpy as np
import pytest

GIB = 2**30


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("scale")


@pytest.fixture
def results(benchmark):
    return benchmark.read_lines(benchmark.RAW)


def test_all_results_of_the_script_are_there_and_no_others(benchmark, results):
    assert set(results) == set(benchmark.names())


def test_memory_stays_within_three_gibibytes_and_time_grows_with_the_classes(benchmark, results):
    fits = [results[f"fit {n}"] for n in benchmark.N_CLASSES]
    assert max(fit["peak_bytes"] for fit in fits) < 3 * GIB
    a_class = [fit["time"] / n for fit, n in zip(fits, benchmark.N_CLASSES, strict=True)]
    assert max(a_class) < 1.3 * min(a_class)


def test_every_killed_run_ended_with_the_same_files(benchmark, results):
    assert results["kill"]["same"] == [True] * benchmark.N_KILLS
    assert min(results["kill"]["images_at_kill"]) < results["kill"]["images"] / 2


def test_a_cluster_made_the_same_set(results):
    assert results["dask"]["largest_difference"] < 1e-4
    assert results["dask"]["largest_difference_after_kill"] < 1e-4


def test_a_fit_in_short(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "ROWS_OF_CLASS", 60)
    benchmark.write_latents(tmp_path / "latents.npy", 3)
    X = np.load(tmp_path / "latents.npy", mmap_mode="r")
    assert X.shape == (180, 4096)
    assert X.dtype == np.float16
    found = benchmark.fit_in_this_process(tmp_path / "latents.npy", 2, str(tmp_path / "memory"))
    assert found["rows"] == 120
    assert found["bytes"] == X.nbytes * 2 // 3
    assert found["peak_bytes"] >= found["bytes_at_start"] > 0
    assert found["time"] > 0


def test_runs_killed_at_three_moments_end_with_the_same_files(benchmark):
    assert benchmark.measure_kills(3)["same"] == [True] * 3


@pytest.mark.slow
def test_runs_killed_at_twenty_moments_end_with_the_same_files(benchmark):
    assert benchmark.measure_kills(20)["same"] == [True] * 20
