"""Pack a finished benchmark into one small file: everything but its samples (docs/sharing.md)."""

import argparse
import sys
from pathlib import Path

from dode import texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which benchmark, and who made it."""
    parser.add_argument("results", help="folder of a finished benchmark, results/<benchmark>")
    parser.add_argument("--output", help="the file to write, - for standard output (default: <benchmark>.zip)")
    parser.add_argument("--by", default="", help="who measured it, as others should call you (default: not said)")
    parser.add_argument("--date", help="when, YYYY-MM-DD (default: the day on which the page was written)")
    parser.add_argument(
        "--evidence",
        type=int,
        default=64,
        metavar="IMAGES",
        help="images of each cell and seed that an audit can sample again (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Write the file, say what is in it."""
    from dode.report.archives import packing

    path = options.output or f"{Path(options.results).resolve().name}.zip"
    found = packing.pack(options.results, path, by=options.by, date=options.date, images=options.evidence)
    # What goes on where the archive itself is written would be a part of it.
    aside = sys.stderr if path in ("-", "/dev/stdout") else sys.stdout
    said = f"{path}: {len(found.cells)} cells of {found.about['benchmark']}, {found.size:,} bytes"
    print(texts.shown(said), f"sha256 {found.sha256}", sep="\n", file=aside)
