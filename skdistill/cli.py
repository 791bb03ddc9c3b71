"""The command line: ``skdistill distill``, ``pretrain`` and ``evaluate``."""

import argparse
import functools
import json
import math
import shlex
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

from skdistill import ManifoldGDDistiller, __version__, load_distilled
from skdistill.augmentation import AUGMENTATIONS
from skdistill.backbones import LatentEncoder, shipped_backbones
from skdistill.baselines import rivals
from skdistill.datasets import (
    load_cifar10,
    load_digits_split,
    load_fashion_mnist,
    load_image_folder,
    load_npz,
)
from skdistill.evaluation import accuracies, format_accuracies, format_figures, train_student
from skdistill.io import class_folder, write_atomically
from skdistill.matching import DistributionMatching
from skdistill.metrics import compare_sets
from skdistill.pixels import from_networks, infer_value_range, to_networks
from skdistill.protocols import PROTOCOLS, judges
from skdistill.training import checkpoint_folder, pretrain

__all__ = ["main"]

N_EVALUATIONS = 3
# Classes that are shown side by side.
N_COLUMNS = 12
# Data sets that come with a test part.
KNOWN = {
    "digits": load_digits_split,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
}
DATA_HELP = (
    "'digits' (scikit-learn's handwritten digits, the training part of a fixed split), "
    "'fashion-mnist' or 'cifar10' (from the folder that SKDISTILL_DATA names, or downloaded), a "
    "folder of class folders with images, or an .npz file with arrays X and y"
)
TEST_HELP = (
    "held-out data to measure accuracies on: a second folder or .npz, or the share of DATA to hold "
    "out, stratified, with random_state=0; data sets known by name come with theirs"
)
ALL = "all training data"
QUICK_RIVALS = ("random real", "herding", "cluster means")
# Those of a matter of seconds.
PLAIN_RIVALS = tuple(rivals(diffusion=False))
EPILOG = """\
examples:
  skdistill distill digits --ipc 10 --out distilled
  skdistill evaluate distilled digits
  skdistill pretrain my_images --test 0.2 --out my_backbone
  skdistill distill my_images --test 0.2 --backbone my_backbone --ipc 20 --out distilled
"""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but only where there is one to show."""

    def _get_help_string(self, action):
        if action.default is None or action.const is True or isinstance(action.default, tuple):
            return action.help
        return super()._get_help_string(action)


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    code : int
        0 if all went well, 2 if the input cannot be used, 130 if it was interrupted.
    """
    parser = _build_parser()
    options = parser.parse_args(arguments)
    options.command_line = shlex.join(
        ["skdistill", *(sys.argv[1:] if arguments is None else arguments)]
    )
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return options.run(options)
        except (ValueError, OSError, FloatingPointError, ImportError) as error:
            print(f"skdistill {options.subcommand}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"\nInterrupted. {_how_to_go_on(options)}", file=sys.stderr)
            return 130


def _how_to_go_on(options):
    """Say what an interrupted command leaves behind."""
    if options.subcommand == "pretrain":
        folder, kept = checkpoint_folder(options.out), "The last checkpoint"
        finished = any(folder.glob("*.safetensors"))
    else:
        folder, kept = Path(options.out), "What is finished"
        finished = any(folder.glob("batches/*.npz")) or (folder / "distilled.npz").exists()
    if not finished:
        return f"Nothing is finished yet; start again with:\n  {options.command_line}"
    return (
        f"{kept} is kept in {folder}; the same command goes on from there:\n"
        f"  {options.command_line}"
    )


def _build_parser():
    parser = argparse.ArgumentParser(
        prog="skdistill",
        description="Shrink a labelled data set to a few synthetic samples a class.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skdistill {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")

    distill = subparsers.add_parser(
        "distill",
        help="distil a data set into a run directory",
        description="Distil DATA into a run directory with images, distilled.npz and grid.png, and "
        "show what training on it is worth beside other sets of the same size.",
        formatter_class=_HelpFormatter,
    )
    distill.set_defaults(run=_distill)
    _add_data_arguments(distill)
    distill.add_argument("--ipc", type=int, default=10, help="synthetic samples a class")
    distill.add_argument(
        "--backbone",
        help=f"a shipped name ({', '.join(shipped_backbones())}), a folder in diffusers' format, a "
        "hub id owner/name, or closed-form; 'digits' for digits, otherwise closed-form",
    )
    distill.add_argument("--revision", help="branch, tag or commit of a hub id")
    distill.add_argument("--test", metavar="DATA_OR_SHARE", help=TEST_HELP)
    distill.add_argument(
        "--resize",
        choices=("bilinear", "bicubic", "nearest"),
        help="convert images to the backbone's size and back",
    )
    guidance = distill.add_argument_group("guidance")
    defaults = ManifoldGDDistiller().get_params(deep=False)
    guidance.add_argument(
        "--strength",
        type=float,
        default=defaults["strength"],
        help="pull towards the centroids, 0 (unguided) to 1",
    )
    guidance.add_argument(
        "--kernel",
        choices=("rbf", "laplace", "imq"),
        default=defaults["kernel"],
        help="how the pull depends on the distance to the centroid",
    )
    guidance.add_argument(
        "--no-projection",
        action="store_true",
        help="pull in every direction, not only along the tangent space",
    )
    guidance.add_argument(
        "--guidance-scale", type=float, help="classifier-free guidance; the backbone's own if unset"
    )
    guidance.add_argument(
        "--steps", type=int, default=defaults["num_inference_steps"], help="denoising steps"
    )
    guidance.add_argument("--scheduler", help="a scheduler of diffusers, such as DDIMScheduler")
    distill.add_argument(
        "--batch-size",
        type=int,
        default=defaults["batch_size"],
        help="samples made at once; halved where memory runs out",
    )
    distill.add_argument("--jobs", type=int, default=1, help="number of processes")
    distill.add_argument(
        "--no-scores", action="store_true", help="do not train students on the result"
    )
    _add_common_arguments(
        distill,
        seed="decides the distilled set, the sets beside it and the students; the held-out split "
        "is fixed",
    )

    train = subparsers.add_parser(
        "pretrain",
        help="train a backbone on your own images",
        description="Train a small VAE and a class-conditional DiT on DATA and write them as a "
        "folder in diffusers' format, with a model card. A run that was stopped goes on from its "
        "last checkpoint when the same command is given again.",
        formatter_class=_HelpFormatter,
    )
    train.set_defaults(run=_pretrain)
    _add_data_arguments(train)
    sizes = train.add_argument_group("training", "Sizes that are not given follow from the images.")
    sizes.add_argument("--steps", type=int, default=10_000, help="steps of the DiT")
    sizes.add_argument("--vae-steps", type=int, default=5_000, help="steps of the VAE")
    sizes.add_argument("--batch-size", type=int, default=128, help="images a step")
    sizes.add_argument("--learning-rate", type=float, default=1e-3, help="of AdamW, at its peak")
    sizes.add_argument("--latent-channels", type=int, help="channels of the latents")
    sizes.add_argument("--downsamplings", type=int, help="how often the VAE halves the size")
    sizes.add_argument("--vae-width", type=int, help="channels of the VAE at full size")
    sizes.add_argument("--width", type=int, help="width of the DiT")
    sizes.add_argument("--depth", type=int, help="blocks of the DiT")
    sizes.add_argument("--patch-size", type=int, help="side of a latent patch that is one token")
    sizes.add_argument("--dropout", type=float, default=0.0, help="dropout within the DiT")
    sizes.add_argument("--flip", action="store_true", help="train on mirrored images too")
    sizes.add_argument(
        "--guidance-scale", type=float, default=1.5, help="classifier-free guidance to recommend"
    )
    sizes.add_argument("--checkpoint-every", type=int, default=500, help="steps")
    train.add_argument(
        "--test",
        metavar="SHARE",
        help="share of DATA to hold out, stratified, with random_state=0: the images that distill "
        "holds out for this share; without it the backbone sees what distill measures on",
    )
    train.add_argument("--license", default="unknown", help="licence of the weights, for the card")
    _add_common_arguments(
        train, seed="decides the first weights and all that is drawn; the held-out split is fixed"
    )

    judge = subparsers.add_parser(
        "evaluate",
        help="judge a small set against real data",
        description="Train students on SET, on as many real samples of DATA picked in several "
        "ways, and on all of DATA, and test them on held-out real samples; and measure how far SET "
        "is from DATA.",
        formatter_class=_HelpFormatter,
    )
    judge.set_defaults(run=_evaluate)
    judge.add_argument(
        "set",
        metavar="SET",
        help="a run directory, a folder of class folders with images, or an .npz file",
    )
    _add_data_arguments(judge, out=False)
    judge.add_argument("--test", metavar="DATA_OR_SHARE", help=TEST_HELP)
    judge.add_argument(
        "--rivals",
        nargs="*",
        metavar="NAME",
        default=PLAIN_RIVALS,
        choices=[*rivals(), "DM"],
        help=f"sets to compare with, of the same size: {', '.join(rivals())}, or DM (distribution "
        "matching, trained: minutes); the first six if unset",
    )
    judge.add_argument(
        "--backbone",
        help="as of distill: for rivals that need one, and for --features latents",
    )
    judge.add_argument(
        "--students",
        nargs="+",
        metavar="NAME",
        help="ConvNet, ResNet-18, ResNetAP-10 or linear; ConvNet and linear if unset, of tables "
        "linear alone",
    )
    judge.add_argument(
        "--augmentation",
        nargs="*",
        metavar="KIND",
        default=(),
        choices=tuple(AUGMENTATIONS),
        help="random changes that keep the class, for the students of your own images and for DM: "
        f"{', '.join(AUGMENTATIONS)}; data sets known by name have their own",
    )
    judge.add_argument("--seeds", type=int, default=N_EVALUATIONS, help="number of seeds")
    judge.add_argument(
        "--features",
        choices=("student", "latents", "values"),
        help="in which space SET is compared with DATA: the last features of the first student "
        "trained on all of DATA, latents of --backbone, or the values themselves; student for "
        "images, values for tables if unset",
    )
    judge.add_argument("--json", action="store_true", help="print JSON, with figures of each class")
    _add_common_arguments(
        judge, seed="decides the sets that are drawn and the students; the held-out split is fixed"
    )
    return parser


def _add_data_arguments(parser, *, out=True):
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    if out:
        parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--image-size",
        type=int,
        help="cut images of a folder to a square and resize them to this many pixels a side",
    )


