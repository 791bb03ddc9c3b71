"""
What the README's first command measures, over five seeds
=========================================================

Runs ``skdistill distill digits --ipc 10`` with five seeds, keeps the raw accuracies in
``docs/benchmarks/digits.json`` and the first run's picture in ``docs/images/digits.png``, and
writes the table into the README. A seed decides the distilled set, the sets drawn beside it and the
students, three a kind for each set; the held-out split is fixed.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from results import write_readme

from skdistill.cli import main

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "digits.json"
PICTURE = ROOT / "docs" / "images" / "digits.png"
SEEDS = range(5)


def measure():
    """Return the scores of each seed's run."""
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "distilled"
            command = ["distill", "digits", "--ipc", "10", "--seed", str(seed), "--out", str(out)]
            if main(command) != 0:
                raise SystemExit(f"seed {seed} failed")
            scores = json.loads((out / "scores.json").read_text())
            kept = {key: scores[key] for key in ("n_test", "n_training", "scores")}
            runs.append({"seed": seed, **kept})
            if seed == 0:
                shutil.copyfile(out / "grid.png", PICTURE)
    return runs


def table(runs):
    """Lay the runs out as a table in Markdown: mean and standard deviation over runs."""
    students = list(runs[0]["scores"]["ManifoldGD"])
    lines = [
        "| trained on | images | " + " | ".join(students) + " |",
        "|---|---:|" + "---:|" * len(students),
    ]
    for name in runs[0]["scores"]:
        # Students of one run share their set: their mean is what one run measured.
        by_run = {s: [np.mean(run["scores"][name][s]) for run in runs] for s in students}
        cells = [f"{100 * np.mean(v):.1f} ± {100 * np.std(v, ddof=1):.1f}" for v in by_run.values()]
        size = runs[0]["n_training"][name]
        lines.append(f"| {name} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    measured = measure()
    RAW.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    write_readme("digits", table(measured))
