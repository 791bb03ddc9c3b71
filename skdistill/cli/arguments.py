"""What commands share: how their help looks, and the arguments that several have."""

import argparse

from skdistill.cli.values import Collect, class_and_place, count
from skdistill.cli.values import seed as seed_number

DATA_HELP = (
    "'digits' (scikit-learn's handwritten digits, the training part of a fixed split), "
    "'fashion-mnist' or 'cifar10' (from the folder that SKDISTILL_DATA names, or downloaded), a "
    "folder of class folders with images, or an .npz file with arrays X and y"
)
TEST_HELP = (
    "held-out data to measure accuracies on: a second folder or .npz, or the share of DATA to hold "
    "out, stratified, the same whatever the seed; data sets known by name come with theirs"
)
EXIT_CODES = """\
exit codes:
  0    done
  1    failed, such as for a full disk
  2    wrong usage, or unusable input
  130  interrupted"""
# Seeds over which accuracies are measured.
N_EVALUATIONS = 3


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but only where there is one to show; leave indented lines as they are."""

    def _get_help_string(self, action):
        if (
            action.default is None
            or isinstance(action.const, bool)
            or isinstance(action.default, (tuple, list))
        ):
            return action.help
        return super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action):
        # The option's own name in capitals says nothing and breaks the line.
        numbers = {int: "N", count: "N", seed_number: "N", float: "X"}
        return numbers.get(action.type) or super()._get_default_metavar_for_optional(action)

    def add_argument(self, action):
        """Make room for an action."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # Where help begins is computed without the indent of commands.
            self._action_max_length += self._indent_increment

    def _fill_text(self, text, width, indent):
        lines = []
        for line in text.splitlines():
            filled = line if line.startswith(" ") else super()._fill_text(line, width, indent)
            lines.append(filled)
        return "\n".join(lines)


# Backbones that have seen the training part of data that commands know by name.
SHIPPED_FOR = {"digits": "digits", "fashion-mnist": "fashion", "cifar10": "cifar10"}


def add_command(subparsers, name, run, *, usage, summary, description, examples):
    """Add a command to the program; return its parser.

    `usage` is what follows the command's name, `examples` a list of command lines.
    """
    shown = "\n".join(f"  {example}" for example in examples)
    parser = subparsers.add_parser(
        name,
        # Of thirty options argparse would make a paragraph that nobody reads.
        usage=f"%(prog)s {usage}",
        help=summary,
        description=description,
        epilog=f"examples:\n{shown}\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_data_arguments(parser, *, required=True, test=TEST_HELP, test_metavar="DATA_OR_SHARE"):
    """Add DATA and how it is read; return the group, for more of that kind."""
    parser.add_argument("data", metavar="DATA", nargs=None if required else "?", help=DATA_HELP)
    group = parser.add_argument_group("data")
    group.add_argument("--test", metavar=test_metavar, help=test)
    group.add_argument(
        "--image-size",
        type=count,
        help="cut images of a folder to a square and resize them to this many pixels a side",
    )
    group.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="leave out images of a folder that cannot be read, and name them, instead of stopping",
    )
    return group


def add_value_range_argument(group):
    """Add how the values of images are read."""
    group.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the values that stand for black and white; inferred if unset",
    )


def add_resize_argument(group):
    """Add how images get to the size of a backbone."""
    group.add_argument(
        "--resize",
        choices=("bilinear", "bicubic", "nearest"),
        help="convert images to the backbone's size and back",
    )


def add_class_map_argument(group):
    """Add what the classes are to a backbone."""
    group.add_argument(
        "--class-map",
        action=Collect,
        type=class_and_place,
        metavar="CLASS=NAME",
        help="the backbone's class, by name or index, or the prompt of a text-to-image one, for a "
        "class of DATA; once for each class. The same names if it is not given at all",
    )


def add_json_argument(parser):
    """Add the choice of who reads the output."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON, and all else on standard error"
    )


def add_common_arguments(parser, *, seed, quiet="no progress bars, no messages"):
    """Add what every command that computes takes; `seed` says what its seed decides.

    Returns the group, for more of that kind.
    """
    group = parser.add_argument_group("running")
    group.add_argument("--seed", type=seed_number, default=0, help=seed)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    add_json_argument(group)
    group.add_argument("--quiet", action="store_true", help=quiet)
    return group


def backbone_name(options):
    """Return the backbone of the options, or the one that suits the data."""
    return options.backbone or SHIPPED_FOR.get(options.data, "closed-form")
