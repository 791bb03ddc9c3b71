"""
Leads that later methods give
=============================

What methods after ManifoldGD do to the samples of a class together, to the class that they are
drawn as and to the choice among them, each beside the distiller's default: guidance by optimal
transport, repulsion, matched means, candidates, centroids found among the features of the diffusion
network, softened classes and labels of a teacher. Ten images a class, before and after refining.
Test images have no part in it: sets are made from some training images and judged on others.

Raw accuracies go to ``docs/benchmarks/leads.jsonl``, a line each; what is there is not measured
again. The tables go to ``docs/benchmarks/leads.md``; ``--page`` only writes that. ``--only REGEX``
takes the results whose names match.
"""

import argparse
import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import torch
from results import (
    BACKBONES,
    TITLES,
    distiller_settings,
    make_missing,
    mean_and_error,
    read_lines,
    table,
    with_number,
)
from sklearn.base import clone
from sklearn.metrics import pairwise_distances_argmin
from sklearn.model_selection import train_test_split

from skdistill import HierarchicalIPC, ManifoldGDDistiller
from skdistill.baselines import RandomSubset
from skdistill.datasets import SPLITS
from skdistill.generate import BatchedCalls, class_generator
from skdistill.guidance import Guidance
from skdistill.matching import RandomFeatures
from skdistill.protocols import judges

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "benchmarks" / "leads.jsonl"
PAGE = ROOT / "docs" / "benchmarks" / "leads.md"
IPC = 10
SEEDS = {"digits": range(3), "fashion-mnist": range(2)}
# Images that are distilled and images that judge, all of them training images.
SIZES = {"digits": (857, 400), "fashion-mnist": (15000, 4000)}
# Smaller than the study's: two ConvNets a set.
SMALLER = {"digits": {"width": 64}, "fashion-mnist": {"width": 64, "steps": 400}}
STUDENT_SEEDS = range(2)
TARGETS_A_SAMPLE = 4
CANDIDATES = 4
N_NETWORKS = 8


@dataclasses.dataclass(frozen=True)
class Together(Guidance):
    """A guidance that corrects the clean predictions of a whole class.

    Parameters
    ----------
    correct_all : callable
        From predictions of shape (n_samples, n_features) to corrected ones.

    first : Guidance, default=None
        What corrects each of them before.
    """

    correct_all: object = None
    first: Guidance | None = None

    def correct(self, x0, x_t, alpha_bar, step, targets, rate=1.0):
        """Return the corrected predictions."""
        if self.first is not None:
            x0 = self.first.correct(x0, x_t, alpha_bar, step, targets, rate)
        return self.correct_all(x0)


def transport(weight, interval=(0.0, 0.5)):
    """Pull samples to where optimal transport to centres of the class takes them, at each step.

    With gamma the Sinkhorn plan between the predictions and the leaves of the class's tree, four
    a sample and weighted by their members, sample i is pulled towards
    sum_j gamma_ij z_j / sum_j gamma_ij.
    """

    def guide(guidance, latents):
        tree = HierarchicalIPC(TARGETS_A_SAMPLE * IPC, selection="leaves", random_state=0)
        centers = torch.from_numpy(tree.fit(latents.numpy()).cluster_centers_)
        mass = torch.from_numpy(np.bincount(tree.labels_)) / len(latents)

        def correct(x0):
            plan = sinkhorn(x0, centers, mass.to(x0))
            wanted = plan @ centers / plan.sum(dim=1, keepdim=True)
            return x0 + weight * (wanted - x0)

        return Together(interval=interval, correct_all=correct)

    return guide


def sinkhorn(x, centers, mass, *, regularization=0.1, n_iter=5):
    """Return a plan that takes equal shares of the samples to centres of unequal mass.

    Costs are squared distances over their mean.
    """
    cost = torch.cdist(x, centers).square()
    kernel = torch.exp(-cost / cost.mean() / regularization).clamp_min(1e-30)
    v = torch.ones_like(mass)
    for _ in range(n_iter):
        u = 1.0 / len(x) / (kernel @ v)
        v = mass / (kernel.T @ u)
    return u[:, None] * kernel * v


def repel(weight, *, guided):
    """Push the samples of a class apart at each step: after each was guided, or instead.

    Instead, their mean is held at that of the class.
    The push is the gradient of log det(K + I / 10), K the cosine similarities, and as long, where
    it is largest, as `weight` times the mean distance of the samples from their mean.
    """

    def guide(guidance, latents):
        mean = latents.mean(dim=0)

        def correct(x0):
            with torch.enable_grad():
                x = x0.detach().requires_grad_()
                unit = torch.nn.functional.normalize(x, dim=1)
                likeness = torch.logdet(unit @ unit.T + 0.1 * torch.eye(len(x)))
                (push,) = torch.autograd.grad(likeness, x)
            spread = torch.linalg.vector_norm(x0 - x0.mean(dim=0), dim=1).mean()
            longest = torch.linalg.vector_norm(push, dim=1).max()
            x0 = x0 + weight * spread / longest * push
            return x0 if guided else x0 + mean - x0.mean(dim=0)

        return Together(correct_all=correct, first=guidance if guided else None)

    return guide