def _add_common_arguments(parser, *, seed):
    parser.add_argument("--seed", type=int, default=0, help=seed)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no table")


def _load(data, image_size):
    """Load a folder or an .npz file, whichever `data` is."""
    if Path(data).is_dir():
        return load_image_folder(data, image_size=image_size)
    if Path(data).is_file():
        return load_npz(data)
    raise ValueError(
        f"DATA={data!r} is neither {', '.join(map(repr, KNOWN))}, nor a folder, nor an .npz file."
    )


def _load_split(options):
    """Return training and test data; no test data where none is asked for.

    `pretrain` and `distill` share it, so that a backbone never sees what its samples are judged on.
    """
    if options.data in KNOWN:
        if options.test is not None:
            raise ValueError(f"--test cannot be given with {options.data!r}, whose split is fixed.")
        return KNOWN[options.data]()
    share = _parse_share(options)
    X, y = _load(options.data, options.image_size)
    if options.test is None:
        return X, None, y, None
    if share is not None:
        # The seed is no option: runs with several seeds have to be judged on the same images.
        return train_test_split(X, y, test_size=share, stratify=y, random_state=0)
    X_test, y_test = _load(options.test, options.image_size)
    if X_test.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"--test={options.test!r} has rows of shape {X_test.shape[1:]}, DATA has {X.shape[1:]}."
        )
    known = set(y.tolist())
    strangers = sorted(set(y_test.tolist()) - known, key=str)
    if strangers:
        raise ValueError(
            f"--test={options.test!r} has labels that DATA lacks: {_enumerate(strangers)}; the "
            f"labels of DATA are {_enumerate(sorted(known))}."
        )
    return X, X_test, y, y_test


