"""Add the cells of an archive to one's own benchmark, as rows that are marked as measured elsewhere (docs/sharing.md).

The archive is checked and compared with the configuration: a cell can be a row only where all that its scores depend on
besides solver and fit is the same here, and it is the same as a cell here only if everything is. What differs is named.
Then the archive is added to the configuration under `archives`, with its checksum; nothing runs.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dode.fetching import places

if TYPE_CHECKING:
    from dode.benchmark.cells import Benchmark

ROOT = places.workflow()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which archive, to which configuration."""
    parser.add_argument("archive", help="file that `python -m dode pack` wrote")
    parser.add_argument("config", nargs="?", help=places.NAMED)
    parser.add_argument("--solvers", nargs="+", metavar="ID", help="ids of its solvers to take (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be added, and leave the configuration")


def _record(benchmark: "Benchmark") -> dict[str, Any]:
    """What its cells are compared with; with what a run has measured or fetched, if it has."""
    from dode.benchmark import elsewhere

    there = {name: path for name, path in elsewhere.choices(benchmark).items() if Path(path).is_file()}
    own = elsewhere.with_precisions(elsewhere.record(benchmark), there)
    return elsewhere.with_manifests(own, elsewhere.manifests(benchmark))


def run(options: argparse.Namespace) -> int:
    """Say what can be compared, then edit the configuration; exit status 1 where nothing can be."""
    from dode import texts
    from dode.benchmark import archive_entries
    from dode.benchmark.cells import Benchmark
    from dode.report.archives import added, format
    from dode.report.archives import elsewhere as comparison
    from dode.validation import read_mapping

    archive = format.read(options.archive)
    path = places.configuration(options.config)
    if not options.dry_run and str(path) not in (options.config, str(places.CONFIG)):
        raise ValueError(f"config: {path} belongs to this project; copy it here, and name the copy")
    config = read_mapping(path)
    # Without the archives that it has: one of them may be the file of now as it was before.
    benchmark = Benchmark({**config, "archives": []}, ROOT)
    number = archive_entries.number(archive_entries.of(config, path), options.archive)
    chosen = comparison.select(archive, _record(benchmark), solvers=options.solvers)
    found = comparison.taken(archive, chosen, number)
    print(texts.shown(added.said(found), lines=True), end="\n\n")
    if not found["facts"] and not found["same"]:
        print(texts.shown(f"Nothing of it can stand beside {path}, which is left as it is."))
        return 1
    if options.dry_run:
        return 0
    entry = {"file": str(options.archive), "sha256": archive.sha256}
    changed = archive_entries.put(path, entry | ({"solvers": options.solvers} if options.solvers else {}))
    what = "Added to" if changed else "It is already in"
    print(texts.shown(f"{what} {path}. Now: python -m dode run {path}"))
    return 0
