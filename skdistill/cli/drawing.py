"""The settings of the distiller as options: how samples are drawn."""

import argparse

from skdistill.cli.settings import SETTINGS, add_setting
from skdistill.cli.signatures import defaults_of
from skdistill.cli.values import ANNEALINGS, annealing, count


def add_drawing_arguments(parser):
    """Add how samples are drawn towards their centroids."""
    _add_guidance_settings(parser.add_argument_group("guidance"))
    _add_tangent_settings(parser.add_argument_group("tangent spaces"))
    _add_denoising_settings(parser.add_argument_group("denoising"))
    _add_refining_settings(parser.add_argument_group("refining"))


def _add_guidance_settings(group):
    add_setting(group, "strength", "pull towards the centroids, 0 (unguided) to 1", type=float)
    add_setting(
        group,
        "kernel",
        "how the pull depends on the distance to the centroid",
        choices=("rbf", "laplace", "imq"),
    )
    add_setting(
        group, "bandwidth", "of the kernel, in local distances between real samples", type=float
    )
    add_setting(group, "normal_strength", "pull towards the tangent plane, 0 to 1", type=float)
    start, stop = SETTINGS["guidance_interval"]
    add_setting(
        group,
        "guidance_interval",
        f"part of the run that is guided, from 0 (noise) to 1; {start:g} to {stop:g} if unset",
        type=float,
        nargs=2,
        metavar=("START", "STOP"),
    )
    add_setting(
        group,
        "guidance_form",
        "correct the clean prediction, or the mean of a DDPM step as published",
        choices=("clean", "paper"),
    )
    add_setting(
        group,
        "clip_guidance",
        "move at most all of the way to the centroid",
        action=argparse.BooleanOptionalAction,
    )
    add_setting(
        group,
        "guidance_scale",
        "classifier-free guidance; the backbone's own if unset",
        type=float,
    )


def _add_tangent_settings(group):
    defaults = defaults_of("skdistill.tangent", "TangentProjector")
    group.add_argument(
        "--projection",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pull along the tangent space only",
    )
    # What the distiller takes unasked, not the projector's own defaults.
    group.add_argument("--n-components", type=count, default=32, help="its dimension")
    group.add_argument(
        "--n-neighbors",
        type=count,
        default=100,
        help="real samples that it is estimated from",
    )
    group.add_argument(
        "--radius",
        type=float,
        default=defaults["radius"],
        help="take all within this multiple of the distance to the last of them instead",
    )
    add_setting(
        group,
        "tangents",
        "made once for each centroid, or at each step by posterior weights",
        choices=("prepared", "posterior"),
    )
    add_setting(
        group,
        "annealing",
        "how neighbourhoods shrink at first; 'none' for not at all",
        type=annealing,
        metavar=f"{{{','.join(ANNEALINGS)},none}}",
    )
    add_setting(
        group, "max_radius", "of the first neighbourhood, in multiples of the last", type=float
    )
    add_setting(group, "warm_steps", "guided steps after which the radius stays", type=count)


def _add_denoising_settings(group):
    group.add_argument(
        "--steps",
        dest="num_inference_steps",
        type=count,
        default=SETTINGS["num_inference_steps"],
        help="denoising steps",
    )
    add_setting(group, "scheduler", "a scheduler of diffusers, such as DDIMScheduler")
    add_setting(
        group,
        "init_noise",
        "share of the noise to start from, 1 for pure noise; less starts at the centroid",
        type=float,
    )


def _add_refining_settings(group):
    defaults = defaults_of("skdistill.refining", "MatchingRefiner")
    group.add_argument(
        "--no-refining",
        dest="refining",
        action="store_false",
        help="leave the samples as guidance made them; by default, those of the closed form are "
        "moved to support points, and those of pretrained backbones for at most 32 x 32 pixels "
        "until random networks take them for their class",
    )
    group.add_argument(
        "--refiner-steps",
        dest="steps",
        type=count,
        default=defaults["steps"],
        help="of each class, by random networks; refines larger images as well",
    )
    group.add_argument(
        "--refiner-learning-rate",
        dest="learning_rate",
        type=float,
        default=defaults["learning_rate"],
        help="how far a step may move a latent",
    )
