"""
What guidance costs
===================

- The share of a denoising step that manifold guidance takes, on DiT-XL/2-256 at random weights and
  on the shipped backbones.
- The guidance step beside the published one, plainly written in ``published.py``, on the same
  inputs: time, and on data with a known tangent plane the angle between it and each estimate.
- Images a second against batch size, and what the time goes into.
- A step of a compiled network beside one of the network as it is.
- With ``--device cuda``: DiT-XL/2-256 in bfloat16, 50 steps, guided and not, in images a second and
  as a share of the matrix products that the GPU does in that time; and the published step.

Times from a CPU are CPU times of one thread, what is compared is timed in turns in one process, and
only ratios are kept. A run does what is missing from ``docs/benchmarks/speed.jsonl``, one line a
result, and writes the page to ``docs/benchmarks/speed.md``. It may be stopped at any time. ``--only
REGEX`` takes the results whose names match, so that several processes can share the work;
``--page`` writes the page from what is there. Data that backbones are run on are found by
SKDISTILL_DATA or downloaded.
"""

import argparse
import os
import re
import time
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from unittest import mock

import diffusers
import numpy as np
import published
import torch
from backbones import DATA
from results import make_missing, mean_and_error, read_lines, table
from scipy.linalg import subspace_angles
from torch.utils.flop_counter import FlopCounterMode
from tree import mixture

import skdistill.generate
import skdistill.sampling
from skdistill import ManifoldGDDistiller
from skdistill.backbones import DiTBackbone, find_backbone, shipped_backbones
from skdistill.datasets import SPLITS
from skdistill.generate import BatchedCalls, denoise, make_scheduler, sample_generator
from skdistill.guidance import Guidance, prepare_targets, radius_multipliers
from skdistill.tangent import TangentProjector

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "speed.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "speed.md"

