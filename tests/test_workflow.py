"""That what hosted runners do is what has to pass, with every Python that the package claims."""

import os
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_every_claimed_python_runs_all_that_has_to_pass():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = re.findall(r"Python :: (\d\.\d+)", "\n".join(package["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    *prepared, last = job["steps"]
    assert job["strategy"]["matrix"]["python"] == claimed
    assert last == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci/run", os.X_OK)
    # By its major version each, which gets corrections and no surprises.
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in prepared)