def _parse_share(options):
    """Return --test as a share, or None where it is not given or names data."""
    if options.test is None:
        return None
    takes_data = options.subcommand != "pretrain"
    try:
        share = float(options.test)
    except ValueError:
        if takes_data:
            return None
        share = math.nan
    if not 0.0 < share < 1.0:
        expected = "a share between 0 and 1" + (", or data" if takes_data else " of DATA")
        raise ValueError(f"--test={options.test!r} must be {expected}.")
    return share


def _enumerate(labels):
    return ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")


def _distill(options):
    X, X_test, y, y_test = _load_split(options)
    distiller = ManifoldGDDistiller(
        ipc=options.ipc,
        backbone=_backbone_name(options),
        projector="passthrough" if options.no_projection else None,
        strength=options.strength,
        kernel=options.kernel,
        num_inference_steps=options.steps,
        scheduler=options.scheduler,
        guidance_scale=options.guidance_scale,
        resize=options.resize,
        revision=options.revision,
        device=options.device,
        batch_size=options.batch_size,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=not options.quiet,
    )
    distiller.fit(X, y)
    X_syn, y_syn = distiller.sample(out_dir=options.out)
    if not options.quiet:
        n_classes = len(distiller.classes_)
        print(f"{len(X_syn)} samples of {n_classes} classes from {len(X)} are in {options.out}")
    if options.no_scores:
        return 0
    if X_test is None:
        if not options.quiet:
            print("Nothing was held out, so no accuracies: give --test to have them measured.")
        return 0
    students = _students(options, X, value_range=distiller.value_range_)
    sets = {"ManifoldGD": lambda seed: (X_syn, y_syn)}
    sets |= _rival_sets(QUICK_RIVALS, X, y, y_syn, options)
    sizes = {name: len(y_syn) for name in sets} | {ALL: len(y)}
    sets[ALL] = lambda seed: (X, y)
    scores = _accuracies(students, sets, (X_test, y_test), _seeds(options, N_EVALUATIONS), options)
    content = {
        "command": options.command_line,
        "n_test": len(y_test),
        "n_training": sizes,
        "scores": scores,
    }
    write_atomically(
        Path(options.out) / "scores.json", (json.dumps(content, indent=2) + "\n").encode()
    )
    if not options.quiet:
        print(format_accuracies(scores, len(y_test)))
    return 0


