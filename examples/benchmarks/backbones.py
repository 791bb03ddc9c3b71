"""
What the shipped backbones are worth
====================================

Of a backbone that ``skdistill pretrain`` has made:

- the FID of 10,000 unguided samples against the training images, in the features of a ConvNet
  trained on all of them, beside that of other real images;
- what its VAE costs: a ConvNet trained on reconstructed images against one trained on the images;
- what its samples are worth: a ConvNet trained on 50 unguided samples a class against one trained
  on 50 real images a class.

What is missing from ``evaluation.json`` in the backbone's folder is measured and kept there, one
part after the other; from it come the model card and the picture beside it. The data are found by
SKDISTILL_DATA or downloaded::

    python examples/benchmarks/backbones.py fashion
    python examples/benchmarks/backbones.py cifar10 --folder my_backbone
"""

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import train_test_split

from skdistill import ManifoldGDDistiller
from skdistill.backbones import DiTBackbone, write_card
from skdistill.backbones.folder import WEIGHTS
from skdistill.datasets import SPLITS
from skdistill.generate import BatchedCalls
from skdistill.metrics import frechet_distance
from skdistill.pictures import draw_grid
from skdistill.pixels import from_networks, to_networks
from skdistill.protocols import PROTOCOLS, judges
from skdistill.subsets import RandomSubset

# What each backbone was trained on.
DATA = {"digits": "digits", "fashion": "fashion-mnist", "cifar10": "cifar10"}
N_SAMPLES = 10_000
IPC = 50
SEEDS = range(3)
PICTURE = "samples.png"
METHOD = """\
Written by `examples/benchmarks/backbones.py`; raw figures in `evaluation.json`. Samples are made
without manifold guidance, in {steps} steps of {scheduler}, at classifier-free guidance {scale:g}.
Features are those of a {student} trained on all training images. Accuracies are a {student}'s, in
per cent: of reconstructions on a fifth of the training images, held out from its training; of
samples on the test images, mean ± standard deviation over {n_seeds} seeds."""


