"""Hold two finished benchmarks against each other: scores beyond their errors, and what differs in their making."""

import argparse
import json
from pathlib import Path

from dode import texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two folders of results and what to show of them."""
    parser.add_argument("first", help="folder of a finished benchmark, results/<benchmark>")
    parser.add_argument("second", help="another")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        help="confidence level at which two scores count as different (default %(default)s; take 0.999 for many)",
    )
    parser.add_argument("--changed", action="store_true", help="show only scores that differ beyond their error")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument(
        "--fail-on-difference",
        action="store_true",
        help="exit with status 3 if a score differs or cannot be judged, or if a cell is in only one folder",
    )


def run(options: argparse.Namespace) -> int:
    """Print the comparison."""
    from dode.report import comparison
    from dode.report.finished import Finished

    found = comparison.compare(Finished(options.first), Finished(options.second), confidence=options.confidence)
    if options.json:
        print(json.dumps(comparison.plain(found), indent=1))
    else:
        names = _names(options.first, options.second)
        text = comparison.markdown(found, names, confidence=options.confidence, everything=not options.changed)
        print(texts.shown(text, lines=True))
    return 3 if options.fail_on_difference and found.differs else 0


def _names(first, second):
    """The folders' own names, or the whole paths where these are the same."""
    own = [Path(path).resolve().name for path in (first, second)]
    return own if own[0] != own[1] else [str(first), str(second)]
