"""``skdistill evaluate``."""

import functools
import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from skdistill import load_distilled
from skdistill.augmentation import AUGMENTATIONS
from skdistill.backbones import LatentEncoder
from skdistill.baselines import rivals
from skdistill.cli.arguments import (
    TEST_HELP,
    HelpFormatter,
    add_common_arguments,
    add_data_arguments,
    backbone_name,
)
from skdistill.cli.data import enumerate_labels, load, load_split
from skdistill.cli.judging import (
    ALL,
    N_EVALUATIONS,
    measure_accuracies,
    pick_students,
    rival_sets,
    seeds_of,
)
from skdistill.evaluation import format_accuracies, format_figures, train_student
from skdistill.io import write_atomically
from skdistill.metrics import compare_sets
from skdistill.names import class_folders
from skdistill.pixels import from_networks, infer_value_range, to_networks
from skdistill.protocols import PROTOCOLS

# Classes that are shown side by side.
N_COLUMNS = 12
# Those of a matter of seconds.
PLAIN_RIVALS = tuple(rivals(diffusion=False))


def add_parser(subparsers):
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a small set against real data",
        description="Train students on SET, on as many real samples of DATA picked in several "
        "ways, and on all of DATA, and test them on held-out real samples; and measure how far SET "
        "is from DATA. Of a run directory, what was measured is kept in its evaluation.json, for "
        "its report.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "set",
        metavar="SET",
        help="a run directory, a folder of class folders with images, or an .npz file",
    )
    add_data_arguments(parser, out=False)
    parser.add_argument("--test", metavar="DATA_OR_SHARE", help=TEST_HELP)
    parser.add_argument(
        "--rivals",
        nargs="*",
        metavar="NAME",
        default=PLAIN_RIVALS,
        choices=[*rivals(), "DM"],
        help=f"sets to compare with, of the same size: {', '.join(rivals())}, or DM (distribution "
        "matching, trained: minutes); those that need no backbone if unset",
    )
    parser.add_argument(
        "--backbone",
        help="as of distill: for rivals that need one, and for --features latents",
    )
    parser.add_argument(
        "--students",
        nargs="+",
        metavar="NAME",
        help="ConvNet, ResNet-18, ResNetAP-10 or linear; ConvNet and linear if unset, of tables "
        "linear alone",
    )
    parser.add_argument(
        "--augmentation",
        nargs="*",
        metavar="KIND",
        default=(),
        choices=tuple(AUGMENTATIONS),
        help="random changes that keep the class, for the students of your own images and for DM: "
        f"{', '.join(AUGMENTATIONS)}; data sets known by name have their own",
    )
    parser.add_argument("--seeds", type=int, default=N_EVALUATIONS, help="number of seeds")
    parser.add_argument(
        "--features",
        choices=("student", "latents", "values"),
        help="in which space SET is compared with DATA: the last features of the first student "
        "trained on all of DATA, latents of --backbone, or the values themselves; student for "
        "images, values for tables if unset",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with figures of each class"
    )
    add_common_arguments(
        parser, seed="decides the sets that are drawn and the students; the held-out split is fixed"
    )


def run(options):
    """Judge SET; return the exit code."""
    # It is needed last, and its lack should be known first.
    if find_spec("torchmetrics") is None:
        raise ImportError(
            "FID needs torchmetrics, which is not installed: pip install skdistill[evaluation]"
        )
    if options.seeds < 1:
        raise ValueError(f"--seeds={options.seeds} must be at least 1.")
    X, X_test, y, y_test = load_split(options)
    if X_test is None:
        raise ValueError(
            "Nothing is held out to test on: give --test DATA or --test SHARE. A set that was "
            "distilled with --test has to be judged with the same."
        )
    value_range = PROTOCOLS.get(options.data, {}).get("value_range")
    if value_range is None and X.ndim > 2:
        value_range = infer_value_range(X)
    X_syn, y_syn = _load_set(options, X, y, value_range)
    strangers = sorted(set(y_syn.tolist()) - set(y.tolist()), key=str)
    if strangers:
        raise ValueError(
            f"SET={options.set!r} has labels that DATA lacks: {enumerate_labels(strangers)}."
        )
    kept = np.isin(y, y_syn), np.isin(y_test, y_syn)
    if not all(part.all() for part in kept):
        lacking = sorted(set(y.tolist()) - set(y_syn.tolist()), key=str)
        warnings.warn(
            f"SET={options.set!r} lacks classes of DATA, which are left out of everything: "
            f"{enumerate_labels(lacking)}.",
            stacklevel=1,
        )
        (X, y), (X_test, y_test) = (X[kept[0]], y[kept[0]]), (X_test[kept[1]], y_test[kept[1]])
    students = pick_students(options, X, value_range=value_range, names=options.students)
    seeds = seeds_of(options, options.seeds)
    network = next((name for name in students if name != "linear"), None)
    features = options.features or ("values" if network is None else "student")
    embed = None
    # What cannot be compared so should be known before students are trained.
    if features == "student" and network is None:
        raise ValueError("--features student needs a network among --students.")
    if features == "latents":
        embed = _latents(options, X, value_range)

    sets = {"SET": lambda seed: (X_syn, y_syn)}
    sets |= rival_sets(options.rivals, X, y, y_syn, options, value_range)
    sets = {name: functools.cache(make) for name, make in sets.items()}
    scores = measure_accuracies(
        students, sets | {ALL: lambda seed: (X, y)}, (X_test, y_test), seeds, options
    )
    if features == "student":
        embed = train_student(students[network], X, y, seeds[0]).transform
    names = tqdm(sets, desc="comparing sets", unit="set", disable=True if options.quiet else None)
    figures = {
        name: compare_sets(X, y, *sets[name](seeds[0]), embed=embed, random_state=options.seed)
        for name in names
    }
    space = features if features != "student" else f"features of {network} trained on them"
    content = {
        "command": options.command_line,
        "n_test": len(y_test),
        "n_training": {"SET": len(y_syn), ALL: len(y)},
        "scores": scores,
        "features": space,
        "figures": figures,
    }
    text = json.dumps(content, indent=2, default=str)
    if _is_run(options.set):
        _keep(Path(options.set) / "evaluation.json", text)
    if options.json:
        print(text)
    elif not options.quiet:
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


def _is_run(path):
    return (Path(path) / "manifest.json").exists()


def _keep(path, text):
    """Write what was measured, which is not lost where it cannot be written."""
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        warnings.warn(f"What was measured is not kept for a report: {error}", stacklevel=1)


def _load_set(options, X, y, value_range):
    """Load the set to judge, in the terms of the real data."""
    path = options.set
    if _is_run(path):
        X_syn, y_syn = load_distilled(path)
    else:
        X_syn, y_syn = load(path, None, skip_bad_images=options.skip_bad_images)
        # Folders have the names of labels, not the labels.
        known = np.unique(y).tolist()
        labels = dict(zip(class_folders(known), known, strict=True))
        if y_syn.dtype.kind == "U" and set(y_syn.tolist()) <= set(labels):
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
    name = backbone_name(options)
    if name == "closed-form" or X.ndim == 2:
        raise ValueError(
            "--features latents needs images, and --backbone with an encoder for them."
        )
    return LatentEncoder(name, value_range=value_range, device=options.device).fit(X).transform
