"""``skdistill pretrain``."""

import shlex
from pathlib import Path

from skdistill.atomic import checkpoint_folder
from skdistill.cli.arguments import (
    add_command,
    add_common_arguments,
    add_data_arguments,
    add_value_range_argument,
)
from skdistill.cli.output import print_json, say
from skdistill.cli.values import count

TEST_HELP = (
    "share of DATA to hold out, stratified, the same whatever the seed: the images that distill "
    "holds out for this share; without it the backbone sees what distill measures on"
)


def add_parser(subparsers):
    """Add the command to the program."""
    parser = add_command(
        subparsers,
        "pretrain",
        run,
        usage="DATA --out FOLDER [options]",
        summary="train a backbone on your own images",
        description="Train a small VAE and a class-conditional DiT on DATA and write them as a "
        "folder in diffusers' format, with a model card. A run that was stopped goes on from its "
        "last checkpoint when the same command is given again.",
        examples=[
            "skdistill pretrain my_images --test 0.2 --out my_backbone",
            "skdistill pretrain photos --image-size 64 --flip --steps 40000 --out my_backbone",
        ],
    )
    parser.set_defaults(kept=kept)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    data = add_data_arguments(parser, test=TEST_HELP, test_metavar="SHARE")
    add_value_range_argument(data)
    sizes = parser.add_argument_group(
        "training", "Sizes that are not given follow from the images."
    )
    sizes.add_argument("--steps", type=count, default=10_000, help="steps of the DiT")
    sizes.add_argument("--vae-steps", type=count, default=5_000, help="steps of the VAE")
    sizes.add_argument("--batch-size", type=count, default=128, help="images a step")
    sizes.add_argument("--learning-rate", type=float, default=1e-3, help="of AdamW, at its peak")
    sizes.add_argument("--latent-channels", type=count, help="channels of the latents")
    sizes.add_argument("--downsamplings", type=int, help="how often the VAE halves the size")
    sizes.add_argument("--vae-width", type=count, help="channels of the VAE at full size")
    sizes.add_argument("--width", type=count, help="width of the DiT")
    sizes.add_argument("--depth", type=count, help="blocks of the DiT")
    sizes.add_argument("--patch-size", type=count, help="side of a latent patch that is one token")
    sizes.add_argument("--dropout", type=float, default=0.0, help="dropout within the DiT")
    sizes.add_argument("--flip", action="store_true", help="train on mirrored images too")
    sizes.add_argument(
        "--guidance-scale", type=float, default=1.5, help="classifier-free guidance to recommend"
    )
    sizes.add_argument("--checkpoint-every", type=count, default=500, help="steps")
    sizes.add_argument("--license", default="unknown", help="licence of the weights, for the card")
    add_common_arguments(
        parser, seed="decides the first weights and all that is drawn; the held-out split is fixed"
    )


def run(options):
    """Train a backbone on DATA; return the exit code."""
    from skdistill.backbones import describe_backbone
    from skdistill.cli.data import load_split, reading_arguments
    from skdistill.datasets import SPLITS
    from skdistill.training import pretrain

    X, _, y, _ = load_split(options, share_only=True)
    if options.data in SPLITS:
        data = (
            f"{options.data}, training part of skdistill.datasets.{SPLITS[options.data].__name__}()"
        )
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
        value_range=options.value_range,
        random_state=options.seed,
        device=options.device,
        checkpoint_every=options.checkpoint_every,
        verbose=not options.quiet,
        data=data,
        license=options.license,
        command=options.command_line,
    )
    distill = ["skdistill", "distill", *reading_arguments(options), "--backbone", str(out)]
    if options.value_range is not None:
        distill += ["--value-range", *map(str, options.value_range)]
    say(
        options,
        f"The backbone is in {out}. To distil with it:\n  "
        + shlex.join([*distill, "--out", "distilled"]),
    )
    if options.json:
        print_json(describe_backbone(out))
    return 0


def kept(options):
    """Say what an interrupted run leaves behind, or None if nothing."""
    folder = checkpoint_folder(options.out)
    return f"The last checkpoint is kept in {folder}" if any(folder.glob("*.safetensors")) else None
