"""Run the embedded benchmark in this folder: 5 minutes on two cores, without a GPU or a download.

Further arguments are Snakemake's, such as --dry-run.
"""

import argparse

from dode.commands.run import become_snakemake
from dode.fetching import places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    parser.set_defaults(takes_more=True)


def run(options: argparse.Namespace) -> None:
    """Say where its page will be, and become Snakemake."""
    print("The page: results/digits/index.html   The table: results/digits/table.md")
    become_snakemake(["--configfile", str(places.workflow() / "config" / "config.yaml"), *options.more])
