"""``skdistill report``."""

from skdistill.cli.arguments import TEST_HELP, HelpFormatter, add_data_arguments
from skdistill.cli.data import load_split
from skdistill.report import write_report


def add_parser(subparsers):
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "report",
        help="write a run directory's report, one HTML file",
        description="Write one HTML file, which loads nothing, that shows what is in RUN_DIR: the "
        "set, its trees, its settings, and what distill and evaluate measured.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="a complete run directory")
    add_data_arguments(parser, out=False, required=False)
    parser.add_argument("--test", metavar="DATA_OR_SHARE", help=TEST_HELP)
    parser.add_argument("--out", help="file to write; RUN_DIR/report.html if unset")
    parser.add_argument("--quiet", action="store_true", help="do not say where it is")


def run(options):
    """Write the report; return the exit code."""
    X, y, data = None, None, ["DATA"]
    if options.data is not None:
        X, _, y, _ = load_split(options)
        data = [options.data]
        for name in ("test", "image_size"):
            value = getattr(options, name)
            if value is not None:
                data += [f"--{name.replace('_', '-')}", str(value)]
        if options.skip_bad_images:
            data.append("--skip-bad-images")
    out = write_report(options.run_dir, options.out, X=X, y=y, data=data)
    if not options.quiet:
        print(f"The report is in {out}")
    return 0
