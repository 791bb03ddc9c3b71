"""That each page of measured results says what was measured."""

import json
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "benchmarks").glob("*.md"))


def raw_results(path):
    """Return what a page's script keeps: one object, or a line for each result."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    results = [json.loads(line) for line in text.splitlines()]
    by_name = {result["name"]: result for result in results}
    assert len(by_name) == len(results), "a result is there twice"
    return by_name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_page_is_what_its_script_makes_of_the_raw_results(load_benchmark, page):
    script = load_benchmark(page.stem)
    assert page == script.PAGE
    assert page.read_text(encoding="utf-8") == script.page(raw_results(script.RAW))
