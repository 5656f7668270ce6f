"""Bring ``config/checkpoints.lock`` up to date: what a checkpoint must be whose card has no whole sha256.

``python scripts/lock_checkpoints.py`` fetches the checkpoints that have no entry yet and drops the entries that no
card needs. With names of cards these are fetched again, and their entries replaced by what their URLs have today. The
files go to ``resources/checkpoints``, where the workflow looks for them.
"""

import argparse
import sys
from pathlib import Path

from dode import locks, texts
from dode.benchmark import config, runs
from dode.fetching import renewal


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cards", nargs="*", help="cards whose checkpoints are fetched again (default: those without entry)"
    )
    parser.add_argument("--cache", help="the folder of execution.cache")
    options = parser.parse_args(arguments)
    texts.write_all(sys.stdout)
    try:
        held = runs.begin()  # noqa: F841 - a run that reads the files must not be under way
        good = renewal.lock(Path(), options.cards, options.cache, lambda line: print(texts.shown(line, lines=True)))
    except (locks.Busy, config.ConfigError, ValueError) as error:
        sys.exit(texts.shown(error))
    if not good:
        sys.exit("not all checkpoints could be locked")


if __name__ == "__main__":
    main()