def _students(options, X, *, value_range, names=None):
    """Return the judges of that name; a ConvNet for images, and a linear one."""
    params = {"device": options.device}
    augmentation = tuple(getattr(options, "augmentation", ()))
    if options.data not in PROTOCOLS:
        params |= {"value_range": value_range, "augmentation": augmentation}
    elif augmentation:
        raise ValueError(
            f"--augmentation cannot be given with {options.data!r}, whose protocol is fixed."
        )
    students = judges(options.data if options.data in PROTOCOLS else None, **params)
    if X.ndim == 2:
        students = {"linear": students["linear"]}
    known = {name.split("-")[0] if "ConvNet" in name else name: name for name in students}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(
            f"--students {unknown[0]} cannot judge DATA={options.data!r}; {', '.join(known)} can."
        )
    chosen = [known[name] for name in names or known if names or not name.startswith("ResNet")]
    return {name: students[name] for name in chosen}


def _rival_sets(names, X, y, y_syn, options, value_range=None):
    """Return what makes the sets of rivals, as large as the set with the labels `y_syn`."""
    classes, counts = np.unique(y_syn, return_counts=True)
    ipc = dict(zip(classes.tolist(), counts.tolist(), strict=True))

    def make(name, seed):
        if name == "DM":
            kinds = PROTOCOLS.get(options.data, vars(options)).get("augmentation", ())
            rival = DistributionMatching(
                ipc,
                augmentation=kinds,
                value_range=value_range,
                device=options.device,
                random_state=seed,
            )
        else:
            settings = {"device": options.device, "value_range": value_range}
            rival = rivals(ipc, _backbone_name(options), random_state=seed, **settings)[name]
        return rival.fit(X, y).sample()

    return {name: functools.partial(make, name) for name in names}


def _backbone_name(options):
    """Return the backbone of the options, or the one that suits the data."""
    return options.backbone or ("digits" if options.data == "digits" else "closed-form")


def _seeds(options, n):
    return [n * options.seed + i for i in range(n)]


def _accuracies(students, sets, test, seeds, options):
    """Return accuracies under a progress bar."""
    total = len(sets) * len(students) * len(seeds)
    disable = True if options.quiet else None
    with tqdm(total=total, desc="training students", unit="student", disable=disable) as bar:
        return accuracies(students, sets, test, seeds, progress=bar.update)