DIT_XL = "DiT-XL/2-256"
DIT_XL_SHAPE = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
}
TANGENTS = ("prepared", "posterior")
# The reference settings of the paper.
STRENGTH, NORMAL_STRENGTH = 0.1, 0.1
N_STEPS, N_GUIDED = 50, 25
# As many as a class of ImageNette has, and IPC 10.
N_LATENTS, IPC = 1300, 10
# Seeds, samples of a batch and steps that are timed, after one that is not.
STEPS = {DIT_XL: (1, 1, 3)}
SHIPPED_STEPS = (3, 64, 5)
# Seeds and samples that the published step is timed on, by number of features.
PUBLISHED = {64: (5, 10), 256: (5, 10), 1024: (3, 4), 4096: (2, 1)}
LEVELS = (0.99, 0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
# Noise normal to the tangent space, and curvature.
KNOWN = {"plane": (0.05, 0.0), "noisy": (0.2, 0.0), "curved": (0.05, 0.3)}
ESTIMATES = {
    "spheres": "published, points on spheres",
    "latents": "published, real latents",
    "prepared": "prepared, 12 neighbours",
    "wide": "prepared, twice the radius",
    "posterior": "posterior",
}
OURS = ("prepared", "wide", "posterior")
ANGLE_SEEDS = 20
# Batch sizes, and images a class that are drawn with each.
BATCHES = {1: 1, 10: 1, 50: 5, 100: 10}
SAMPLING_SEEDS = 3
PARTS = ("network", "guidance", "preparation", "scheduler")
GPU_BATCH = 32


class RandomDiT(DiTBackbone):
    """DiT-XL/2-256, or another shape, at random weights and without a VAE."""

    def __init__(self, shape=DIT_XL_SHAPE, device="cpu", dtype=torch.bfloat16):
        # Made where they stay: in single precision on the host first, they would need it twice.
        with torch.device("meta"):
            transformer = diffusers.DiTTransformer2DModel(**shape)
        transformer.to(dtype).to_empty(device=device)
        for tensor in (*transformer.parameters(), *transformer.buffers()):
            torch.nn.init.normal_(tensor, std=0.02)
        self.denoiser = transformer.eval().requires_grad_(False)
        self.name = DIT_XL
        self.default_scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
        self.guidance_scale = 4.0
        self.n_classes = shape["num_embeds_ada_norm"]
        self.latent_shape = (shape["in_channels"], shape["sample_size"], shape["sample_size"])


def cpu_clock(device="cpu"):
    """Return the CPU time of this process; on a GPU the time when it has done all it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


@contextmanager
def timed(clock, **places):
    """Time all calls of functions, each named by its owner and its attribute's name."""
    seconds = {label: [] for label in places}

    def watch(function, kept):
        @wraps(function)
        def watched(*args, **options):
            start = clock()
            result = function(*args, **options)
            kept.append(clock() - start)
            return result

        return watched

    with ExitStack() as stack:
        for label, (owner, name) in places.items():
            watched = watch(getattr(owner, name), seconds[label])
            stack.enter_context(mock.patch.object(owner, name, watched))
        yield seconds


GUIDANCE_PLACES = {
    "to_clean": (skdistill.generate, "clean_prediction"),
    "correct": (Guidance, "correct"),
    "from_clean": (skdistill.generate, "model_prediction"),
}


def class_of_latents(n_features, batch_size, seed):
    """Return a projector fitted to latents of a class, and the centroids of a batch of samples."""
    Z = mixture(N_LATENTS, n_features, seed).astype(np.float32)
    rows = np.random.default_rng(seed).integers(N_LATENTS, size=(batch_size, N_LATENTS // IPC))
    return TangentProjector().fit(Z), np.stack([Z[r].mean(axis=0) for r in rows])


def targets_of(projector, centers, tangents, device="cpu"):
    """Prepare targets, one for each of the centroids of a class."""
    return prepare_targets(
        centers,
        np.zeros(len(centers), dtype=int),
        np.arange(len(centers)),
        [projector],
        radii=radius_multipliers(),
        tangents=tangents,
        device=device,
    )


def guidance_of():
    """Return the guidance that is timed."""
    stages = len(radius_multipliers())
    return Guidance(strength=STRENGTH, normal_strength=NORMAL_STRENGTH, stages=stages)


def run_steps(backbone, targets, n_steps, *, guidance, progress=lambda: None, device="cpu"):
    """Run the first steps of the reverse process by DDPM, 50 steps to a run."""
    n = len(targets.centroid)
    scheduler = make_scheduler("DDPMScheduler", backbone.default_scheduler)
    scheduler.set_timesteps(N_STEPS)
    scheduler.timesteps = scheduler.timesteps[:n_steps]
    generators = [sample_generator(0, 0, i) for i in range(n)]
    return denoise(
        backbone,
        targets.centroid.reshape(n, *backbone.latent_shape),
        torch.zeros(n, dtype=torch.int64, device=device),
        scheduler,
        BatchedCalls(n),
        guidance=guidance,
        targets=targets,
        generators=generators,
        progress=progress,
    )


def measure_step(name, seed, *, backbone=None, settings=None):
    """Return the shares of steps that guidance takes, and guided steps over unguided ones."""
    if backbone is None:
        backbone = RandomDiT() if name == DIT_XL else DiTBackbone(find_backbone(name))
    _, batch_size, n_steps = settings or STEPS.get(name, SHIPPED_STEPS)
    projector, centers = class_of_latents(int(np.prod(backbone.latent_shape)), batch_size, seed)
    guidances = dict.fromkeys(TANGENTS, guidance_of()) | {"unguided": None}
    steps, shares = {}, {}
    for kind, guidance in guidances.items():
        targets = targets_of(projector, centers, None if guidance is None else kind)
        marks = []
        with timed(time.process_time, **GUIDANCE_PLACES) as seconds:
            run_steps(
                backbone,
                targets,
                n_steps + 1,
                guidance=guidance,
                progress=lambda marks=marks: marks.append(time.process_time()),
            )
        # What the first step has to set up is no part of any other.
        steps[kind] = np.diff(marks)
        if guidance is not None:
            spent = np.sum(list(seconds.values()), axis=0)[1:]
            shares[kind] = (spent / steps[kind]).tolist()
    return {
        "batch": batch_size,
        "share": {kind: [round(s, 7) for s in values] for kind, values in shares.items()},
        "guided_to_unguided": {
            kind: round(float(np.median(steps[kind]) / np.median(steps["unguided"])), 4)
            for kind in TANGENTS
        },
    }


def median_time(function, repeats, clock=time.process_time):
    """Return the median time of calls."""
    seconds = []
    for _ in range(repeats):
        start = clock()
        function()
        seconds.append(clock() - start)
    return float(np.median(seconds))


def measure_published(n_features, seed, *, n_published=None, device="cpu"):
    """Return how many times as long the published step takes a sample as ours does."""
    n_published = n_published or PUBLISHED[n_features][1]
    clock = partial(cpu_clock, device)
    projector, centers = class_of_latents(n_features, IPC, seed)
    generator = torch.Generator(device).manual_seed(seed)
    options = {"generator": generator, "device": device}
    alpha_bar, ratios = 0.05, {}
    # Once unmeasured, for what is set up at first use.
    inputs = targets_of(projector, centers, "posterior", device)
    x0, x_t = torch.randn(2, IPC, n_features, **options)
    guidance_of().correct(x0, x_t, alpha_bar, 0, inputs)

    def theirs():
        few = slice(n_published)
        published.correct(
            x0[few],
            x_t[few],
            inputs.centroid[few],
            inputs.scale[few],
            alpha_bar,
            generator,
            strength=STRENGTH,
            normal_strength=NORMAL_STRENGTH,
        )

    per_sample = median_time(theirs, 1 if n_features > 1000 else 5, clock) / n_published
    for tangents in TANGENTS:
        made = []
        preparation = median_time(
            lambda kind=tangents, made=made: made.append(
                targets_of(projector, centers, kind, device)
            ),
            1,
            clock,
        )
        ours = partial(guidance_of().correct, x0, x_t, alpha_bar, 0, made[-1])
        step = median_time(ours, 20, clock)
        run = (step + preparation / N_GUIDED) / IPC
        ratios[tangents] = {
            "step": float(f"{per_sample * IPC / step:.4g}"),
            "with_preparation": float(f"{per_sample / run:.4g}"),
        }
    return {"batch": IPC, "n_published": n_published, "ratio": ratios}


def known_plane(data, seed, n=N_LATENTS, n_features=64, n_components=3):
    """Draw data around the origin whose tangent space there is known, and that space's basis.

    Three coordinates with unit variance, normal to them noise and random quadratic forms of the
    three, rotated at random.
    """
    noise, curvature = KNOWN[data]
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    along = rng.normal(size=(n, n_components))
    normal = noise * rng.normal(size=(n, n_features - n_components))
    forms = rng.normal(size=(n_components, n_components, n_components))
    normal[:, :n_components] += curvature * np.einsum("ni,kij,nj->nk", along, forms, along) / 2
    return np.hstack([along, normal]) @ rotation, rotation[:n_components]


def measure_angles(data, seed):
    """Return the largest principal angle, in degrees, of each estimate at each noise level."""
    Z, truth = known_plane(data, seed)
    generator = torch.Generator().manual_seed(seed)
    projector = TangentProjector().fit(Z)
    centroid = np.zeros((1, Z.shape[1]))
    latents, center = torch.from_numpy(Z), torch.zeros(Z.shape[1], dtype=torch.float64)
    nearest = latents.square().sum(dim=1).topk(published.N_POINTS, largest=False).indices
    ours = {kind: targets_of(projector, centroid, kind).tangent for kind in TANGENTS}
    last = len(radius_multipliers()) - 1
    angles = {name: [] for name in ESTIMATES}
    for alpha_bar in LEVELS:
        noise = torch.randn(center.shape, generator=generator, dtype=center.dtype)
        x_t = (1.0 - alpha_bar) ** 0.5 * noise
        on_spheres = published.points_on_spheres(center, generator)
        bases = {
            "spheres": published.tangent(x_t, on_spheres, alpha_bar, generator)[1],
            "latents": published.tangent(x_t, latents[nearest], alpha_bar, generator)[1],
            "prepared": ours["prepared"](x_t[None], alpha_bar, last)[1][0],
            "wide": ours["prepared"](x_t[None], alpha_bar, 0)[1][0],
            "posterior": ours["posterior"](x_t[None], alpha_bar, 0)[1][0],
        }
        for name, basis in bases.items():
            angles[name].append(np.degrees(subspace_angles(truth.T, basis.numpy().T)[0]))
    return {"angle": {name: np.round(values, 3).tolist() for name, values in angles.items()}}


def fitted_distiller(name, seed):
    """Return a distiller on 130 images a class of the data that a shipped backbone is for."""
    X, _, y, _ = SPLITS[DATA[name]]()
    rows = np.concatenate([np.flatnonzero(y == label)[:130] for label in np.unique(y)])
    distiller = ManifoldGDDistiller(
        max(BATCHES.values()),
        name,
        num_inference_steps=N_STEPS,
        refiner="passthrough",
        random_state=seed,
    )
    return distiller.fit(X[rows], y[rows])


def measure_sampling(name, seed, *, steps=N_STEPS):
    """Return images a second relative to a batch of one, and shares of the time, by batch size."""
    distiller = fitted_distiller(name, seed).set_params(num_inference_steps=steps)
    backbone = distiller.backbone_
    places = GUIDANCE_PLACES | {
        "predict": (backbone, "predict"),
        "decode": (backbone, "decode"),
        "preparation": (skdistill.sampling, "prepare_targets"),
        "scheduler": (type(make_scheduler(None, backbone.default_scheduler)), "step"),
    }
    distiller.sample(ipc=1)
    rates, shares = {}, {}
    for batch_size, ipc in BATCHES.items():
        distiller.set_params(batch_size=batch_size)
        with timed(time.process_time, **places) as seconds:
            start = time.process_time()
            X, _ = distiller.sample(ipc=ipc)
            total = time.process_time() - start
        spent = {label: sum(values) for label, values in seconds.items()}
        rates[batch_size] = len(X) / total
        groups = {
            "network": ("predict", "decode"),
            "guidance": tuple(GUIDANCE_PLACES),
            "preparation": ("preparation",),
            "scheduler": ("scheduler",),
        }
        shares[batch_size] = {
            part: round(sum(spent[label] for label in labels) / total, 4)
            for part, labels in groups.items()
        }
    first = rates[min(rates)]
    return {
        "images_a_second": {str(b): round(rate / first, 3) for b, rate in rates.items()},
        "share": {str(b): parts for b, parts in shares.items()},
    }


def all_cpu_time():
    """Return the CPU time of this process and of compilers that it has started."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure_compile(name, *, backbone=None, batch_size=64, repeats=11):
    """Return the time of a compiled network's call over a plain one's, and what compiling cost."""
    backbone = backbone or DiTBackbone(find_backbone(name))
    plain = backbone.denoiser
    compiled = torch.compile(plain, dynamic=False)
    arguments = {
        "hidden_states": torch.randn(2 * batch_size, *backbone.latent_shape),
        "timestep": torch.full((2 * batch_size,), 500),
        "class_labels": torch.zeros(2 * batch_size, dtype=torch.int64),
    }
    with torch.no_grad():
        start = all_cpu_time()
        compiled(**arguments)
        compiling = all_cpu_time() - start
        times = {"plain": [], "compiled": []}
        for i in range(repeats + 1):
            for kind, network in (("plain", plain), ("compiled", compiled)):
                seconds = median_time(lambda network=network: network(**arguments), 1)
                if i > 0:
                    times[kind].append(seconds)
    ratios = np.divide(times["compiled"], times["plain"])
    return {
        "batch": batch_size,
        "ratio": np.round(ratios, 4).tolist(),
        "compiling_in_calls": round(compiling / float(np.median(times["plain"])), 1),
    }


def matmul_rate(device, n=8192):
    """Return the operations a second of products of square matrices in bfloat16."""
    left, right = torch.randn(2, n, n, device=device, dtype=torch.bfloat16)
    seconds = median_time(lambda: left @ right, 11, partial(cpu_clock, device))
    return 2 * n**3 / seconds


def measure_gpu(
    device, *, backbone=None, batch_size=GPU_BATCH, repeats=3, n_steps=N_STEPS, matmul_size=8192
):
    """Return what a GPU does: images a second and shares of its rate, guided and unguided."""
    backbone = backbone or RandomDiT(device=device)
    clock = partial(cpu_clock, device)
    n_features = int(np.prod(backbone.latent_shape))
    projector, centers = class_of_latents(n_features, batch_size, 0)
    preparing = clock()
    targets = targets_of(projector, centers, "prepared", device)
    preparing = clock() - preparing
    x = targets.centroid.reshape(batch_size, *backbone.latent_shape)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    with FlopCounterMode(display=False) as counter:
        backbone.predict(x, torch.tensor(500), torch.tensor(0.1), labels)
    operations = counter.get_total_flops() * n_steps
    rate = matmul_rate(device, matmul_size)
    runs = {
        kind: partial(run_steps, backbone, targets, n_steps, guidance=guidance, device=device)
        for kind, guidance in (("unguided", None), ("guided", guidance_of()))
    }
    for run in runs.values():
        run()
    seconds = {kind: [] for kind in runs}
    for _ in range(repeats):
        for kind, run in runs.items():
            seconds[kind].append(median_time(run, 1, clock))
    with timed(clock, network=(backbone, "predict")) as spent:
        whole = median_time(runs["guided"], 1, clock)
    return {
        "gpu": torch.cuda.get_device_name(device)
        if torch.device(device).type == "cuda"
        else "none",
        "batch": batch_size,
        "n_steps": n_steps,
        "matmul_rate": rate,
        "preparation_seconds": preparing,
        "network_share": sum(spent["network"]) / whole,
        "images_a_second": {k: batch_size / float(np.median(v)) for k, v in seconds.items()},
        "rate_share": {k: operations / float(np.median(v)) / rate for k, v in seconds.items()},
        "published": measure_published(n_features, 0, n_published=1, device=device)["ratio"],
    }


def names(backbones=None):
    """Return the names of all results from a CPU, in the order in which they are measured."""
    backbones = shipped_backbones() if backbones is None else backbones
    found = [f"angles/{data}/{seed}" for data in KNOWN for seed in range(ANGLE_SEEDS)]
    for name in (*backbones, DIT_XL):
        n_seeds = STEPS.get(name, SHIPPED_STEPS)[0]
        found += [f"step/{name}/{seed}" for seed in range(n_seeds)]
    found += [f"published/{n}/{seed}" for n, (k, _) in PUBLISHED.items() for seed in range(k)]
    found += [f"sampling/{name}/{seed}" for name in backbones for seed in range(SAMPLING_SEEDS)]
    return found + [f"compile/{name}/0" for name in backbones]


def measure(name, device="cpu"):
    """Make the result of a name."""
    part, rest = name.split("/", 1)
    if part == "gpu":
        return measure_gpu(device)
    which, seed = rest.rsplit("/", 1)
    if part == "published":
        return measure_published(int(which), int(seed))
    if part == "compile":
        return measure_compile(which)
    parts = {"step": measure_step, "angles": measure_angles, "sampling": measure_sampling}
    return parts[part](which, int(seed))


def of_part(results, part):
    """Return the results of a part, in lists by what they are of."""
    found = {}
    for name, result in results.items():
        first, *which, _ = name.split("/")
        if first == part:
            found.setdefault("/".join(which), []).append(result)
    return found


def spread(values, pattern="{:.2g}"):
    """Write a median, and the lowest and the highest."""
    median, lowest, highest = (
        pattern.format(v) for v in (np.median(values), min(values), max(values))
    )
    return f"{median} ({lowest} to {highest})"


def shares_of(results, tangents):
    """Return the shares of all steps of the results of a backbone."""
    return [share for result in results for share in result["share"][tangents]]


def nearer(results, name):
    """Return at how many noise levels an estimate is nearer than both published ones, of how many.

    Nearer is what has the lower mean angle, over all kinds of data.
    """
    wins = []
    for found in of_part(results, "angles").values():
        angles = {key: np.mean([r["angle"][key] for r in found], axis=0) for key in ESTIMATES}
        wins += (angles[name] < np.minimum(angles["spheres"], angles["latents"])).tolist()
    return sum(wins), len(wins)


def bars(results):
    """Lay out the bars: the goal, what was measured, whether it is met."""
    rows = []
    for name, found in of_part(results, "step").items():
        bar = 0.02 if name == DIT_XL else 0.1
        for tangents in TANGENTS:
            share = np.median(shares_of(found, tangents))
            words = f"guidance's share of a step, {name}, {tangents} tangents"
            rows.append([words, f"≤ {bar:g}", f"{share:.2g}", share <= bar])
    found = of_part(results, "published")["4096"]
    for tangents in TANGENTS:
        for figure, what in (("step", "a step"), ("with_preparation", "preparation counted")):
            ratio = np.median([result["ratio"][tangents][figure] for result in found])
            words = f"times as fast as published at 4,096 features, {tangents} tangents, {what}"
            rows.append([words, "≥ 1,000", f"{ratio:,.0f}", ratio >= 1000])
    for name in OURS:
        n, total = nearer(results, name)
        words = (
            f"kinds of data and noise levels where it is nearer than published, {ESTIMATES[name]}"
        )
        rows.append([words, f"{total} of {total}", f"{n} of {total}", n == total])
    rows = [[*row, "met" if met else "not met"] for *row, met in rows]
    words = "network's share of the time of sampling on a GPU"
    share = [result["network_share"] for result in of_part(results, "gpu").get("", [])]
    met = ("met" if share[0] >= 0.95 else "not met") if share else "not run"
    rows.append([words, "≥ 0.95", f"{share[0]:.3f}" if share else "", met])
    return table(["what", "goal", "measured", ""], rows)


def step_table(results):
    """Lay out the shares of steps."""
    rows = []
    for name, found in of_part(results, "step").items():
        for tangents in TANGENTS:
            ratios = [result["guided_to_unguided"][tangents] for result in found]
            shares = shares_of(found, tangents)
            row = [name, str(found[0]["batch"]), tangents, spread(shares), str(len(shares))]
            rows.append([*row, spread(ratios, "{:.3f}")])
    header = ["backbone", "batch", "tangents", "share of a step", "steps", "guided / unguided"]
    return table(header, rows)


def by_size(item):
    """Return what parts that are named by a number are sorted by."""
    return int(item[0])


def published_table(results):
    """Lay out the ratios to the published step."""
    rows = []
    for n_features, found in sorted(of_part(results, "published").items(), key=by_size):
        row = [f"{int(n_features):,}", str(len(found))]
        for tangents in TANGENTS:
            for figure in ("step", "with_preparation"):
                ratios = [result["ratio"][tangents][figure] for result in found]
                row.append(spread(ratios, "{:,.3g}" if max(ratios) < 1000 else "{:,.0f}"))
        rows.append(row)
    header = ["features", "seeds"]
    for tangents in TANGENTS:
        header += [f"{tangents}: step", f"{tangents}: with preparation"]
    return table(header, rows)


def angle_tables(results):
    """Lay out the angles, a table for each kind of data."""
    texts = []
    for data, found in of_part(results, "angles").items():
        rows = [
            [f"{level:g}"]
            + [mean_and_error([result["angle"][name][i] for result in found]) for name in ESTIMATES]
            for i, level in enumerate(LEVELS)
        ]
        noise, curvature = KNOWN[data]
        title = f"Noise {noise:g}, curvature {curvature:g}:"
        texts.append(f"{title}\n\n{table(['ᾱ', *ESTIMATES.values()], rows)}")
    return "\n\n".join(texts)


def sampling_table(results):
    """Lay out images a second and shares of the time."""
    rows = []
    for name, found in of_part(results, "sampling").items():
        for batch_size in found[0]["images_a_second"]:
            rates = [result["images_a_second"][batch_size] for result in found]
            row = [name, batch_size, spread(rates, "{:.2f}")]
            parts = [result["share"][batch_size] for result in found]
            row += [f"{100 * np.median([p[part] for p in parts]):.1f}" for part in PARTS]
            rest = [1 - sum(p.values()) for p in parts]
            rows.append([*row, f"{100 * np.median(rest):.1f}"])
    header = ["backbone", "batch", "images a second", *(f"{part}, %" for part in PARTS), "rest, %"]
    return table(header, rows)


def compile_table(results):
    """Lay out what compiling costs and saves."""
    rows = []
    for name, found in of_part(results, "compile").items():
        (result,) = found
        saved = 1 - np.median(result["ratio"])
        calls = result["compiling_in_calls"]
        images = calls / saved / N_STEPS * result["batch"]
        pays = f"{images:,.0f}" if saved > 0 else "never"
        rows.append([name, spread(result["ratio"], "{:.3f}"), f"{calls:,.0f}", pays])
    header = ["backbone", "compiled / plain", "compiling, in plain calls", "images until it pays"]
    return table(header, rows)


def gpu_text(results):
    """Write the part on a GPU."""
    found = of_part(results, "gpu")
    if not found:
        return "Not measured yet: `speed.py --device cuda` measures it."
    (result,) = found[""]
    rows = [
        [kind, f"{result['images_a_second'][kind]:.2f}", f"{result['rate_share'][kind]:.2f}"]
        for kind in ("unguided", "guided")
    ]
    ratios = result["published"]["prepared"]
    return GPU_TEMPLATE.format(
        table=table(["", "images a second", "share of the rate of matrix products"], rows),
        teraflops=result["matmul_rate"] / 1e12,
        **ratios,
        **result,
    )


def page(results):
    """Return the page."""
    n_published = {n: k for n, (_, k) in PUBLISHED.items()}
    return TEMPLATE.format(
        bars=bars(results),
        steps=step_table(results),
        published=published_table(results),
        angles=angle_tables(results),
        sampling=sampling_table(results),
        compiled=compile_table(results),
        gpu=gpu_text(results),
        n_angles=len(of_part(results, "angles")["plane"]),
        n_guided=N_GUIDED,
        n_latents=f"{N_LATENTS:,}",
        ipc=IPC,
        n_published=n_published[4096],
    )


TEMPLATE = """\
<!-- Written by examples/benchmarks/speed.py from speed.jsonl. -->
# What guidance costs

{bars}

"Nearer" is a lower mean angle. Posterior planes need an eigendecomposition for each sample at each
step, which small networks do not outweigh; and next to the image, at ᾱ of 0.9
and more, their weights rest on the few latents that are nearest, which is too few for a plane. They
are not the default, and guidance ends long before.

Times are CPU times of one thread; what is compared was timed in one process, one after the other.
Figures are medians, with the lowest and the highest in brackets. Guidance is the paper's: strength
0.1, pull to the plane 0.1, three components, twelve neighbours, radii from twice that of the
neighbours down to it, {n_guided} of 50 steps of DDPM guided. "Prepared" tangent planes, the
default, are made once a centroid and radius before the loop; "posterior" ones at each step from the
noisy sample. How fast the tree is that the centroids come from has [a page of its own](tree.md).

## A denoising step

What of a guided step is guidance's: the clean prediction from the network's output, its correction,
and the way back; both times are from the same step. Networks run at classifier-free guidance, that
is two rows a sample; DiT-XL/2-256 has random weights in bfloat16, and 4,096 latent features.
Each class has {n_latents} latents. The last column compares different steps, so that on a shared
CPU the share is the surer figure.

{steps}

## Beside the published step

How many times as long as ours the published step takes a sample: 300 fresh points around the
centroid, noised, the full covariance of the 12 nearest, all its eigenvectors, one sample at a time,
without the network, which both need. Ours corrects a batch of {ipc} samples of a class of
{n_latents} latents at once; the published step, which takes each sample alone, was timed on
{n_published} of them at 4,096 features. "With preparation" spreads what is done before the loop,
search for neighbours included, over the {n_guided} guided steps.

{published}

## Whose tangent plane is nearer

The largest principal angle, in degrees, between the known tangent space at a centroid and each
estimate of it; mean ± standard error over {n_angles} seeds. {n_latents} points in 64 dimensions
have unit variance along three of them and independent noise, of the standard deviation that is
named, along each of the others; curved data has random quadratic forms of the three, times the
curvature, added to three of the others. The noisy sample is that of the centroid. 90° is what a
space has that misses a direction altogether.

{angles}

The published code draws its points on spheres of radius up to 0.1 around the centroid in random
directions, which know nothing of the data; the paper's text speaks of the neighbourhood of the
data, so that its procedure was also run on the 300 real latents nearest to the centroid. Prepared
planes do not look at the noisy sample; the first guided step has those of twice the radius, from
the sixth on they are those of the 12 neighbours. So few points lie within the noise of a plane, and
what they span is mostly noise: the wider ones are the better ones here, where the data have one
plane or little curvature.

## From noise to images

Images a second, relative to a batch of one in the same run, and what the time of `sample` goes
into: the network (with the VAE's decoder), guidance, preparation of planes, the scheduler's
arithmetic with its noise, and the rest. {ipc} to 100 images on 130 real images a class. Guidance is
the distiller's own here, with 32 components and 100 neighbours; refining, which comes after, is
left out.

{sampling}

Within the loop nothing waits for a device: noise levels and timesteps stay on the host, which
enters them into the device's operations as numbers. What is left is the noise of schedulers that
add some, drawn on the host so that every device draws the same, and copied once a step.

## torch.compile

The network's call at batch 64, compiled by `torch.compile`, over the same call as it is; what
compiling costs, counted in such calls; and how many images, at 50 steps each, it takes to be worth
that.

{compiled}

`ManifoldGDDistiller(compile=True)` and `--compile` do so. It pays for sets of more images than the
last column says, drawn in one process and in batches of one size, since each process and each other
size compiles anew; for smaller ones it costs more than it saves.

## On a GPU

DiT-XL/2-256 in bfloat16 at random weights.

{gpu}
"""


GPU_TEMPLATE = """\
{gpu}, batch {batch}, {n_steps} steps, guidance scale 4:

{table}

The network has {network_share:.3f} of a guided run; products of matrices ran at {teraflops:.0f}
TFLOP/s. Planes for the batch were prepared in {preparation_seconds:.2f} s on the host. The
published step takes {step:,.0f} times as long a sample, {with_preparation:,.0f} with preparation
counted."""


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--only", default="", metavar="REGEX", help="names of results to make")
    parser.add_argument("--device", default="cpu", help="cuda for the part on a GPU alone")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.page:
        on_gpu = options.device != "cpu"
        if not on_gpu:
            torch.set_num_threads(1)
        wanted = ["gpu/0"] if on_gpu else names()
        wanted = [name for name in wanted if re.search(options.only, name)]
        make_missing(RAW, wanted, partial(measure, device=options.device))
    missing = set(names()).difference(read_lines(RAW))
    if missing and not options.page:
        print(f"No page yet: {len(missing)} results are missing.")
        return
    PAGE.write_text(page(read_lines(RAW)), encoding="utf-8")


if __name__ == "__main__":
    main()
