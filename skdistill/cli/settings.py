"""The settings of the distiller as options."""

import argparse

from skdistill import HierarchicalIPC, ManifoldGDDistiller, TangentProjector
from skdistill.backbones import shipped_backbones
from skdistill.cli.arguments import add_value_range_argument
from skdistill.cli.values import Collect, annealing, class_and_place, count, number_or_class, shape
from skdistill.guidance import ANNEALINGS, KERNELS
from skdistill.refining import MatchingRefiner

SETTINGS = ManifoldGDDistiller().get_params(deep=False)


def add_setting_arguments(parser, data):
    """Add what decides the set; `data` is the group of how DATA is read."""
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
    _add_guidance_settings(parser.add_argument_group("guidance"))
    _add_tangent_settings(parser.add_argument_group("tangent spaces"))
    _add_denoising_settings(parser.add_argument_group("denoising"))
    _add_refining_settings(parser.add_argument_group("refining"))


def add_running_arguments(group):
    """Add how the set is computed, which does not change it."""
    _add(group, "batch_size", "samples made at once; halved where memory runs out", type=count)
    group.add_argument("--jobs", dest="n_jobs", type=int, default=1, help="number of processes")
    _add(group, "memory", "keep encoded rows in this folder for other runs", metavar="FOLDER")
    _add(
        group,
        "latents_dtype",
        "of the latents that are kept on disk; the backbone's if unset",
        choices=("float32", "float16"),
    )


def _add(group, name, text, **params):
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
    group.add_argument(
        "--resize",
        choices=("bilinear", "bicubic", "nearest"),
        help="convert images to the backbone's size and back",
    )


def _add_backbone_settings(group):
    group.add_argument(
        "--backbone",
        help=f"a shipped name ({', '.join(shipped_backbones())}), a folder in diffusers' format, a "
        "hub id owner/name, or closed-form; 'digits' for digits, otherwise closed-form",
    )
    _add(group, "revision", "branch, tag or commit of a hub id")
    group.add_argument(
        "--local-files-only", action="store_true", help="take a hub id from the local cache only"
    )
    group.add_argument(
        "--class-map",
        action=Collect,
        type=class_and_place,
        metavar="CLASS=NAME",
        help="the backbone's class, by name or index, or the prompt of a text-to-image one, for a "
        "class of DATA; once for each. The same name if unset",
    )
    _add(
        group,
        "dtype",
        "of the diffusion network",
        choices=("float32", "bfloat16", "float16"),
    )


def _add_centroid_settings(group):
    defaults = HierarchicalIPC().get_params()
    group.add_argument(
        "--clusterer",
        choices=("hierarchy", "k-means"),
        default="hierarchy",
        help="what finds the centroids; k-means with --no-projection is MGD",
    )
    group.add_argument(
        "--selection",
        choices=("levelwise", "leaves"),
        default=defaults["selection"],
        help="nodes of all levels of the hierarchy, or its leaves",
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


def _add_guidance_settings(group):
    _add(group, "strength", "pull towards the centroids, 0 (unguided) to 1", type=float)
    _add(
        group,
        "kernel",
        "how the pull depends on the distance to the centroid",
        choices=tuple(KERNELS),
    )
    _add(group, "bandwidth", "of the kernel, in local distances between real samples", type=float)
    _add(group, "normal_strength", "pull towards the tangent plane, 0 to 1", type=float)
    start, stop = SETTINGS["guidance_interval"]
    _add(
        group,
        "guidance_interval",
        f"part of the run that is guided, from 0 (noise) to 1; {start:g} to {stop:g} if unset",
        type=float,
        nargs=2,
        metavar=("START", "STOP"),
    )
    _add(
        group,
        "guidance_form",
        "correct the clean prediction, or the mean of a DDPM step as published",
        choices=("clean", "paper"),
    )
    _add(
        group,
        "clip_guidance",
        "move at most all of the way to the centroid",
        action=argparse.BooleanOptionalAction,
    )
    _add(
        group,
        "guidance_scale",
        "classifier-free guidance; the backbone's own if unset",
        type=float,
    )


def _add_tangent_settings(group):
    defaults = TangentProjector().get_params()
    group.add_argument(
        "--projection",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pull along the tangent space only",
    )
    group.add_argument(
        "--n-components", type=count, default=defaults["n_components"], help="its dimension"
    )
    group.add_argument(
        "--n-neighbors",
        type=count,
        default=defaults["n_neighbors"],
        help="real samples that it is estimated from",
    )
    group.add_argument(
        "--radius",
        type=float,
        default=defaults["radius"],
        help="take all within this multiple of the distance to the last of them instead",
    )
    _add(
        group,
        "tangents",
        "made once for each centroid, or at each step by posterior weights",
        choices=("prepared", "posterior"),
    )
    _add(
        group,
        "annealing",
        "how neighbourhoods shrink at first; 'none' for not at all",
        type=annealing,
        metavar=f"{{{','.join(ANNEALINGS)},none}}",
    )
    _add(group, "max_radius", "of the first neighbourhood, in multiples of the last", type=float)
    _add(group, "warm_steps", "guided steps after which the radius stays", type=count)


def _add_denoising_settings(group):
    group.add_argument(
        "--steps",
        dest="num_inference_steps",
        type=count,
        default=SETTINGS["num_inference_steps"],
        help="denoising steps",
    )
    _add(group, "scheduler", "a scheduler of diffusers, such as DDIMScheduler")
    _add(
        group,
        "init_noise",
        "share of the noise to start from, 1 for pure noise; less starts at the centroid",
        type=float,
    )


def _add_refining_settings(group):
    defaults = MatchingRefiner().get_params()
    group.add_argument(
        "--refine",
        action="store_true",
        help="move the finished samples of a class until random networks take the set for the "
        "class; needs a pretrained backbone and several times the time",
    )
    group.add_argument(
        "--refiner-steps", dest="steps", type=int, default=defaults["steps"], help="of each class"
    )
    group.add_argument(
        "--refiner-learning-rate",
        dest="learning_rate",
        type=float,
        default=defaults["learning_rate"],
        help="how far a step may move a latent",
    )
