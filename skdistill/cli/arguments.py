"""The arguments that commands share."""

import argparse

DATA_HELP = (
    "'digits' (scikit-learn's handwritten digits, the training part of a fixed split), "
    "'fashion-mnist' or 'cifar10' (from the folder that SKDISTILL_DATA names, or downloaded), a "
    "folder of class folders with images, or an .npz file with arrays X and y"
)
TEST_HELP = (
    "held-out data to measure accuracies on: a second folder or .npz, or the share of DATA to hold "
    "out, stratified, with random_state=0; data sets known by name come with theirs"
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but only where there is one to show."""

    def _get_help_string(self, action):
        if action.default is None or action.const is True or isinstance(action.default, tuple):
            return action.help
        return super()._get_help_string(action)


def add_data_arguments(parser, *, out=True, required=True):
    """Add DATA, how it is read and, if the command writes a folder, where to."""
    parser.add_argument("data", metavar="DATA", nargs=None if required else "?", help=DATA_HELP)
    if out:
        parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--image-size",
        type=int,
        help="cut images of a folder to a square and resize them to this many pixels a side",
    )
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="leave out images of a folder that cannot be read, and name them, instead of stopping",
    )


def add_common_arguments(parser, *, seed):
    """Add what every command that computes takes; `seed` says what its seed decides."""
    parser.add_argument("--seed", type=int, default=0, help=seed)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no table")


def backbone_name(options):
    """Return the backbone of the options, or the one that suits the data."""
    return options.backbone or ("digits" if options.data == "digits" else "closed-form")
