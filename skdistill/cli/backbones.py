"""``skdistill backbones``."""

import shutil
import textwrap

from skdistill.cli.arguments import add_command, add_json_argument
from skdistill.cli.output import print_json

COLUMNS = ("name", "images", "classes", "size")
# Of a thousand names nobody reads more.
N_NAMES = 12
PART_NAMES = {"vae": "VAE", "transformer": "transformer", "unet": "U-Net"}


def add_parser(subparsers):
    """Add the command to the program."""
    parser = add_command(
        subparsers,
        "backbones",
        run,
        usage="[BACKBONE] [options]",
        summary="list the backbones that are shipped, or describe one",
        description="List the backbones that are shipped or, given one, say what it holds. Of a "
        "hub id, only the configuration is downloaded.",
        examples=[
            "skdistill backbones",
            "skdistill backbones my_backbone",
            "skdistill backbones facebook/DiT-XL-2-256 --json",
        ],
    )
    parser.add_argument(
        "backbone",
        nargs="?",
        metavar="BACKBONE",
        help="a shipped name, a folder in diffusers' format, or a hub id owner/name",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    add_json_argument(parser)


def run(options):
    """Print what is shipped, or what one backbone holds; return the exit code."""
    from skdistill.backbones import describe_backbone, shipped_backbones

    if options.backbone is None:
        if options.revision is not None:
            raise ValueError(f"--revision={options.revision!r} needs a BACKBONE, a hub id.")
        content = [describe_backbone(name) for name in shipped_backbones()]
        text = _list(content)
    else:
        content = describe_backbone(options.backbone, revision=options.revision)
        text = _describe(content)
    if options.json:
        print_json(content)
    else:
        print(text)
    return 0


def _list(descriptions):
    """Lay backbones out as a table, below each what it was trained on and its licence."""
    rows = [COLUMNS, *map(_row, descriptions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = " " * (widths[0] + 2)
    room = max(20, shutil.get_terminal_size().columns - len(indent))
    below = [[], *(textwrap.wrap(_origin(d), room) for d in descriptions)]
    lines = []
    for row, parts in zip(rows, below, strict=True):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        lines += [indent + part for part in parts]
    return "\n".join(lines)


def _row(described):
    return (
        described["name"],
        _image(described),
        _or_dash(described["n_classes"]),
        _size(described["bytes"]),
    )


def _origin(described):
    fid = "" if described["fid"] is None else f"FID {described['fid']:.2f}; "
    return f"{_or_dash(described['data'])}; {fid}licence {_or_dash(described['license'])}"


def _describe(described):
    """Lay the facts of one backbone out, a line each."""
    facts = {
        "images": _image(described),
        "latents": " x ".join(map(str, described["latent_shape"])),
        "classes": _classes(described),
        "parameters": ", ".join(
            f"{PART_NAMES[part]} {n:,}" for part, n in described["n_parameters"].items()
        ),
        "size": _size(described["bytes"]),
        "predicts": f"{described['prediction_type']}, sampled by {described['scheduler']}",
        "guidance": f"classifier-free, scale {described['guidance_scale']:g}",
        "values": _or_dash(described["value_range"], "{0[0]:g} to {0[1]:g}"),
        "trained on": _or_dash(described["data"]),
        "training": _or_dash(described["training_seconds"], "{:.0f} s"),
        "FID": _or_dash(described["fid"], "{:.2f}"),
        "licence": _or_dash(described["license"]),
        "folder": described["folder"],
    }
    width = max(map(len, facts))
    room = max(20, shutil.get_terminal_size().columns - width - 2)
    lines = [described["name"]]
    for name, fact in facts.items():
        # A folder is left in one piece, so that it can be copied.
        parts = [fact] if name == "folder" else textwrap.wrap(fact, room)
        labels = [name] + [""] * (len(parts) - 1)
        lines += [f"{label:<{width}}  {part}" for label, part in zip(labels, parts, strict=True)]
    return "\n".join(lines)


def _classes(described):
    if described["classes"] is None:
        return "any, by a prompt a class"
    return f"{described['n_classes']} ({_enumerate(described['classes']) or 'no names'})"


def _enumerate(names):
    return ", ".join([*names[:N_NAMES], *["..."][: len(names) > N_NAMES]])


def _image(described):
    height, width, n_channels = described["image_shape"]
    kind = {1: "grey", 3: "colour"}.get(n_channels, f"{n_channels} channels")
    return f"{height} x {width} {kind}"


def _size(n_bytes):
    if n_bytes is None:
        return "-"
    megabytes = n_bytes / 1e6
    return f"{megabytes:.1f} MB" if megabytes < 10 else f"{megabytes:.0f} MB"


def _or_dash(value, form="{}"):
    return "-" if value is None else form.format(value)
