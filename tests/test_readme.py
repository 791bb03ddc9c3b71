import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    sys.modules.pop("digits", None)
    import digits

    return digits


def test_the_table_is_what_the_raw_results_say(benchmark):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    between = readme.split(benchmark.BEGIN)[1].split(benchmark.END)[0]
    assert between == benchmark.table(json.loads(benchmark.RAW.read_text()))


def test_the_python_example_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    names = {}
    exec(example, names)
    assert names["X_syn"].shape == (100, 8, 8)
    assert names["distiller"].score(names["X_test"], names["y_test"]) > 0.85


def test_files_that_the_readme_links_are_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
