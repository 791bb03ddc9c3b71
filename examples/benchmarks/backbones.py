"""
What the shipped backbones are worth
====================================

Of a backbone that ``skdistill pretrain`` has made:

- the FID of 10,000 unguided samples against the training images, in the features of a ConvNet
  trained on all of them, beside that of other real images;
- what its VAE costs: a ConvNet trained on reconstructed images against one trained on the images;
- what its samples are worth: a ConvNet trained on 50 unguided samples a class against one trained
  on 50 real images a class;
- whether another scale of classifier-free guidance is worth more, on held-out training images.

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
from results import fast_dtype
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import train_test_split

from skdistill import ManifoldGDDistiller
from skdistill.atomic import write_atomically
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
SCALES = (1.0, 1.5, 2.5, 4.0)
PICTURE = "samples.png"
METHOD = """\
Written by `examples/benchmarks/backbones.py`; raw figures in `evaluation.json`. Samples are made
without manifold guidance, in {steps} steps of {scheduler}, at classifier-free guidance {scale:g}.
Features are those of a {student} trained on all training images. Accuracies are a {student}'s, in
per cent: of reconstructions, and where "held out" stands, on a fifth of the training images, held
out from its training; of the others on the test images. Where there is a deviation, mean ± standard
deviation over {n_seeds} seeds."""


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
        return self.sample(N_SAMPLES // len(np.unique(self.y)))

    def sample(self, n_samples, guidance_scale=None):
        """Return that many unguided samples of every class."""
        distiller = ManifoldGDDistiller(
            1,
            str(self.folder),
            # Of which nothing is used: nothing is pulled anywhere.
            clusterer=KMeans(n_init=1),
            projector="passthrough",
            strength=0,
            refiner="passthrough",
            guidance_scale=guidance_scale,
            dtype=fast_dtype(),
            batch_size=250,
            value_range=self.value_range,
            random_state=0,
            verbose=True,
        )
        few, _, y_few, _ = train_test_split(
            self.X, self.y, train_size=500, stratify=self.y, random_state=0
        )
        return distiller.fit(few, y_few).sample(n_samples)

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
        rows, held_out = self.split()
        score = {
            kind: self.fit(X[rows], self.y[rows]).score(self.X[held_out], self.y[held_out])
            for kind, X in (("images", self.X), ("reconstructions", rebuilt))
        }
        return {"psnr": float(20 * np.log10(span / error)), "accuracy": score}

    def students(self):
        """Return accuracies of students trained on a few samples and on as many real images."""
        test = self.X_test, self.y_test
        return {
            "samples": self.scores(part_of(*self.samples), *test),
            "real": self.scores(real_images(self.X, self.y), *test),
            "ipc": IPC,
        }

    def held_out(self, scale):
        """Return accuracies on held-out training images at a scale of guidance, or of real ones."""
        rows, held_out = self.split()
        X, y = self.X[rows], self.y[rows]
        if scale == "real":
            training = real_images(X, y)
        else:
            training = part_of(*self.sample(len(SEEDS) * IPC, scale))
        return self.scores(training, self.X[held_out], self.y[held_out])

    def scores(self, training, X, y):
        """Return the accuracy of a student for each seed, trained on what the seed is given."""
        return [float(self.fit(*training(seed), seed).score(X, y)) for seed in SEEDS]

    def split(self):
        """Return the rows of training images that are kept, and those held out."""
        rows = np.arange(len(self.X))
        return train_test_split(rows, test_size=0.2, stratify=self.y, random_state=0)

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


def part_of(X, y):
    """Return what hands each seed samples of its own."""

    def training(seed):
        few = [rows[seed * IPC : (seed + 1) * IPC] for rows in rows_of_classes(y)]
        few = np.concatenate(few)
        return X[few], y[few]

    return training


def real_images(X, y):
    """Return what hands each seed real images, drawn at random."""
    return lambda seed: RandomSubset(IPC, random_state=seed).fit(X, y).sample()


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
    scales = {scale: accuracies for scale, accuracies in raw["scales"].items() if scale != "real"}

    behind = 100 * (np.mean(students["real"]) - np.mean(students["samples"]))

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
            "So samples are behind real images by": f"{behind:.1f} points; the guidance scales "
            "below were tried to narrow it",
            f"Held out, of {IPC} real images a class": accuracy(raw["scales"]["real"]),
        }
        | {
            f"Held out, of {IPC} samples a class at guidance {scale}": accuracy(accuracies)
            for scale, accuracies in scales.items()
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
    parts = ("students", "reconstruction", "fid")
    measures = [(raw, part, getattr(measurement, part)) for part in parts]
    scales = raw.setdefault("scales", {})
    measures += [
        (scales, str(scale), functools.partial(measurement.held_out, scale))
        for scale in ("real", *SCALES)
    ]
    for record, name, measure in measures:
        if name not in record:
            record[name] = measure()
            write_atomically(partial, json.dumps({"raw": raw}).encode())
            print(name, json.dumps(record[name]), flush=True)
    if not (folder / PICTURE).exists():
        measurement.draw()
    record = evaluation(raw, folder, measurement.student_name)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())
    partial.unlink(missing_ok=True)
    write_card(folder)


if __name__ == "__main__":
    main()