class Measurement:
    """The parts of what is measured, each computed from the backbone's folder and the data."""

    def __init__(self, name, folder):
        self.folder = folder
        self.protocol = DATA[name]
        self.X, self.X_test, self.y, self.y_test = SPLITS[DATA[name]]()
        student = next(iter(judges(self.protocol)))
        # Compiling costs as much as it saves on images as small as the digits.
        self.student_name, compiled = student, name != "digits"
        self.student = judges(self.protocol, compile=compiled)[student]
        self.value_range = PROTOCOLS[self.protocol]["value_range"]

    @functools.cached_property
    def samples(self):
        """Unguided samples of every class, in the order of classes."""
        distiller = ManifoldGDDistiller(
            1,
            str(self.folder),
            # Of which nothing is used: nothing is pulled anywhere.
            clusterer=KMeans(n_init=1),
            projector="passthrough",
            strength=0,
            refiner="passthrough",
            dtype="bfloat16",
            batch_size=250,
            value_range=self.value_range,
            random_state=0,
            verbose=True,
        )
        few, _, y_few, _ = train_test_split(
            self.X, self.y, train_size=500, stratify=self.y, random_state=0
        )
        return distiller.fit(few, y_few).sample(N_SAMPLES // len(np.unique(self.y)))

    def fit(self, X, y, seed=0):
        """Return a student that was trained."""
        return clone(self.student).set_params(random_state=seed).fit(X, y)

    def fid(self):
        """Return the FID of samples and of the test images."""
        student = self.fit(self.X, self.y)
        real = student.transform(self.X)
        return {
            "samples": frechet_distance(real, student.transform(self.samples[0])),
            "test": frechet_distance(real, student.transform(self.X_test)),
            "n_samples": len(self.samples[0]),
            "n_test": len(self.X_test),
        }

    def reconstruction(self):
        """Return the VAE's error, and accuracies of students trained on images it has seen."""
        rebuilt = reconstruct(self.folder, self.X, self.value_range)
        error = np.sqrt(np.mean(np.square(rebuilt.astype(np.float64) - self.X)))
        span = self.value_range[1] - self.value_range[0]
        rows = np.arange(len(self.X))
        rows, held_out = train_test_split(rows, test_size=0.2, stratify=self.y, random_state=0)
        score = {
            kind: self.fit(X[rows], self.y[rows]).score(self.X[held_out], self.y[held_out])
            for kind, X in (("images", self.X), ("reconstructions", rebuilt))
        }
        return {"psnr": float(20 * np.log10(span / error)), "accuracy": score}

    def students(self):
        """Return accuracies of students trained on a few samples and on as many real images."""
        X, y = self.samples
        scores = {"samples": [], "real": []}
        for seed in SEEDS:
            few = [rows[seed * IPC : (seed + 1) * IPC] for rows in rows_of_classes(y)]
            few = np.concatenate(few)
            real = RandomSubset(IPC, random_state=seed).fit(self.X, self.y).sample()
            for kind, training in (("samples", (X[few], y[few])), ("real", real)):
                student = self.fit(*training, seed)
                scores[kind].append(float(student.score(self.X_test, self.y_test)))
        return scores | {"ipc": IPC}

    def draw(self):
        """Draw samples, a row a class."""
        X, y = self.samples
        classes, labels = np.unique(y, return_inverse=True)
        x = to_networks(X, self.value_range)
        shape = X.shape[1:]
        pixels = from_networks(x, (0, 255), shape=shape, dtype=np.uint8)
        draw_grid(pixels, labels, classes, self.folder / PICTURE)


def rows_of_classes(y):
    """Return the rows of each class."""
    return [np.flatnonzero(y == label) for label in np.unique(y)]


def reconstruct(folder, X, value_range):
    """Encode images and decode them again, in the images' own dtype."""
    backbone, calls = DiTBackbone(folder), BatchedCalls(250)
    rebuilt = []
    for start in range(0, len(X), 5000):
        x = to_networks(X[start : start + 5000], value_range)
        decoded = backbone.decode(torch.from_numpy(backbone.encode(x, calls)), calls)
        rebuilt.append(from_networks(decoded, value_range, shape=X.shape[1:], dtype=X.dtype))
    return np.concatenate(rebuilt)


def evaluation(raw, folder, student):
    """Return the record that the model card is written from."""
    backbone = DiTBackbone(folder)
    fid, vae, students = raw["fid"], raw["reconstruction"], raw["students"]

    def accuracy(values):
        return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"

    return {
        "method": METHOD.format(
            steps=ManifoldGDDistiller().num_inference_steps,
            scheduler=type(backbone.default_scheduler).__name__,
            scale=backbone.guidance_scale,
            student=student,
            n_seeds=len(SEEDS),
        ),
        "figures": {
            f"FID of {fid['n_samples']:,} samples": f"{fid['samples']:.2f}",
            f"FID of the {fid['n_test']:,} test images": f"{fid['test']:.2f}",
            "PSNR of reconstructions": f"{vae['psnr']:.1f} dB",
            "Accuracy, of images": f"{100 * vae['accuracy']['images']:.1f}",
            "Accuracy, of reconstructions": f"{100 * vae['accuracy']['reconstructions']:.1f}",
            f"Accuracy, of {IPC} real images a class": accuracy(students["real"]),
            f"Accuracy, of {IPC} samples a class": accuracy(students["samples"]),
        },
        "picture": PICTURE,
        "fid": fid["samples"],
        "raw": raw,
    }


def main():
    """Measure what is missing and write the card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("name", choices=DATA)
    parser.add_argument("--folder", type=Path, help="of the backbone; the shipped one if unset")
    options = parser.parse_args()
    folder = options.folder or WEIGHTS / options.name
    path, partial = folder / "evaluation.json", folder / "evaluation.partial.json"
    measurement = Measurement(options.name, folder)
    raw = {}
    for record in (partial, path):
        if record.exists():
            raw = json.loads(record.read_text(encoding="utf-8"))["raw"]
            break
    for part in ("students", "reconstruction", "fid"):
        if part not in raw:
            raw[part] = getattr(measurement, part)()
            partial.write_text(json.dumps({"raw": raw}), encoding="utf-8")
            print(part, json.dumps(raw[part]), flush=True)
    if not (folder / PICTURE).exists():
        measurement.draw()
    record = evaluation(raw, folder, measurement.student_name)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.unlink(missing_ok=True)
    write_card(folder)


if __name__ == "__main__":
    main()