def nearest_latents(sampler, latents, centers, k):
    """Return the latents of the real images nearest to the centroids."""
    return latents[pairwise_distances_argmin(centers, latents.numpy())]


def middle_latents(sampler, latents, centers, k):
    """Return latents of the medoids of as many clusters among the network's middle features.

    The features are the mean tokens halfway through the network, where a fifth of the variance is
    noise, of unit variance each.
    """
    backbone = sampler.backbone
    blocks = backbone.denoiser.transformer_blocks
    alpha_bars = sampler.run()[0].alphas_cumprod
    t = torch.argmin((alpha_bars - 0.8).abs())
    generator, features = torch.Generator().manual_seed(0), []
    hook = blocks[len(blocks) // 2 - 1].register_forward_hook(
        lambda module, args, output: features.append(output.mean(dim=1))
    )
    for rows in latents.split(100):
        z = rows.reshape(-1, *backbone.latent_shape)
        noise = torch.randn(z.shape, generator=generator)
        x_t = alpha_bars[t].sqrt() * z + (1 - alpha_bars[t]).sqrt() * noise
        backbone.predict(x_t, t, alpha_bars[t], torch.full((len(z),), k), 1.0)
    hook.remove()
    features = torch.cat(features).float()
    features = ((features - features.mean(dim=0)) / features.std(dim=0).clamp_min(1e-6)).numpy()
    tree = HierarchicalIPC(len(centers), selection="leaves", random_state=0).fit(features)
    return latents[pairwise_distances_argmin(tree.cluster_centers_, features)]


class Softened:
    """A backbone that draws each sample as another class, too, while there is much noise.

    Parameters
    ----------
    backbone : backbone
        With as many classes as there are labels.

    share : float
        What the other class's prediction counts.

    until : float
        The share of the variance that is signal at which samples are of their class alone.
    """

    def __init__(self, backbone, share=0.3, until=0.1):
        self.backbone = backbone
        self.share = share
        self.until = until

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def to(self, device):
        """Stay on the CPU."""
        return self

    def predict(self, x_t, t, alpha_bar, labels, guidance_scale=None):
        """Predict what the backbone does."""
        own = self.backbone.predict(x_t, t, alpha_bar, labels, guidance_scale)
        if alpha_bar > self.until:
            return own
        n_classes = self.backbone.n_classes
        others = (labels + 1 + torch.arange(len(labels)) % (n_classes - 1)) % n_classes
        other = self.backbone.predict(x_t, t, alpha_bar, others, guidance_scale)
        return (1 - self.share) * own + self.share * other


@dataclasses.dataclass(frozen=True)
class Lead:
    """How a set is made otherwise than by default.

    Parameters
    ----------
    guide : callable, default=None
        From the default guidance and the latents of a class to what guides it.

    centers : callable, default=None
        Returns what a class is pulled towards instead of its centroids.

    settings : dict
        What of the sampler is replaced.

    softened : bool
        Whether classes are mixed.

    candidates : int
        Samples for each that is kept.
    """

    guide: object = None
    centers: object = None
    settings: dict = dataclasses.field(default_factory=dict)
    softened: bool = False
    candidates: int = 1


