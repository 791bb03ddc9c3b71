"""Every example runs as a script, offline, and what it prints is so."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_dit_folder
from PIL import Image

import skdistill
from skdistill.io import load_distilled

EXAMPLES = Path(__file__).parents[1] / "examples"

# What they show goes nowhere here.
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Return a function that runs an example in an empty directory and returns its output."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    directory = tmp_path / "empty"
    directory.mkdir()
    monkeypatch.chdir(directory)
    # For readers of images that keep a cache at home, and would ask the hub.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pyplot.switch_backend("agg")

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        finally:
            pyplot.close("all")
        left = list(directory.iterdir())
        assert not left, f"{name} leaves {left} in the working directory"
        return capsys.readouterr().out

    return run


def figures(pattern, output):
    """Return the numbers that a pattern finds in a text, which must match once."""
    (found,) = re.findall(pattern, output)
    return [float(number) for number in ([found] if isinstance(found, str) else found)]


PERCENT, NUMBER = r"([\d.]+)%", r"([+-]?[\d.]+)"


def test_pipeline_and_search(run_example):
    output = run_example("plot_pipeline_and_search.py")
    linear, distances = figures(
        rf"regression labels {PERCENT}.*\n.*search chose, {PERCENT}", output
    )
    assert linear < 88 < 90 < distances
    rows = re.findall(rf"strength {NUMBER}, (\w+) +{PERCENT} ± {PERCENT}", output)
    assert len(rows) == 8
    chosen = re.search(rf"The search chose strength {NUMBER}, (\w+)\.", output)
    best = max(float(mean) for *_, mean, _ in rows)
    assert best > 90
    assert (float(chosen[1]), chosen[2], best) in [
        (float(strength), name, float(mean)) for strength, name, mean, _ in rows
    ]
    small, large = figures(rf"gives labels {PERCENT}(?s:.*)training rows {PERCENT}", output)
    # Which of the two is ahead is for the machine's last bits to say.
    assert min(small, large) > 90


def test_imbalanced_data(run_example):
    output = run_example("plot_imbalanced_data.py")
    rows = re.findall(rf"^(.+?) +(\d+) rows  {PERCENT} ± {PERCENT}$", output, re.MULTILINE)
    means = {name: float(mean) for name, _, mean, _ in rows}
    assert list(means.values()) == sorted(means.values(), reverse=True)
    assert all(mean > 85 for mean in means.values())
    assert [n for name, n, *_ in rows if name != "no resampling"] == ["30"] * 5
    assert f"The best on average is {rows[0][0]}." in output
    # The verdicts follow from the table.
    for name, gain in re.findall(rf"ManifoldGD - (.+): {NUMBER} points", output):
        assert float(gain) == pytest.approx(means["ManifoldGD"] - means[name], abs=0.15)
    assert len(re.findall("is ahead|no clear difference", output)) == 4


def test_pandas_table(run_example):
    output = run_example("plot_pandas_table.py")
    assert "89 rows became 15, in a DataFrame with the same 13 columns." in output
    mean, largest = figures(rf"are {NUMBER} standard deviations .*, {NUMBER} at most", output)
    assert mean < 0.4
    assert largest < 1.2
    small, large = figures(rf"on them labels {PERCENT}(?s:.*)all 89 rows {PERCENT}", output)
    assert 85 < small <= large
    assert re.search("6 columns of distances and 13 smoothed .*index of .* rows: True", output)
    (kept,) = figures(rf"keep {PERCENT} of the variance", output)
    assert 40 < kept < 100
    assert "The dtypes of all columns and of the labels are kept." in output


def test_torch_dataset(run_example, short_refining):
    pytest.importorskip("datasets")
    output = run_example("plot_torch_dataset.py")
    assert output.startswith("distilled.npz\ngrid.png\nimages\nmanifest.json\n")
    small, large = figures(
        rf"100 distilled images labels {PERCENT}(?s:.*)on all 1257 {PERCENT}", output
    )
    assert 85 < small < large
    assert large > 97
    (from_folder,) = figures(rf"same 100 images(?s:.*)labels {PERCENT}", output)
    assert abs(from_folder - small) < 4


def test_the_folder_of_images_is_one_for_torchvision(tmp_path):
    folder = pytest.importorskip(
        "torchvision.datasets.folder", exc_type=(ImportError, RuntimeError)
    )
    X, y = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), np.repeat(["cat", "a/b"], 3)
    with pytest.warns(UserWarning, match="closed-form"):
        distiller = skdistill.ManifoldGDDistiller(2, num_inference_steps=5).fit(X, y)
    X_syn, _ = distiller.sample(out_dir=tmp_path / "run")
    dataset = folder.ImageFolder(tmp_path / "run" / "images")
    assert dataset.targets == [0, 0, 1, 1]
    assert np.array_equal([np.asarray(image.convert("L")) for image, _ in dataset], X_syn)


@pytest.mark.slow
def test_students(run_example):
    pytest.importorskip("skorch")
    output = run_example("plot_students.py")
    rows = re.findall(rf"^(\S.*?) +{PERCENT} +{PERCENT} +{PERCENT}$", output, re.MULTILINE)
    scores = {name: tuple(map(float, values)) for name, *values in rows}
    assert len(scores) == 6
    (score,) = figures(rf"score says .* {PERCENT}", output)
    assert score == pytest.approx(scores["torch, by skorch"][0], abs=4)
    assert all(80 < distilled < full for distilled, _, full in scores.values())
    best = max(scores, key=lambda name: scores[name][0])
    assert f"is {best}, with {scores[best][0]}%." in output
    ahead = sum(distilled > random for distilled, random, _ in scores.values())
    assert f"{ahead} of 6 students learn more" in output


@pytest.mark.slow
def test_hyperparameter_search(run_example):
    output = run_example("plot_hyperparameter_search.py")
    assert "the 20 settings" in output
    rows = re.findall(
        rf"(\w+) +rank correlation {NUMBER} ± {NUMBER}, .* {PERCENT} ± {PERCENT}", output
    )
    correlations = {name: float(mean) for name, mean, *_ in rows}
    assert all(0.5 < mean <= 1 for mean in correlations.values())
    gain, error = figures(rf"correlation {NUMBER}, standard error {NUMBER}", output)
    assert gain == pytest.approx(correlations["distilled"] - correlations["random"], abs=0.002)
    if abs(gain) < 2 * error:
        assert "No clear difference" in output
    else:
        better = "Distilled" if gain > 0 else "Random"
        assert f"{better} images rank the settings better" in output


@pytest.mark.slow
def test_replay_memory(run_example):
    output = run_example("plot_replay_memory.py")
    rows = re.findall(rf"^(\w+) +{PERCENT} ± {PERCENT} of all ten", output, re.MULTILINE)
    final = {name: float(mean) for name, mean, _ in rows}
    assert final.keys() == {"distilled", "random", "herding", "none"}
    assert min(mean for name, mean in final.items() if name != "none") > 2 * final["none"]
    assert f"the best memory is {max(final, key=final.get)}." in output
    gain, _ = figures(rf"are {NUMBER} points from random ones\n\(standard error {NUMBER}", output)
    assert gain == pytest.approx(final["distilled"] - final["random"], abs=0.15)


@pytest.mark.slow
def test_distributed():
    pytest.importorskip("dask.distributed")
    # As a script: its workers import it.
    command = [sys.executable, str(EXAMPLES / "run_distributed.py")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    samples, difference = re.search(
        r"(\d+) samples, largest difference ([\d.e+-]+)", output
    ).groups()
    assert int(samples) == 100
    assert float(difference) < 1e-4


def test_prototypes(run_example):
    output = run_example("plot_prototypes.py")
    rows = re.findall(
        rf"^(.+?)  +distance {NUMBER}  nearest of the right class {PERCENT}", output, re.MULTILINE
    )
    distance = {name: float(value) for name, value, _ in rows}
    accuracy = {name: float(value) for name, _, value in rows}
    assert distance["all 1,257 images"] < distance["leaves"] < distance["random images"]
    assert accuracy["leaves"] > accuracy["random images"]
    # What the example says of the two ways to choose.
    assert distance["leaves"] < distance["level by level"]
    assert f"is {distance['leaves']} from the nearest of a hundred leaves" in output


def test_the_papers_setting_at_random_weights(tmp_path, run_example):
    backbone = write_dit_folder(
        tmp_path / "dit", n_classes=1000, learned_variance=True, image_size=16, channels=3
    )
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for level, name in enumerate(("n01440764", "n03888257")):
            folder = tmp_path / "imagenette" / part / name
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(100 * level, 100 * level + 100, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    arguments = [
        *(tmp_path / "imagenette", "--backbone", backbone, "--out", tmp_path / "out"),
        *("--ipc", 2, "--seeds", 1, "--steps", 2, "--dtype", "float32"),
    ]
    with pytest.warns(UserWarning, match="VAE of backbone"):
        output = run_example("run_imagenette_dit_xl.py", *arguments)
    assert re.search(r"trained on +ResNetAP-10 +ConvNet-2\n", output)
    for method in ("unguided", "MGD", "ManifoldGD, published", "ManifoldGD"):
        assert re.search(rf"^{method} +{NUMBER} +{NUMBER}$", output, re.MULTILINE)
        X_syn, y_syn = load_distilled(tmp_path / "out" / f"{method.replace(', ', '-')}-0")
        assert X_syn.shape == (4, 16, 16, 3)
        assert y_syn.tolist() == ["n01440764"] * 2 + ["n03888257"] * 2
    assert "the best of 4 methods at 2 images a class is" in output

    # Again: nothing is made anew, and the same comes out.
    torch.manual_seed(1)
    assert run_example("run_imagenette_dit_xl.py", *arguments) == output


def test_each_example_is_run_by_a_test_and_says_for_whom_it_is():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert scripts
    for script in scripts:
        title, underline, _, text, *_ = script.read_text(encoding="utf-8").split("\n")[1:]
        assert len(title) == len(underline), script.name
        assert text.startswith("For "), script.name
        assert f'"{script.name}"' in tests
