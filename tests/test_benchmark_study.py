"""A reduced run of the study."""

import numpy as np
import pytest

from skdistill.protocols import PROTOCOLS


@pytest.fixture
def study(load_benchmark):
    return load_benchmark("study")


@pytest.mark.parametrize(
    "name",
    [
        "accuracy/digits/1/k-means medoids/linear/0/0",
        "accuracy/digits/1/ManifoldGD, published/ConvNet-2/0/0",
        "ladder/digits/10/neighbours by their posterior/linear/0/0",
        "figures/digits/1/ManifoldGD/0",
    ],
)
def test_a_reduced_run(study, name, monkeypatch):
    assert name in study.cells("digits")
    monkeypatch.setitem(PROTOCOLS["digits"], "steps", 30)
    monkeypatch.setitem(PROTOCOLS["digits"], "epochs", 1)
    result = study.measure(name)
    if "accuracy" in result:
        assert 0.2 < result["accuracy"] < 1.0
    else:
        assert set(result) == {*study.FIGURES, "cost"}
        assert result["cost"] > 0
        # One image of each class, which is no copy of a real one.
        assert result["nearest_real_ratio"] > 0.2


def results_of(study, gains):
    """Return made-up results in which the default is ahead of each rival by a gain a set."""
    results = {}
    for seed in range(5):
        for method, gain in ((study.OURS, 0.0), *gains.items()):
            for student_seed in range(3):
                name = f"accuracy/digits/10/{method}/ConvNet-2/{seed}/{student_seed}"
                # Sets differ by much, their students by little, and what is paired cancels.
                base = 0.5 + 0.1 * seed + 0.01 * student_seed
                results[name] = {"accuracy": base - np.broadcast_to(gain, 5)[seed]}
    return results


def test_differences_are_paired_by_set(study):
    results = results_of(study, {"MGD": [0.01, 0.02, 0.01, 0.02, 0.01], "unguided": -0.03})
    ours = study.accuracies(results, f"accuracy/digits/10/{study.OURS}", "ConvNet-2")
    assert ours == pytest.approx({seed: 51.0 + 10 * seed for seed in range(5)})
    gains = study.difference(results, "digits", 10, "MGD", "ConvNet-2")
    np.testing.assert_allclose(sorted(gains), [1, 1, 1, 2, 2])
    assert study.is_ahead(gains)
    losses = study.difference(results, "digits", 10, "unguided", "ConvNet-2")
    np.testing.assert_allclose(losses, -3)
    assert not study.is_ahead(losses)
    page = study.page(results)
    assert "| - MGD | - | - | **1.4 ± 0.2** | - | - | - |" in page
    assert "| - unguided | - | - | -3.0 ± 0.0 | - | - | - |" in page


def test_another_network_is_trained_on_the_default_and_the_best(study, monkeypatch, tmp_path):
    """The default comes last here, and is among them."""
    methods = [name for name in study.estimators("cifar10", 10, 0) if name != study.OURS]
    results = {
        f"accuracy/cifar10/10/{method}/ConvNet-3/{seed}/0": {"accuracy": 0.1 + 0.01 * place}
        for seed in range(study.SEEDS["cifar10"])
        for place, method in enumerate([study.OURS, *methods])
    }
    expected = [study.OURS, *methods[: -study.LEADERS - 1 : -1]]
    assert study.leaders(results, "cifar10") == expected
    del results[f"accuracy/cifar10/10/{methods[0]}/ConvNet-3/0/0"]
    assert study.leaders(results, "cifar10") == []
    monkeypatch.setattr(study, "RAW", tmp_path / "none.jsonl")
    assert study.transfer_cells("cifar10") == study.transfer_cells("digits") == []


def test_what_is_no_more_than_chance_is_not_called_ahead(study):
    assert not study.is_ahead(np.array([3.0]))
    assert not study.is_ahead(np.array([4.0, -2.0, 1.0]))
    assert study.is_ahead(np.array([1.0, 1.1, 0.9]))