DEFAULT = "guided, as by default"
LEADS = {
    DEFAULT: Lead(),
    "unguided": Lead(settings={"guidance": Guidance(strength=0.0)}),
    "optimal transport, strength 1": Lead(transport(1.0)),
    "optimal transport, strength 0.3": Lead(transport(0.3)),
    "optimal transport, strength 1, in steps 5 to 20 of 50": Lead(transport(1.0, (0.1, 0.4))),
    "guided and repelled": Lead(repel(0.1, guided=True)),
    "repelled, with the class's mean": Lead(repel(0.1, guided=False)),
    "guided to the real latents nearest to centroids": Lead(centers=nearest_latents),
    "guided to medoids in the network's middle features": Lead(centers=middle_latents),
    "guided, the best of four times as many": Lead(candidates=CANDIDATES),
    "guided, classes mixed while there is much noise": Lead(softened=True),
    "guided, without classifier-free guidance": Lead(settings={"guidance_scale": 1.0}),
}
STAGES = ("sampled", "refined")
REAL, TAUGHT = "random real", ", labels of a teacher"
# What a teacher labels.
LABELLED = ((REAL, "sampled"), (DEFAULT, "sampled"), (DEFAULT, "refined"))
TEMPLATE = """\
<!-- Written by examples/benchmarks/leads.py from leads.jsonl. -->
# Leads that later methods give

What methods after ManifoldGD do, each in place of a part of this distiller or beside it, at {ipc}
images a class. Sets are made from some of the training images and judged on others, so that no test
image has a part in it; backbones have seen them all. Accuracy in per cent of ConvNets of half the
usual width, two a set, and of the linear student: mean ± standard error over sets, in brackets how
many there are where not {sets}, and after a comma the difference from the default, seed by seed.
"Refined" is the default's last step, applied to what was sampled.

{tables}

- *Optimal transport*: at each step the samples of a class are assigned anew, by a Sinkhorn plan, to
  four weighted centres a sample, and pulled towards what they are assigned; nothing else guides
  them, and nothing is projected.
- *Repelled*: pushed along the gradient of the log determinant of their cosine similarities.
- *The best of four times as many*: herding among the features of {n_networks} random ConvNets.
- *Classes mixed*: three tenths of another class's prediction while less than a tenth of the
  variance is signal.
- *Middle features*: the tree is grown among what the diffusion network's middle block makes of
  slightly noisy latents.

## Labels of a teacher

Soft labels are another protocol, so they have a table of their own: a ConvNet trained on all that
is distilled labels each set, and ConvNets learn its probabilities.

{taught}
"""


@functools.cache
def load(data):
    """Return images to distil, images that judge, and the labels of both."""
    X, _, y, _ = SPLITS[data]()
    train, test = SIZES[data]
    return train_test_split(X, y, train_size=train, test_size=test, stratify=y, random_state=0)


@functools.lru_cache(maxsize=1)
def distiller(data, seed):
    """Return the default, fitted."""
    X, _, y, _ = load(data)
    # Leads keep what they compute with on the CPU.
    made = ManifoldGDDistiller(
        IPC, BACKBONES[data], random_state=seed, device="cpu", **distiller_settings(data)
    )
    return made.fit(X, y)


@functools.lru_cache(maxsize=1)
def sampled(data, name, seed):
    """Return the latents of a set, those of each class."""
    made, lead = distiller(data, seed), LEADS[name]
    refining = made._sampler()
    sampler = dataclasses.replace(refining, refiner=None, **lead.settings)
    plan = made._plan(IPC)
    latents = [torch.from_numpy(np.float32(Z)).flatten(1) for Z in sampler.latents]
    if lead.centers is not None:
        centers = np.empty_like(plan.centers)
        for k, Z in enumerate(latents):
            of_class = plan.center_classes == k
            centers[of_class] = lead.centers(sampler, Z, plan.centers[of_class], k)
        plan = dataclasses.replace(plan, centers=centers)
    if lead.softened:
        sampler = dataclasses.replace(sampler, backbone=Softened(sampler.backbone))
    if lead.candidates > 1:
        plan = several(plan, lead.candidates)
    calls, found = BatchedCalls(made.batch_size), []
    for k, Z in enumerate(latents):
        watch = None
        if lead.guide is not None:
            watch = functools.partial(lead.guide, latents=Z)
        z = sampler.sample_latents(plan, np.flatnonzero(plan.labels == k), calls, watch=watch)
        found.append(z if lead.candidates == 1 else herd(made, z, Z, class_generator(seed, k)))
    return found


def several(plan, n):
    """Return a plan of several samples a centroid."""
    assigned = np.tile(plan.assigned.reshape(-1, IPC), n)
    indices = np.tile(np.arange(n * IPC), len(assigned))
    return dataclasses.replace(plan, assigned=assigned.ravel(), indices=indices)


@torch.no_grad()
def herd(made, z, latents, generator):
    """Choose the samples whose mean features in random ConvNets follow the class's, greedily."""
    decode = made.backbone_.to_images
    few = latents[torch.randperm(len(latents), generator=generator)[:500]]
    real, images = decode(few.reshape(-1, *z.shape[1:])), decode(z)
    look = RandomFeatures(
        real, augmentation=(), generator=generator, depth=None, width=64, dtype=torch.float32
    )
    wanted, seen = [], []
    for _ in range(N_NETWORKS):
        wanted.append(look.draw(len(real)))
        seen.append(look(images))
    wanted, seen = torch.cat(wanted), torch.cat(seen, dim=1)
    chosen, total = [], torch.zeros_like(wanted)
    for n in range(1, IPC + 1):
        distance = torch.linalg.vector_norm((total + seen) / n - wanted, dim=1)
        distance[chosen] = torch.inf
        chosen.append(int(distance.argmin()))
        total = total + seen[chosen[-1]]
    return z[chosen]


