"""Render archives of benchmarks into one static site for any host (docs/sharing.md).

It has an index by model and number of evaluations, a page for each cell with all its measurements, and for each archive
the page of its benchmark with its tables. Nothing in it needs a server.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which archives, and where to."""
    parser.add_argument("archives", nargs="+", metavar="archive", help="files that `python -m dode pack` wrote")
    parser.add_argument("--output", type=Path, default=Path("site"), help="folder to write (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Write the site."""
    from dode import texts
    from dode.report.archives import format, site

    pages = site.write([format.read(path) for path in options.archives], options.output)
    count = len(options.archives)
    print(texts.shown(f"{pages[0]}: {count} {'archive' if count == 1 else 'archives'}, {len(pages)} pages"))
