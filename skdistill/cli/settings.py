"""The settings of the distiller as options: of the data, the backbone and the centroids."""

from skdistill.cli.arguments import (
    SHIPPED_FOR,
    add_class_map_argument,
    add_resize_argument,
    add_value_range_argument,
)
from skdistill.cli.signatures import defaults_of
from skdistill.cli.values import Collect, count, jobs, number_or_class, shape

SETTINGS = defaults_of("skdistill.distiller", "ManifoldGDDistiller")


def add_setting_arguments(parser, data):
    """Add how many samples there are, of what, and which centroids; `data` is a group for DATA."""
    parser.add_argument(
        "--ipc",
        action=Collect,
        type=number_or_class,
        default=[SETTINGS["ipc"]],
        metavar="N",
        help=f"synthetic samples a class, {SETTINGS['ipc']} if unset; CLASS=N, as often as there "
        "are exceptions, is for one class",
    )
    _add_data_settings(data)
    _add_backbone_settings(parser.add_argument_group("backbone"))
    _add_centroid_settings(parser.add_argument_group("centroids"))


def add_running_arguments(group):
    """Add how the set is computed, which does not change it."""
    add_setting(
        group, "batch_size", "samples made at once; halved where memory runs out", type=count
    )
    group.add_argument("--jobs", dest="n_jobs", type=jobs, default=1, help="number of processes")
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the diffusion network, which pays for large sets",
    )
    add_setting(
        group, "memory", "keep encoded rows in this folder for other runs", metavar="FOLDER"
    )
    add_setting(
        group,
        "latents_dtype",
        "of the latents that are kept on disk; the backbone's if unset",
        choices=("float32", "float16"),
    )


def add_setting(group, name, text, **params):
    """Add an option that is a parameter of the distiller, with its name and default."""
    group.add_argument(f"--{name.replace('_', '-')}", default=SETTINGS[name], help=text, **params)


def _add_data_settings(group):
    add_value_range_argument(group)
    group.add_argument(
        "--image-shape",
        type=shape,
        metavar="HxW[xC]",
        help="height, width and channels of images that come as flat rows",
    )
    add_resize_argument(group)


def _add_backbone_settings(group):
    group.add_argument(
        "--backbone",
        help=f"a shipped name ({', '.join(SHIPPED_FOR.values())}), a folder in diffusers' format, "
        "a hub id owner/name, or closed-form; unset, the shipped one for "
        f"{', '.join(SHIPPED_FOR)}, otherwise closed-form",
    )
    add_setting(group, "revision", "branch, tag or commit of a hub id")
    group.add_argument(
        "--local-files-only", action="store_true", help="take a hub id from the local cache only"
    )
    add_class_map_argument(group)
    add_setting(
        group,
        "dtype",
        "of the diffusion network",
        choices=("float32", "bfloat16", "float16"),
    )


def _add_centroid_settings(group):
    defaults = defaults_of("skdistill.hierarchy", "HierarchicalIPC")
    group.add_argument(
        "--clusterer",
        choices=("hierarchy", "k-means"),
        default="hierarchy",
        help="what finds the centroids; k-means with --no-projection and --no-refining is MGD",
    )
    group.add_argument(
        "--selection",
        choices=("levelwise", "leaves"),
        # What the distiller takes unasked, not the hierarchy's own default.
        default="leaves",
        help="nodes of all levels of the hierarchy, as in the paper, or its leaves",
    )
    group.add_argument(
        "--start-level",
        type=int,
        default=defaults["start_level"],
        help="coarsest level to take nodes from, 0 being the whole class",
    )
    group.add_argument(
        "--criterion",
        choices=("sse", "variance"),
        default=defaults["criterion"],
        help="which leaf is split next: of the largest sum or mean of squared errors",
    )
    group.add_argument(
        "--prototype",
        choices=("centroid", "medoid"),
        default=defaults["prototype"],
        help="the mean of a node, or the row nearest to it",
    )
