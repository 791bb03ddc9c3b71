"""What the benchmark of guidance says, and that its page says what was measured."""

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 4,
    "patch_size": 2,
    "num_embeds_ada_norm": 10,
}


@pytest.fixture
def benchmark(load_benchmark, monkeypatch):
    script = load_benchmark("speed")
    monkeypatch.setattr(script, "N_LATENTS", 200)
    return script


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_all_results_are_those_of_the_script_on_the_digits_at_least(benchmark):
    made = set(benchmark.read_lines(benchmark.RAW))
    assert set(benchmark.names(["digits"])) <= made <= {*benchmark.names(), "gpu/0"}


def test_prepared_guidance_meets_its_bars(benchmark):
    results = benchmark.read_lines(benchmark.RAW)
    for name, found in benchmark.of_part(results, "step").items():
        largest = 0.02 if name == benchmark.DIT_XL else 0.1
        assert np.median(benchmark.shares_of(found, "prepared")) <= largest
    for found in benchmark.of_part(results, "published")["4096"]:
        assert found["ratio"]["prepared"]["with_preparation"] >= 1000


def test_the_published_estimate_knows_nothing_of_the_data_and_ours_does(benchmark):
    for found in benchmark.of_part(benchmark.read_lines(benchmark.RAW), "angles").values():
        means = {
            name: np.mean([result["angle"][name] for result in found], axis=0)
            for name in benchmark.ESTIMATES
        }
        assert (means["spheres"] > 70).all()
        for name in ("prepared", "wide", "posterior"):
            assert (means[name] < means["spheres"]).all()


def test_a_short_form_of_a_step(benchmark, one_thread):
    backbone = benchmark.RandomDiT(SMALL, dtype=torch.float32)
    result = benchmark.measure_step("small", 0, backbone=backbone, settings=(1, 4, 3))
    assert result["batch"] == 4
    for tangents in benchmark.TANGENTS:
        assert len(result["share"][tangents]) == 3
        assert all(0 < share < 1 for share in result["share"][tangents])


def test_a_short_form_beside_the_published_step(benchmark, one_thread):
    ratio = benchmark.measure_published(512, 0, n_published=1)["ratio"]
    # Measured: thousands, and tens with preparation.
    assert ratio["prepared"]["step"] > 20
    for figures in ratio.values():
        assert 0 < figures["with_preparation"] < figures["step"]


def test_a_short_form_of_the_angles(benchmark):
    _, truth = benchmark.known_plane("curved", 0)
    np.testing.assert_allclose(truth @ truth.T, np.eye(3), atol=1e-12)
    angles = benchmark.measure_angles("plane", 0)["angle"]
    assert set(angles) == set(benchmark.ESTIMATES)
    assert all(len(values) == len(benchmark.LEVELS) for values in angles.values())
    assert max(angles["wide"]) < min(angles["spheres"])


def test_the_published_tangent_is_the_top_of_its_covariance(benchmark):
    """Without noise and with 12 points there is nothing to choose."""
    points = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, basis = benchmark.published.tangent(points[0], points, 1.0, torch.Generator())
    torch.testing.assert_close(mean, points.mean(dim=0))
    top = np.linalg.svd(points.numpy() - mean.numpy())[2][:3]
    assert subspace_angles(top.T, basis.numpy().T)[0] < 1e-6


def test_a_short_form_of_sampling(benchmark, one_thread, monkeypatch):
    monkeypatch.setattr(benchmark, "BATCHES", {1: 1, 10: 1})
    result = benchmark.measure_sampling("digits", 0, steps=4)
    assert result["images_a_second"]["1"] == 1.0
    for parts in result["share"].values():
        assert parts["network"] < sum(parts.values()) <= 1.0
        assert all(share > 0 for share in parts.values())


@pytest.mark.slow
def test_a_short_form_of_compiling(benchmark):
    backbone = benchmark.RandomDiT(SMALL, dtype=torch.float32)
    result = benchmark.measure_compile("small", backbone=backbone, batch_size=2, repeats=2)
    assert len(result["ratio"]) == 2
    assert result["compiling_in_calls"] > 1


def test_a_short_form_on_a_gpu_without_one(benchmark):
    backbone = benchmark.RandomDiT(SMALL, dtype=torch.bfloat16)
    result = benchmark.measure_gpu(
        "cpu", backbone=backbone, batch_size=2, repeats=1, n_steps=3, matmul_size=64
    )
    assert 0 < result["network_share"] < 1
    assert set(result["images_a_second"]) == {"guided", "unguided"}
    text = benchmark.gpu_text({"gpu/0": {"name": "gpu/0"} | result})
    assert f"{result['images_a_second']['guided']:.2f}" in text
    assert "Not measured yet" in benchmark.gpu_text({})


def test_only_what_is_missing_is_measured(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "RAW", tmp_path / "speed.jsonl")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "speed.md")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--only", "^angles/plane/[01]$"])
    # Restored afterwards, whatever the script sets.
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    benchmark.main()
    results = benchmark.read_lines(benchmark.RAW)
    assert list(results) == ["angles/plane/0", "angles/plane/1"]
    assert not benchmark.PAGE.exists()
    benchmark.main()
    assert benchmark.read_lines(benchmark.RAW) == results
    assert "missing" in capsys.readouterr().out
