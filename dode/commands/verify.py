"""Are the files of a benchmark what was written? Damaged ones are set aside, to be made again."""

import argparse
from pathlib import Path

from dode import texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder, and how closely."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), help="default: results")
    parser.add_argument("--sizes", action="store_true", help="check only sizes, not contents")
    parser.add_argument("--keep", action="store_true", help="report what is damaged but leave it in place")


def run(options: argparse.Namespace) -> int:
    """Exit status 1 where something was damaged."""
    from dode.benchmark import records

    if not options.folder.is_dir():
        raise ValueError(f"{options.folder}: no such folder")
    found = list(records.damaged_files(options.folder, contents=not options.sizes))
    for path, how in found:
        aside = "" if options.keep else f"; set aside as {records.set_aside(path).name}"
        print(texts.shown(f"{path} {how}{aside}"))
    if not found:
        print(f"{options.folder}: nothing is damaged")
    elif not options.keep:
        print(texts.shown(f"Now {records.remaking(path for path, _ in found)}"))
    return bool(found)
