"""A reduced run of what synthetic rows of tables are worth."""

import sys

import numpy as np
import pytest


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("tables")


def test_all_results_of_the_script_are_there_and_no_others(benchmark):
    assert set(benchmark.read_lines(benchmark.RAW)) == set(benchmark.names())


def test_a_short_form(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "RAW", tmp_path / "tables.jsonl")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "tables.md")
    monkeypatch.setattr(benchmark, "IPCS", (1,))
    monkeypatch.setattr(benchmark, "SPLITS", range(2))
    monkeypatch.setattr(sys, "argv", ["tables.py", "--only", "^iris/"])
    benchmark.main()
    results = benchmark.read_lines(benchmark.RAW)
    assert list(results) == [name for name in benchmark.names() if name.startswith("iris/")]
    page = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert page == benchmark.page(results)
    assert page in capsys.readouterr().out
    # Whole data sets alone are on the page, and each group under its own title.
    assert "| iris |" in page
    assert "wine" not in page
    assert "## Data that chose the schedule" not in page
    for method in benchmark.methods(1, 0):
        accuracies = benchmark.accuracies(results, "iris", 1, method)
        assert accuracies.shape == (2,)
        # Three classes of flowers, of which one is easily told.
        assert np.all(accuracies > 45)
    benchmark.main()
    assert benchmark.read_lines(benchmark.RAW) == results


def test_accuracies_are_means_over_judges_and_errors_over_splits(benchmark):
    method = "herding"
    results = {
        f"{data}/1/{method}/{seed}": dict.fromkeys(benchmark.judges(0), 0.5 + 0.1 * seed)
        for data in ("iris", "wine")
        for seed in benchmark.SPLITS
    }
    results[f"iris/1/{method}/0"]["random forest"] = 0.8
    accuracies = benchmark.accuracies(results, "iris", 1, method)
    np.testing.assert_allclose(accuracies, [60.0, 60.0, 70.0])
