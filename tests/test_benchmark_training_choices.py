"""That what makes a backbone good can be measured again."""

import numpy as np
import pytest


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("training_choices")


@pytest.mark.parametrize("variant", ["noise as the target, instead of velocity"])
def test_a_short_form_trains_what_it_says_it_trains(benchmark, variant):
    settings = {"steps": 5, "n_samples": 50}
    complete, *_ = benchmark.VARIANTS
    distances = [benchmark.fid(name, 0, **settings) for name in (complete, complete, variant)]
    assert np.isfinite(distances).all()
    assert distances[0] == pytest.approx(distances[1], rel=1e-3)
    assert distances[0] != pytest.approx(distances[2], rel=1e-2)