def _evaluate(options):
    # It is needed last, and its lack should be known first.
    if find_spec("torchmetrics") is None:
        raise ImportError(
            "FID needs torchmetrics, which is not installed: pip install skdistill[evaluation]"
        )
    if options.seeds < 1:
        raise ValueError(f"--seeds={options.seeds} must be at least 1.")
    X, X_test, y, y_test = _load_split(options)
    if X_test is None:
        raise ValueError(
            "Nothing is held out to test on: give --test DATA or --test SHARE. A set that was "
            "distilled with --test has to be judged with the same."
        )
    value_range = PROTOCOLS.get(options.data, {}).get("value_range")
    if value_range is None and X.ndim > 2:
        value_range = infer_value_range(X)
    X_syn, y_syn = _load_set(options.set, X, y, value_range)
    strangers = sorted(set(y_syn.tolist()) - set(y.tolist()), key=str)
    if strangers:
        raise ValueError(
            f"SET={options.set!r} has labels that DATA lacks: {_enumerate(strangers)}."
        )
    kept = np.isin(y, y_syn), np.isin(y_test, y_syn)
    if not all(part.all() for part in kept):
        lacking = sorted(set(y.tolist()) - set(y_syn.tolist()), key=str)
        warnings.warn(
            f"SET={options.set!r} lacks classes of DATA, which are left out of everything: "
            f"{_enumerate(lacking)}.",
            stacklevel=1,
        )
        (X, y), (X_test, y_test) = (X[kept[0]], y[kept[0]]), (X_test[kept[1]], y_test[kept[1]])
    students = _students(options, X, value_range=value_range, names=options.students)
    seeds = _seeds(options, options.seeds)
    network = next((name for name in students if name != "linear"), None)
    features = options.features or ("values" if network is None else "student")
    embed = None
    # What cannot be compared so should be known before students are trained.
    if features == "student" and network is None:
        raise ValueError("--features student needs a network among --students.")
    if features == "latents":
        embed = _latents(options, X, value_range)

    sets = {"SET": lambda seed: (X_syn, y_syn)}
    sets |= _rival_sets(options.rivals, X, y, y_syn, options, value_range)
    sets = {name: functools.cache(make) for name, make in sets.items()}
    scores = _accuracies(
        students, sets | {ALL: lambda seed: (X, y)}, (X_test, y_test), seeds, options
    )
    if features == "student":
        embed = train_student(students[network], X, y, seeds[0]).transform
    names = tqdm(sets, desc="comparing sets", unit="set", disable=True if options.quiet else None)
    figures = {
        name: compare_sets(X, y, *sets[name](seeds[0]), embed=embed, random_state=options.seed)
        for name in names
    }
    if options.json:
        content = {
            "command": options.command_line,
            "n_test": len(y_test),
            "n_training": {"SET": len(y_syn), ALL: len(y)},
            "scores": scores,
            "figures": figures,
        }
        print(json.dumps(content, indent=2, default=str))
    elif not options.quiet:
        space = features if features != "student" else f"features of {network} trained on them"
        print(f"SET is {options.set}, {len(y_syn)} samples")
        print(format_accuracies(scores, len(y_test)))
        print(f"\nfigures against the {len(y)} real training samples, by {space}; first seed")
        print(format_figures({name: f["overall"] for name, f in figures.items()}))
        by_class = figures["SET"]["by_class"]
        if len(by_class) <= N_COLUMNS:
            print("\nfigures of SET by class")
            print(format_figures({str(label): f for label, f in by_class.items()}))
        else:
            print(f"\n--json has the figures of each of the {len(by_class)} classes")
    return 0


def _load_set(path, X, y, value_range):
    """Load the set to judge, in the terms of the real data."""
    if (Path(path) / "manifest.json").exists():
        X_syn, y_syn = load_distilled(path)
    else:
        X_syn, y_syn = _load(path, None)
        # Folders have the names of labels, not the labels.
        labels = {class_folder(label): label for label in np.unique(y).tolist()}
        if y_syn.dtype.kind == "U" and y.dtype.kind != "U" and set(y_syn.tolist()) <= set(labels):
            y_syn = np.array([labels[name] for name in y_syn.tolist()], dtype=y.dtype)
    if X_syn.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"SET={path!r} has samples of shape {X_syn.shape[1:]}, DATA has {X.shape[1:]}."
        )
    if X_syn.dtype == np.uint8 and X.dtype != np.uint8 and X.ndim > 2:
        x = to_networks(X_syn, (0.0, 255.0))
        X_syn = from_networks(x, value_range, shape=X.shape[1:], dtype=X.dtype)
    return X_syn, y_syn


def _latents(options, X, value_range):
    """Return what encodes samples by the backbone of the options."""
    name = _backbone_name(options)
    if name == "closed-form" or X.ndim == 2:
        raise ValueError(
            "--features latents needs images, and --backbone with an encoder for them."
        )
    return LatentEncoder(name, value_range=value_range, device=options.device).fit(X).transform


def _pretrain(options):
    X, _, y, _ = _load_split(options)
    if options.data in KNOWN:
        data = (
            f"{options.data}, training part of skdistill.datasets.{KNOWN[options.data].__name__}()"
        )
    else:
        data = Path(options.data).name
        if options.test is not None:
            data += f" without a held-out share of {options.test}"
    out = pretrain(
        X,
        y,
        options.out,
        steps=options.steps,
        vae_steps=options.vae_steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        latent_channels=options.latent_channels,
        downsamplings=options.downsamplings,
        vae_width=options.vae_width,
        width=options.width,
        depth=options.depth,
        patch_size=options.patch_size,
        dropout=options.dropout,
        flip=options.flip,
        guidance_scale=options.guidance_scale,
        random_state=options.seed,
        device=options.device,
        checkpoint_every=options.checkpoint_every,
        verbose=not options.quiet,
        data=data,
        license=options.license,
        command=options.command_line,
    )
    if not options.quiet:
        test = "" if options.test is None else f" --test {options.test}"
        print(
            f"The backbone is in {out}: skdistill distill DATA{test} --backbone {out} "
            "--out distilled"
        )
    return 0
