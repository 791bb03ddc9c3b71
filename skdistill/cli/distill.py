"""``skdistill distill``."""

import json
from pathlib import Path

from skdistill.atomic import write_atomically
from skdistill.cli.arguments import (
    N_EVALUATIONS,
    add_command,
    add_common_arguments,
    add_data_arguments,
)
from skdistill.cli.drawing import add_drawing_arguments
from skdistill.cli.output import ALL, line_width, print_json, say
from skdistill.cli.settings import add_running_arguments, add_setting_arguments

QUICK_RIVALS = ("random real", "herding", "cluster means")


def add_parser(subparsers):
    """Add the command to the program."""
    parser = add_command(
        subparsers,
        "distill",
        run,
        usage="DATA --out RUN_DIR [options]",
        summary="distil a data set into a run directory",
        description="Distil DATA into a run directory with images, distilled.npz and grid.png, and "
        "show what training on it is worth beside other sets of the same size. A run that was "
        "stopped goes on where it was when the same command is given again.",
        examples=[
            "skdistill distill digits --ipc 10 --out distilled",
            "skdistill distill my_images --test 0.2 --backbone my_backbone --out distilled",
            "skdistill distill digits --like distilled --strength 0.8 --out stronger",
        ],
    )
    parser.set_defaults(kept=kept, defaults=lambda options: defaults(parser, options))
    parser.add_argument("--out", required=True, metavar="RUN_DIR", help="folder to write")
    parser.add_argument(
        "--like",
        metavar="RUN_DIR",
        help="take all settings and the seed from this run; options that are given win. How DATA "
        "is read (--test, --image-size, --skip-bad-images) is no setting: give it again",
    )
    add_setting_arguments(parser, add_data_arguments(parser))
    add_drawing_arguments(parser)
    running = add_common_arguments(
        parser,
        seed="decides the distilled set, the sets beside it and the students; the held-out split "
        "is fixed",
    )
    running.add_argument(
        "--latents",
        metavar="FOLDER",
        help="for data larger than memory: read the images of DATA, a folder, as they are needed, "
        "and keep their latents in FOLDER, from which a run that was stopped goes on; no "
        "accuracies are measured",
    )
    running.add_argument(
        "--no-scores", action="store_true", help="do not train students on the result"
    )
    add_running_arguments(running)


def defaults(parser, options):
    """Take the defaults of the parser from the run that --like names."""
    if options.like is not None:
        from skdistill.cli.distiller import settings_like

        parser.set_defaults(**settings_like(options.like))


def run(options):
    """Distil DATA; return the exit code."""
    from skdistill.cli.data import list_folder, load_split
    from skdistill.cli.distiller import make_distiller, warn_of_other_data, warn_of_other_set
    from skdistill.io import settings_in

    if options.seed is None:
        raise ValueError(f"--like {options.like} was made without an integer seed: give --seed.")
    # What is in the way there should be known before anything is computed.
    settings_in(options.out)
    if options.latents is None:
        X, X_test, y, y_test = load_split(options)
    else:
        X, y = list_folder(options)
        X_test, options.memory, options.no_scores = None, options.latents, True
    if X_test is not None and not options.no_scores and len(set(y.tolist())) == 1:
        raise ValueError(
            f"DATA={options.data!r} has one class only, among which no student can tell any apart: "
            "give --no-scores."
        )
    distiller = make_distiller(options, y).fit(X, y)
    if options.like is not None:
        warn_of_other_data(options, distiller)
    X_syn, y_syn = distiller.sample(out_dir=options.out)
    if options.like is not None:
        warn_of_other_set(options)
    say(
        options,
        f"{len(X_syn)} samples of {len(distiller.classes_)} classes from {len(X)} are in "
        f"{options.out}",
    )
    content = {
        "command": options.command_line,
        "out": options.out,
        "n_training": {"ManifoldGD": len(y_syn), ALL: len(y)},
    }
    if X_test is not None and not options.no_scores:
        content |= _judge(options, (X, y), (X_test, y_test), (X_syn, y_syn), distiller)
    elif not options.no_scores:
        say(options, "Nothing was held out, so no accuracies: give --test to have them measured.")
    if options.json:
        print_json(content)
    return 0


def _judge(options, real, test, distilled, distiller):
    """Measure what the set is worth, write that down and show it; return it."""
    from skdistill.cli.judging import measure_accuracies, pick_students, rival_sets, seeds_of
    from skdistill.evaluation import format_accuracies

    students = pick_students(options, real[0], value_range=distiller.value_range_)
    sets = {"ManifoldGD": lambda seed: distilled}
    sets |= rival_sets(QUICK_RIVALS, *real, distilled[1], options)
    sizes = {name: len(distilled[1]) for name in sets} | {ALL: len(real[1])}
    sets[ALL] = lambda seed: real
    seeds = seeds_of(options, N_EVALUATIONS)
    scores = measure_accuracies(students, sets, test, seeds, options)
    content = {
        "command": options.command_line,
        "n_test": len(test[1]),
        "n_training": sizes,
        "scores": scores,
    }
    data = (json.dumps(content, indent=2) + "\n").encode()
    write_atomically(Path(options.out) / "scores.json", data)
    if not options.json:
        say(options, format_accuracies(scores, len(test[1]), width=line_width()))
    return content


def kept(options):
    """Say what an interrupted run leaves behind, or None if nothing."""
    folder = Path(options.out)
    if any(folder.glob("batches/*.npz")) or (folder / "distilled.npz").exists():
        return f"What is finished is kept in {folder}"
    return None
