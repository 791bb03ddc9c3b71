"""The command line: ``skdistill distill`` and ``skdistill pretrain``."""

import argparse
import json
import math
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

from skdistill import ManifoldGDDistiller, __version__
from skdistill.backbones import shipped_backbones
from skdistill.baselines import ClusterMeans, HerdingSubset, RandomSubset
from skdistill.datasets import load_digits_split, load_image_folder, load_npz
from skdistill.io import write_atomically
from skdistill.students import ConvNetClassifier, linear_student
from skdistill.training import checkpoint_folder, pretrain

__all__ = ["main"]

N_EVALUATIONS = 3
DATA_HELP = (
    "'digits' (scikit-learn's handwritten digits, the training part of a fixed split), a folder of "
    "class folders with images, or an .npz file with arrays X and y"
)
EPILOG = """\
examples:
  skdistill distill digits --ipc 10 --out distilled
  skdistill pretrain my_images --test 0.2 --out my_backbone
  skdistill distill my_images --test 0.2 --backbone my_backbone --ipc 20 --out distilled
"""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but only where there is one to show."""

    def _get_help_string(self, action):
        if action.default is None or action.const is True:
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
        except (ValueError, OSError, FloatingPointError) as error:
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
    distill.add_argument(
        "--test",
        metavar="DATA_OR_SHARE",
        help="held-out data to measure accuracies on: a second folder or .npz, or the share of "
        "DATA to hold out, stratified, with random_state=0; digits come with theirs",
    )
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
    return parser


def _add_data_arguments(parser):
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
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
    raise ValueError(f"DATA={data!r} is neither 'digits', nor a folder, nor an .npz file.")


def _load_split(options):
    """Return training and test data; no test data where none is asked for.

    `pretrain` and `distill` share it, so that a backbone never sees what its samples are judged on.
    """
    if options.data == "digits":
        if options.test is not None:
            raise ValueError("--test cannot be given with 'digits', whose split is fixed.")
        return load_digits_split()
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
    takes_data = options.subcommand == "distill"
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
    default = "digits" if options.data == "digits" else "closed-form"
    distiller = ManifoldGDDistiller(
        ipc=options.ipc,
        backbone=options.backbone or default,
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
    students = _students(X, distiller, options)
    scores, sizes = _evaluate(students, (X_syn, y_syn), (X, y), (X_test, y_test), options)
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
        print(format_scores(scores, len(y_test)))
    return 0


def _students(X, distiller, options):
    """Return the judges that suit the data: a linear one, and for images a convolutional one."""
    students = {"linear": linear_student()}
    if X.ndim > 2:
        convolutional = ConvNetClassifier(
            width=64, value_range=distiller.value_range_, device=options.device
        )
        students = {"ConvNet": convolutional, **students}
    return students


def _evaluate(students, distilled, real, test, options):
    """Return the accuracies of students on the distilled set and its rivals, and their sizes."""
    seeds = [N_EVALUATIONS * options.seed + i for i in range(N_EVALUATIONS)]
    classes, counts = np.unique(distilled[1], return_counts=True)
    ipc = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    sets = {
        "ManifoldGD": lambda seed: distilled,
        "random real": lambda seed: RandomSubset(ipc, random_state=seed).fit(*real).sample(),
        "herding": lambda seed: HerdingSubset(ipc).fit(*real).sample(),
        "cluster means": lambda seed: ClusterMeans(ipc, random_state=seed).fit(*real).sample(),
        "all training data": lambda seed: real,
    }
    scores = {name: {kind: [] for kind in students} for name in sets}
    sizes = {}
    total = len(sets) * len(students) * len(seeds)
    disable = True if options.quiet else None
    with tqdm(total=total, desc="training students", unit="student", disable=disable) as bar:
        for name, make in sets.items():
            for seed in seeds:
                training = make(seed)
                sizes[name] = len(training[1])
                for kind, student in students.items():
                    accuracy = _accuracy(student, seed, training, test)
                    scores[name][kind].append(accuracy)
                    bar.update()
    return scores, sizes


def _accuracy(student, seed, training, test):
    (X, y), (X_test, y_test) = training, test
    student = clone(student)
    if isinstance(student, ConvNetClassifier):
        student.set_params(random_state=seed)
    else:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    return float(student.fit(X, y).score(X_test, y_test))


def format_scores(scores, n_test):
    """Lay accuracies out as a table.

    Parameters
    ----------
    scores : dict of str to dict of str to list of float
        Accuracies of each seed, two at least, by set and student.

    n_test : int
        Number of real samples they were measured on.

    Returns
    -------
    table : str
        Means and sample standard deviations in per cent, a line a set.

    Examples
    --------
    >>> from skdistill.cli import format_scores
    >>> print(format_scores({"herding": {"linear": [0.9, 0.92]}}, 540))
    accuracy in % on 540 held-out real samples, mean and deviation over 2 seeds of the
    students and of the sets that are drawn at random
    trained on          linear
    herding         91.0 ± 1.4
    """
    students = list(next(iter(scores.values())))
    n_seeds = len(next(iter(scores.values()))[students[0]])
    width = max(14, *map(len, scores))
    lines = [
        f"accuracy in % on {n_test} held-out real samples, mean and deviation over {n_seeds} seeds "
        "of the",
        "students and of the sets that are drawn at random",
        f"{'trained on':<{width}}" + "".join(f"{student:>12}" for student in students),
    ]
    for name, by_student in scores.items():
        cells = (
            f"{100 * np.mean(v):.1f} ± {100 * np.std(v, ddof=1):.1f}" for v in by_student.values()
        )
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def _pretrain(options):
    X, _, y, _ = _load_split(options)
    if options.data == "digits":
        data = "scikit-learn's load_digits, training part of skdistill.datasets.load_digits_split()"
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
