"""``skdistill evaluate``."""

import functools
import textwrap
import warnings
from importlib.util import find_spec
from pathlib import Path

from skdistill.atomic import write_atomically
from skdistill.cli.arguments import (
    N_EVALUATIONS,
    add_class_map_argument,
    add_command,
    add_common_arguments,
    add_data_arguments,
    add_resize_argument,
    add_value_range_argument,
)
from skdistill.cli.output import ALL, line_width, print_json, to_json
from skdistill.cli.values import count
from skdistill.progress import progress_bar

# Classes that are shown side by side.
N_COLUMNS = 12
# Those of skdistill.baselines.rivals; the plain ones are a matter of seconds.
PLAIN_RIVALS = (
    "random real",
    "herding",
    "k-center",
    "k-means medoids",
    "hierarchy medoids",
    "cluster means",
)
DIFFUSION_RIVALS = ("decoded centroids", "D4M", "unguided", "MGD", "ManifoldGD")
# Those of skdistill.augmentation.
AUGMENTATIONS = ("flip", "crop", "cutout", "scale", "rotate", "color")


def add_parser(subparsers):
    """Add the command to the program."""
    parser = add_command(
        subparsers,
        "evaluate",
        run,
        usage="SET DATA [options]",
        summary="judge a small set against real data",
        description="Train students on SET, on as many real samples of DATA picked in several "
        "ways, and on all of DATA, and test them on held-out real samples; and measure how far SET "
        "is from DATA. Of a run directory, what was measured is kept in its evaluation.json, for "
        "its report.",
        examples=[
            "skdistill evaluate distilled digits",
            "skdistill evaluate distilled my_images --test 0.2 --rivals herding DM",
            "skdistill evaluate distilled digits --json > judged.json",
        ],
    )
    parser.add_argument(
        "set",
        metavar="SET",
        help="a run directory, a folder of class folders with images, or an .npz file",
    )
    add_value_range_argument(add_data_arguments(parser))
    judging = parser.add_argument_group("judging")
    judging.add_argument(
        "--rivals",
        nargs="*",
        metavar="NAME",
        default=PLAIN_RIVALS,
        choices=(*PLAIN_RIVALS, *DIFFUSION_RIVALS, "DM"),
        help="sets to compare with, of the same size: "
        f"{', '.join((*PLAIN_RIVALS, *DIFFUSION_RIVALS))}, or DM (distribution matching, trained: "
        "minutes); those that need no backbone if unset",
    )
    judging.add_argument(
        "--backbone",
        help="as of distill: for rivals that need one, and for --features latents",
    )
    add_class_map_argument(judging)
    add_resize_argument(judging)
    judging.add_argument(
        "--students",
        nargs="+",
        metavar="NAME",
        help="ConvNet, ResNet-18, ResNetAP-10 or linear; ConvNet and linear if unset, of tables "
        "linear alone",
    )
    judging.add_argument(
        "--augmentation",
        nargs="*",
        metavar="KIND",
        default=(),
        choices=AUGMENTATIONS,
        help="random changes that keep the class, for the students of your own images and for DM: "
        f"{', '.join(AUGMENTATIONS)}; data sets known by name have their own",
    )
    judging.add_argument("--seeds", type=count, default=N_EVALUATIONS, help="number of seeds")
    judging.add_argument(
        "--features",
        choices=("student", "latents", "values"),
        help="in which space SET is compared with DATA: the last features of the first student "
        "trained on all of DATA, latents of --backbone, or the values themselves; student for "
        "images, values for tables if unset",
    )
    add_common_arguments(
        parser,
        seed="decides the sets that are drawn and the students; the held-out split is fixed",
        quiet="no progress bars",
    )


def run(options):
    """Judge SET; return the exit code."""
    # It is needed last, and its lack should be known first.
    if find_spec("torchmetrics") is None:
        raise ImportError(
            "FID needs torchmetrics, which is not installed: pip install 'skdistill[evaluation]'"
        )
    from skdistill.cli.compared import is_run, load_compared, pick_space
    from skdistill.cli.judging import measure_accuracies, pick_students, rival_sets, seeds_of
    from skdistill.evaluation import format_accuracies, format_figures

    real, test, given, value_range = load_compared(options)
    students = pick_students(options, real[0], value_range=value_range, names=options.students)
    space, make_embedding = pick_space(options, students, real[0], value_range)
    seeds = seeds_of(options, options.seeds)
    sets = {"SET": lambda seed: given}
    sets |= rival_sets(options.rivals, *real, given[1], options, value_range)
    sets = {name: functools.cache(make) for name, make in sets.items()}

    scores = measure_accuracies(students, sets | {ALL: lambda seed: real}, test, seeds, options)
    figures = _measure_figures(sets, real, make_embedding(real, seeds[0]), seeds[0], options)
    content = {
        "command": options.command_line,
        "n_test": len(test[1]),
        "n_training": {"SET": len(given[1]), ALL: len(real[1])},
        "scores": scores,
        "features": space,
        "figures": figures,
    }
    if is_run(options.set):
        _keep(Path(options.set) / "evaluation.json", content)
    if options.json:
        print_json(content)
        return 0
    print(f"SET is {options.set}, {len(given[1])} samples")
    width = line_width()
    print(format_accuracies(scores, len(test[1]), width=width))
    heading = f"figures against the {len(real[1])} real training samples, by {space}; first seed"
    print("\n" + (heading if width is None else textwrap.fill(heading, width)))
    print(format_figures({name: f["overall"] for name, f in figures.items()}, width=width))
    by_class = figures["SET"]["by_class"]
    if len(by_class) <= N_COLUMNS:
        print("\nfigures of SET by class")
        by_label = {str(label): of_class for label, of_class in by_class.items()}
        print(format_figures(by_label, width=width))
    else:
        print(f"\n--json has the figures of each of the {len(by_class)} classes")
    return 0


def _keep(path, content):
    """Write what was measured, which is not lost where it cannot be written."""
    try:
        write_atomically(path, f"{to_json(content)}\n".encode())
    except OSError as error:
        warnings.warn(f"What was measured is not kept for a report: {error}", stacklevel=1)


def _measure_figures(sets, real, embed, seed, options):
    """Return how far each set, as the seed draws it, is from the real data."""
    from skdistill.metrics import compare_sets

    names = progress_bar(sets, description="comparing sets", verbose=not options.quiet)
    return {
        name: compare_sets(*real, *sets[name](seed), embed=embed, random_state=options.seed)
        for name in names
    }
