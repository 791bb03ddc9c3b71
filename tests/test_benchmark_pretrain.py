"""What a training step costs, and that it can be measured again."""

import json

import numpy as np
import pytest


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("pretrain")


def test_a_step_is_within_five_times_its_products(benchmark):
    raw = json.loads(benchmark.RAW.read_text(encoding="utf-8"))
    assert max(np.median(kinds[benchmark.AFTER]) for kinds in raw["ratios"].values()) <= 5


def test_a_short_form_measures_and_knows_the_products(benchmark):
    shape = (4, 4, 64, 2, 1)
    raw = benchmark.measure({"tiny": shape}, rounds=2, n_steps=1)
    assert min(min(ratios) for ratios in raw["ratios"]["tiny"].values()) > 0
    dit, loss = benchmark.make_loss(*shape)
    products = benchmark.products_of(dit, loss)
    rows = benchmark.BATCH * 16
    # In each block: queries, keys, values and output, two layers of the network behind them.
    for inner, columns, count in ((64, 64, 4), (64, 256, 1), (256, 64, 1)):
        assert products.count((1, rows, inner, columns)) == 2 * count
    assert products.count((benchmark.BATCH * 2, 16, 32, 16)) == 2
    assert products.count((benchmark.BATCH * 2, 16, 16, 32)) == 2
