"""
What a training step of pretrain costs
======================================

The time of one optimisation step of the DiT of :func:`skdistill.training.pretrain`, as a ratio to
the time of its matrix products alone, in bfloat16, measured in turns in one run: with diffusers'
own settings (fused attention, GELU by its approximation with tanh) and as `pretrain` trains (plain
attention, exact GELU).

Raw ratios go to ``docs/benchmarks/pretrain.json``, the table to ``docs/benchmarks/pretrain.md``.
``--page`` writes the table from the raw ratios that are there.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from results import table
from torch import nn

from skdistill.training.dit import dit_loss, make_dit, use_plain_attention
from skdistill.training.loop import train

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "pretrain.json"
PAGE = ROOT / "docs" / "benchmarks" / "pretrain.md"
# Channels and side of the latents, width and depth of the DiT: 64 and 49 tokens, and 16.
SHAPES = {
    "32 x 32 colour": (8, 16, 192, 6, 2),
    "28 x 28 grey": (4, 14, 192, 6, 2),
    "8 x 8 grey": (4, 4, 128, 3, 1),
}
BATCH = 128
BEFORE, AFTER = "diffusers' settings", "as trained"

TEMPLATE = """\
<!-- Written by examples/benchmarks/pretrain.py from pretrain.json. -->
# What a training step of `pretrain` costs

The time of one optimisation step of the DiT (batch {batch}; forward, backward, clipping, AdamW,
moving average) divided by the time of its matrix products alone, in bfloat16: for every linear
layer and for attention the product of the forward pass and the two of the backward pass. Medians of
{rounds} rounds, in which the three are timed in turns; in brackets the smallest and the largest.

{table}

The first column has the DiT as diffusers makes it: fused attention, and GELU by its approximation
with tanh. The second is what `pretrain` does on a CPU: plain attention, and exact GELU. Measured on
{machine}, whose bfloat16 products took {rate:.2f} times as long as its float32 products.
"""


def make_loss(channels, side, width, depth, patch_size):
    """Return a DiT as `pretrain` makes it, and the function that draws a batch and its loss."""
    settings = {"width": width, "depth": depth, "patch_size": patch_size, "dropout": 0.0}
    latents = torch.randn(1, 4 * BATCH, channels, side, side)
    dit = make_dit(latents, 10, settings)
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    labels = np.arange(latents.shape[1]) % 10
    return dit, dit_loss(dit, latents, labels, scheduler, {"batch_size": BATCH})


def as_diffusers_has_it(dit):
    """Undo in place what `pretrain` changes for the sake of speed."""
    for block in dit.transformer_blocks:
        block.attn1.set_processor(AttnProcessor2_0())
        block.ff.net[0].approximate = "tanh"


def time_steps(dit, loss, n_steps):
    """Return the mean time of a step of the training loop, after two that are not counted."""
    starts = []

    def timed_loss():
        starts.append(time.perf_counter())
        return loss()

    with tempfile.TemporaryDirectory() as folder:
        train(
            dit,
            timed_loss,
            n_steps + 3,
            (0,),
            Path(folder) / "dit.safetensors",
            run="timed",
            learning_rate=1e-4,
            checkpoint_every=n_steps + 3,
            verbose=0,
        )
    # From the start of one step to the start of another, so that the last, which saves, is out.
    return (starts[-1] - starts[2]) / n_steps


def products_of(dit, loss):
    """Return the shapes of all matrix products of a forward pass: (batch, rows, inner, columns)."""
    shapes = []

    def record_linear(layer, inputs, _):
        rows = inputs[0].numel() // layer.in_features
        shapes.append((1, rows, layer.in_features, layer.out_features))

    def record_attention(attention, _, output):
        n, tokens, width = output.shape
        heads, size = attention.heads, width // attention.heads
        # The scores, and the values weighted by them.
        shapes.append((n * heads, tokens, size, tokens))
        shapes.append((n * heads, tokens, tokens, size))

    hooks = [
        layer.register_forward_hook(record_linear)
        for layer in dit.modules()
        if isinstance(layer, nn.Linear)
    ]
    hooks += [
        block.attn1.register_forward_hook(record_attention) for block in dit.transformer_blocks
    ]
    loss()
    for hook in hooks:
        hook.remove()
    return shapes


def time_products(shapes, dtype):
    """Return the time of the products of a step: forward, and for both factors backward."""
    operands = {}
    for shape in set(shapes):
        b, m, k, n = shape
        sizes = (b, m, k), (b, k, n), (b, m, n)
        operands[shape] = [torch.randn(size).to(dtype) for size in sizes]
    started = time.perf_counter()
    for shape in shapes:
        left, right, gradient = operands[shape]
        torch.matmul(left, right)
        torch.matmul(gradient, right.mT)
        torch.matmul(left.mT, gradient)
    return time.perf_counter() - started


def measure(shapes=SHAPES, *, rounds=5, n_steps=5):
    """Return the ratios of every round, and those of bfloat16 products to float32 ones."""
    ratios, rates = {}, []
    for name, shape in shapes.items():
        steps = {}
        for kind in (BEFORE, AFTER):
            dit, loss = make_loss(*shape)
            (as_diffusers_has_it if kind == BEFORE else use_plain_attention)(dit)
            steps[kind] = partial(time_steps, dit, loss, n_steps)
        products = products_of(dit, loss)
        ratios[name] = {kind: [] for kind in steps}
        for _ in range(rounds):
            # Once unmeasured, since what ran before has emptied the caches.
            time_products(products, torch.bfloat16)
            unit = time_products(products, torch.bfloat16)
            rates.append(unit / time_products(products, torch.float32))
            for kind, step in steps.items():
                ratios[name][kind].append(step() / unit)
    threads = torch.get_num_threads()
    machine = f"{threads} thread{'s'[: threads > 1]} of a CPU"
    if torch.cpu._is_amx_tile_supported():
        machine += " with AMX"
    return {
        "batch": BATCH,
        "rounds": rounds,
        "ratios": ratios,
        "bfloat16_to_float32": rates,
        "machine": machine,
    }


def page(raw):
    """Lay the ratios out."""
    rows = [
        [name, *(f"{np.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in kinds.values())]
        for name, kinds in raw["ratios"].items()
    ]
    return TEMPLATE.format(
        table=table(["images", BEFORE, AFTER], rows),
        batch=raw["batch"],
        rounds=raw["rounds"],
        machine=raw["machine"],
        rate=np.median(raw["bfloat16_to_float32"]),
    )


def main():
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--page", action="store_true", help="only write the table")
    if not parser.parse_args().page:
        RAW.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    text = page(json.loads(RAW.read_text(encoding="utf-8")))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
