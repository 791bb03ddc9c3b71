"""
What makes a small backbone good
================================

Each choice by which the shipped backbones were trained left out in turn, on digits: a DiT trained
for 1,000 steps in the latents of the shipped VAE, and the Fréchet distance (FID) of 2,000 unguided
samples from the training images, among the features of a ConvNet-2 trained on these. What won most
is measured at 3,000 steps too.

Raw distances go to ``docs/benchmarks/training_choices.jsonl``, a line each; what is there is not
measured again. The table goes to ``docs/benchmarks/training_choices.md``; ``--page`` only writes
that.
"""

import argparse
import functools
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from diffusers import DDIMScheduler
from results import make_missing, mean_and_error, read_lines, table

from skdistill.backbones import DiTBackbone, find_backbone
from skdistill.datasets import load_digits_split
from skdistill.generate import BatchedCalls, denoise, draw_noise, sample_generator
from skdistill.metrics import frechet_distance
from skdistill.pixels import from_networks, to_networks
from skdistill.protocols import judges
from skdistill.training import dit as training_dit
from skdistill.training import loop as training_loop
from skdistill.training.dit import LABEL_DROPOUT, SNR_CAP, dit_loss, make_dit, use_plain_attention

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "training_choices.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "training_choices.md"
SEEDS = range(3)
STEPS, N_SAMPLES = 1000, 2000
LONGER, LONGER_SEEDS = 3000, range(1)
SETTINGS = {"width": 128, "depth": 3, "patch_size": 1, "dropout": 0.0, "batch_size": 128}
VALUE_RANGE = (0, 16)


def half_cosine(step, steps):
    """Return the share of the learning rate at a step: a short rise, then half a cosine."""
    return min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2


LATE_FALL = {"rate": training_loop._rate}
VARIANTS = {
    "as the shipped backbones were": {},
    "without the moving average of the weights": {"average": False},
    "all noise levels weighted alike, without min-SNR": {"weight": torch.ones_like},
    "noise as the target, instead of velocity": {"prediction_type": "epsilon"},
    "a learning rate that stays up": {"rate": lambda step, steps: min(1.0, (step + 1) / 100)},
    "a learning rate that falls in the last 30% only": LATE_FALL,
    "the same, and all noise levels weighted alike": {**LATE_FALL, "weight": torch.ones_like},
    "latents of a fifth of the scale": {"scale": 0.2},
    "linear noise schedule, instead of cosine": {"beta_schedule": "linear"},
}
AT_LENGTH = (
    "as the shipped backbones were",
    "a learning rate that falls in the last 30% only",
    "the same, and all noise levels weighted alike",
)
TEMPLATE = """\
<!-- Written by examples/benchmarks/training_choices.py from training_choices.jsonl. -->
# What makes a small backbone good

Each choice by which the shipped backbones were trained left out in turn, on digits: a DiT of
{steps} steps in the latents of the shipped VAE. FID of {n_samples} unguided samples from the
training images, among the features of a ConvNet-2; mean ± standard error over {n_seeds} seeds, and
the difference from the first row, seed by seed. Smaller is better.

{table}

After {longer} steps, of {n_longer_seeds} seed:

{longer_table}

The shipped backbones were trained with a learning rate along half a cosine. That lost, so
`skdistill pretrain` now keeps it up until the last 30% of the steps. Beside that, min-SNR made
little difference, and stays. Whether longer trainings gain as well was not measured.
"""


def noise_loss(dit, latents, labels, scheduler):
    """Return the loss of a DiT that predicts the noise, weighted by min-SNR as that target is."""

    def loss():
        rows = torch.randperm(latents.shape[1])[: SETTINGS["batch_size"]]
        z, noise = latents[0, rows], torch.randn(len(rows), *latents.shape[2:])
        t = torch.randint(len(scheduler.alphas_cumprod), (len(rows),))
        alpha_bar = scheduler.alphas_cumprod[t][:, None, None, None]
        dropped = torch.rand(len(rows)) < LABEL_DROPOUT
        condition = labels[rows].masked_fill(dropped, dit.config.num_embeds_ada_norm)
        x_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise
        error = (dit(x_t, t, condition).sample.float() - noise).square()
        snr = alpha_bar / (1 - alpha_bar)
        return (snr.clamp(max=SNR_CAP) / snr.clamp(min=1e-8) * error).mean()

    return loss


