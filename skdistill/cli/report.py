"""``skdistill report``."""

from skdistill.cli.arguments import add_command, add_data_arguments, add_json_argument
from skdistill.cli.output import print_json, say


def add_parser(subparsers):
    """Add the command to the program."""
    parser = add_command(
        subparsers,
        "report",
        run,
        usage="RUN_DIR [DATA] [options]",
        summary="write a run directory's report, one HTML file",
        description="Write one HTML file, which loads nothing, that shows what is in RUN_DIR: the "
        "set, its trees, its settings, and what distill and evaluate measured.",
        examples=[
            "skdistill report distilled",
            "skdistill report distilled my_images --test 0.2 --out report.html",
        ],
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="a complete run directory")
    add_data_arguments(parser, required=False)
    parser.add_argument("--out", metavar="FILE", help="file to write; RUN_DIR/report.html if unset")
    add_json_argument(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no messages")


def run(options):
    """Write the report; return the exit code."""
    from skdistill.cli.data import load_split, reading_arguments
    from skdistill.report import write_report

    X, y, data = None, None, ["DATA"]
    if options.data is not None:
        X, _, y, _ = load_split(options)
        data = reading_arguments(options)
    elif options.test or options.image_size or options.skip_bad_images:
        raise ValueError(
            "--test, --image-size and --skip-bad-images say how DATA is read, which is not given."
        )
    out = write_report(options.run_dir, options.out, X=X, y=y, data=data)
    say(options, f"The report is in {out}")
    if options.json:
        print_json({"command": options.command_line, "out": str(out)})
    return 0