def images(data, name, seed, stage):
    """Return a set and its labels."""
    made, latents = distiller(data, seed), sampled(data, name, seed)
    sampler = made._sampler()
    if stage == "refined":
        latents = [sampler._refine(z, k, None) for k, z in enumerate(latents)]
    decoded = [sampler.decode(z, BatchedCalls(made.batch_size)) for z in latents]
    return np.concatenate(decoded), np.repeat(made.classes_, IPC)


def conv_net(data, seed):
    """Return a student of half the usual width."""
    return clone(next(iter(judges(data).values()))).set_params(random_state=seed, **SMALLER[data])


@functools.lru_cache(maxsize=1)
def teacher(data):
    """Return a ConvNet that was trained on all that is distilled."""
    X, _, y, _ = load(data)
    return conv_net(data, 0).fit(X, y)


def measure(name):
    """Return the result of that name, DATA/LEAD/STAGE/SEED."""
    data, lead, stage, seed = name.split("/")
    X, X_test, y, y_test = load(data)
    is_taught, lead = lead.endswith(TAUGHT), lead.removesuffix(TAUGHT)
    if lead == REAL:
        X_syn, y_syn = RandomSubset(IPC, random_state=int(seed)).fit(X, y).sample()
    else:
        X_syn, y_syn = images(data, lead, int(seed), stage)
    students = {"ConvNet": [conv_net(data, student_seed) for student_seed in STUDENT_SEEDS]}
    if is_taught:
        y_syn = teacher(data).predict_proba(X_syn)
    else:
        students["linear"] = [judges(data)["linear"]]
    return {
        kind: [float(student.fit(X_syn, y_syn).score(X_test, y_test)) for student in of_kind]
        for kind, of_kind in students.items()
    }


def names(data):
    """Return the names of a data set's results, in the order in which they are made."""
    made = [(lead, stage) for lead in LEADS for stage in STAGES]
    made += [(REAL, "sampled"), *((lead + TAUGHT, stage) for lead, stage in LABELLED)]
    return [f"{data}/{lead}/{stage}/{seed}" for seed in SEEDS[data] for lead, stage in made]


def accuracies(results, data, lead, stage, student):
    """Return the accuracy of each set, the mean of its students', in per cent, by its seed."""
    found = {}
    for seed in SEEDS[data]:
        result = results.get(f"{data}/{lead}/{stage}/{seed}")
        if result is not None:
            found[seed] = 100.0 * float(np.mean(result[student]))
    return found


def cell(found, n_sets, reference=None):
    """Write accuracies and, where there is a reference, how much better they are, seed by seed."""
    text = with_number(list(found.values()), n_sets)
    if not found or reference is None:
        return text
    better = [found[seed] - reference[seed] for seed in found.keys() & reference.keys()]
    return f"{text}, {mean_and_error(better)}"


def lead_table(results, data):
    """Lay out the accuracies of all leads."""
    columns = [(stage, student) for stage in STAGES for student in ("ConvNet", "linear")]
    default = [accuracies(results, data, DEFAULT, *column) for column in columns]
    rows = []
    for lead in (REAL, *LEADS):
        found = [accuracies(results, data, lead, *column) for column in columns]
        if any(found):
            references = [None] * len(columns) if lead in (REAL, DEFAULT) else default
            cells = zip(found, references, strict=True)
            rows.append([lead, *(cell(one, len(SEEDS[data]), other) for one, other in cells)])
    return table([TITLES[data], *(f"{stage}, {student}" for stage, student in columns)], rows)


def teacher_table(results):
    """Lay out what labels of a teacher are worth."""
    rows = []
    for data, seeds in SEEDS.items():
        for lead, stage in LABELLED:
            hard = accuracies(results, data, lead, stage, "ConvNet")
            soft = accuracies(results, data, lead + TAUGHT, stage, "ConvNet")
            if soft:
                made = [cell(hard, len(seeds)), cell(soft, len(seeds), hard)]
                rows.append([f"{TITLES[data]}: {lead}, {stage}", *made])
    return table(["trained on", "hard labels", "a teacher's"], rows)


def page(results):
    """Lay the accuracies out."""
    return TEMPLATE.format(
        ipc=IPC,
        sets=" and ".join(f"{len(seeds)} ({TITLES[data]})" for data, seeds in SEEDS.items()),
        n_networks=N_NETWORKS,
        tables="\n\n".join(lead_table(results, data) for data in SEEDS),
        taught=teacher_table(results),
    )


def main():
    """Measure what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--only", default="", metavar="REGEX", help="results to make")
    parser.add_argument("--page", action="store_true", help="only write the tables")
    options = parser.parse_args()
    if not options.page:
        wanted = [name for data in SEEDS for name in names(data)]
        make_missing(RAW, [name for name in wanted if re.search(options.only, name)], measure)
    PAGE.write_text(page(read_lines(RAW)), encoding="utf-8")


if __name__ == "__main__":
    main()