def train_variant(
    latents,
    labels,
    seed,
    *,
    steps=STEPS,
    average=True,
    weight=training_dit._loss_weight,
    rate=half_cosine,
    prediction_type="v_prediction",
    beta_schedule="squaredcos_cap_v2",
    scale=1.0,
):
    """Train a DiT and return what `denoise` needs of a backbone."""
    scheduler = DDIMScheduler(
        beta_schedule=beta_schedule, prediction_type=prediction_type, clip_sample=False
    )
    training_loop.set_seed(seed, 0)
    dit = make_dit(latents, 10, SETTINGS)
    use_plain_attention(dit)
    scaled = scale * latents[None]
    if prediction_type == "epsilon":
        loss = noise_loss(dit, scaled, torch.from_numpy(labels), scheduler)
    else:
        loss = dit_loss(dit, scaled, labels, scheduler, SETTINGS)
    with (
        mock.patch.object(training_dit, "_loss_weight", weight),
        mock.patch.object(training_loop, "_rate", rate),
        tempfile.TemporaryDirectory() as folder,
    ):
        checkpoint = Path(folder) / "dit.safetensors"
        mean, _ = training_loop.train(
            dit,
            loss,
            steps,
            (seed, 1),
            checkpoint,
            run="compared",
            learning_rate=1e-3,
            checkpoint_every=steps,
            verbose=0,
        )
    network = mean if average else dit.eval()

    def predict(x, t, alpha_bar, y, guidance_scale):
        return network(x, timestep=t.expand(len(x)), class_labels=y).sample

    return SimpleNamespace(predict=predict, scheduler=scheduler, scale=scale)


def sample(variant, n_samples):
    """Return unguided latents, as many of every class."""
    labels = torch.arange(10).repeat_interleave(n_samples // 10)
    generators = [sample_generator(0, int(k), i) for i, k in enumerate(labels)]
    variant.scheduler.set_timesteps(50)
    like = torch.zeros(1)
    x = draw_noise((4, 4, 4), generators, variant.scheduler, like)
    z = denoise(variant, x, labels, variant.scheduler, BatchedCalls(500), guidance_scale=1.0)
    return z / variant.scale


def measure(name):
    """Return the result of that name, STEPS/VARIANT/SEED."""
    steps, variant, seed = name.split("/")
    return {"fid": fid(variant, int(seed), steps=int(steps))}


@functools.cache
def feature_network():
    """Return the network among whose features distances are."""
    X, _, y, _ = load_digits_split()
    return judges("digits")["ConvNet-2"].set_params(random_state=0).fit(X, y)


def fid(variant, seed, *, steps=STEPS, n_samples=N_SAMPLES):
    """Return the FID of a variant."""
    X, _, y, _ = load_digits_split()
    backbone, calls = DiTBackbone(find_backbone("digits")), BatchedCalls(500)
    x = to_networks(X, VALUE_RANGE)
    latents = torch.from_numpy(backbone.encode(x, calls))
    trained = train_variant(latents, y, seed, steps=steps, **VARIANTS[variant])
    with torch.no_grad():
        decoded = backbone.decode(sample(trained, n_samples), calls)
    made = from_networks(decoded, VALUE_RANGE, shape=X.shape[1:], dtype=X.dtype)
    network = feature_network()
    return float(frechet_distance(network.transform(X), network.transform(made)))


def distances(results, steps, variants, seeds):
    """Return a table of the distances after some steps."""
    found = {
        variant: np.array([results[f"{steps}/{variant}/{seed}"]["fid"] for seed in seeds])
        for variant in variants
    }
    complete, *_ = variants
    rows = [
        [
            variant,
            mean_and_error(values, 2),
            "" if variant == complete else mean_and_error(values - found[complete], 2),
        ]
        for variant, values in found.items()
    ]
    return table(["trained", "FID", "difference"], rows)


def page(results):
    """Lay the distances out."""
    return TEMPLATE.format(
        table=distances(results, STEPS, VARIANTS, SEEDS),
        longer_table=distances(results, LONGER, AT_LENGTH, LONGER_SEEDS),
        steps=f"{STEPS:,}",
        longer=f"{LONGER:,}",
        n_samples=f"{N_SAMPLES:,}",
        n_seeds=len(SEEDS),
        n_longer_seeds=len(LONGER_SEEDS),
    )


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--page", action="store_true", help="only write the table")
    if not parser.parse_args().page:
        names = [f"{STEPS}/{variant}/{seed}" for seed in SEEDS for variant in VARIANTS]
        names += [f"{LONGER}/{variant}/{seed}" for seed in LONGER_SEEDS for variant in AT_LENGTH]
        make_missing(RAW, names, measure)
    PAGE.write_text(page(read_lines(RAW)), encoding="utf-8")


if __name__ == "__main__":
    main()
