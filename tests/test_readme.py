import json
import re
import tomllib
from pathlib import Path

import pytest

from skdistill.protocols import linear_student

ROOT = Path(__file__).parents[1]
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.fixture
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def benchmark(load_benchmark):
    return load_benchmark("digits")


@pytest.fixture
def runs(benchmark):
    return json.loads(benchmark.RAW.read_text(encoding="utf-8"))


def test_the_tables_are_what_the_raw_results_say(load_benchmark, benchmark, runs):
    split_readme = load_benchmark("results").split_readme
    assert split_readme("digits")[1] == benchmark.table(runs)
    study = load_benchmark("study")
    assert split_readme("study")[1] == study.summary_table(
        *map(study.read_lines, (study.RAW, study.JUDGED))
    )


def test_the_text_before_the_table_says_how_it_was_measured(readme, runs):
    before, _ = readme.split("<!-- digits table: begin -->")
    text = " ".join(before.split())
    (n_test,) = {run["n_test"] for run in runs}
    (n_students,) = {
        len(scores)
        for run in runs
        for by_student in run["scores"].values()
        for scores in by_student.values()
    }
    (n_images,) = {run["n_training"]["ManifoldGD"] for run in runs}
    assert f"worth on the {n_test} real images" in text
    assert f"over {NUMBERS[len(runs)]} seeds of the command" in text
    assert f"each with {NUMBERS[n_students]} students a kind" in text
    assert f"to {NUMBERS[n_images // 10]} images a class" in text


def test_the_oldest_python_is_that_of_the_package(readme):
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (oldest,) = re.findall(r"with Python (\S+) or newer", readme)
    assert package["requires-python"] == f">={oldest}"


def test_the_python_example_runs(readme, short_refining):
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    names = {}
    exec(example, names)
    assert names["X_syn"].shape == (100, 8, 8)
    student = linear_student().fit(names["X_syn"], names["y_syn"])
    assert student.score(names["X_test"], names["y_test"]) > 0.9


def test_files_that_the_readme_links_are_there(readme):
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
