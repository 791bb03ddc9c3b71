"""``skdistill distill``."""

import json
from pathlib import Path

from skdistill import ManifoldGDDistiller
from skdistill.backbones import shipped_backbones
from skdistill.cli.arguments import (
    TEST_HELP,
    HelpFormatter,
    add_common_arguments,
    add_data_arguments,
    backbone_name,
)
from skdistill.cli.data import list_folder, load_split
from skdistill.cli.judging import (
    ALL,
    N_EVALUATIONS,
    measure_accuracies,
    pick_students,
    rival_sets,
    seeds_of,
)
from skdistill.evaluation import format_accuracies
from skdistill.io import write_atomically

QUICK_RIVALS = ("random real", "herding", "cluster means")


def add_parser(subparsers):
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "distill",
        help="distil a data set into a run directory",
        description="Distil DATA into a run directory with images, distilled.npz and grid.png, and "
        "show what training on it is worth beside other sets of the same size.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run, kept=kept)
    add_data_arguments(parser)
    parser.add_argument("--ipc", type=int, default=10, help="synthetic samples a class")
    parser.add_argument(
        "--backbone",
        help=f"a shipped name ({', '.join(shipped_backbones())}), a folder in diffusers' format, a "
        "hub id owner/name, or closed-form; 'digits' for digits, otherwise closed-form",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--test", metavar="DATA_OR_SHARE", help=TEST_HELP)
    parser.add_argument(
        "--resize",
        choices=("bilinear", "bicubic", "nearest"),
        help="convert images to the backbone's size and back",
    )
    guidance = parser.add_argument_group("guidance")
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
    parser.add_argument(
        "--batch-size",
        type=int,
        default=defaults["batch_size"],
        help="samples made at once; halved where memory runs out",
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument(
        "--latents",
        metavar="FOLDER",
        help="for data larger than memory: read the images of DATA, a folder, as they are needed, "
        "and keep their latents in FOLDER, from which a run that was stopped goes on; no "
        "accuracies are measured",
    )
    parser.add_argument(
        "--no-scores", action="store_true", help="do not train students on the result"
    )
    add_common_arguments(
        parser,
        seed="decides the distilled set, the sets beside it and the students; the held-out split "
        "is fixed",
    )


def run(options):
    """Distil DATA; return the exit code."""
    if options.latents is None:
        X, X_test, y, y_test = load_split(options)
    else:
        X, y = list_folder(options)
        X_test = None
    distiller = ManifoldGDDistiller(
        ipc=options.ipc,
        backbone=backbone_name(options),
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
        memory=options.latents,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=not options.quiet,
    )
    distiller.fit(X, y)
    X_syn, y_syn = distiller.sample(out_dir=options.out)
    if not options.quiet:
        n_classes = len(distiller.classes_)
        print(f"{len(X_syn)} samples of {n_classes} classes from {len(X)} are in {options.out}")
    if options.no_scores or options.latents is not None:
        return 0
    if X_test is None:
        if not options.quiet:
            print("Nothing was held out, so no accuracies: give --test to have them measured.")
        return 0
    students = pick_students(options, X, value_range=distiller.value_range_)
    sets = {"ManifoldGD": lambda seed: (X_syn, y_syn)}
    sets |= rival_sets(QUICK_RIVALS, X, y, y_syn, options)
    sizes = {name: len(y_syn) for name in sets} | {ALL: len(y)}
    sets[ALL] = lambda seed: (X, y)
    scores = measure_accuracies(
        students, sets, (X_test, y_test), seeds_of(options, N_EVALUATIONS), options
    )
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


def kept(options):
    """Say what an interrupted run leaves behind, or None if nothing."""
    folder = Path(options.out)
    if any(folder.glob("batches/*.npz")) or (folder / "distilled.npz").exists():
        return f"What is finished is kept in {folder}"
    return None
