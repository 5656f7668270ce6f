"""Run the workflow in this folder: `snakemake`, also where dode was installed without its repository.

Results go to results/<benchmark> of this folder. All further arguments are Snakemake's (--dry-run, --cores 2, targets
after --).
"""

import argparse
import os
import sys

from dode.fetching import places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration."""
    parser.add_argument("config", nargs="?", help=places.NAMED)
    parser.set_defaults(takes_more=True)


def run(options: argparse.Namespace) -> None:
    """Become Snakemake."""
    chosen = [] if options.config is None else ["--configfile", str(places.configuration(options.config))]
    become_snakemake([*chosen, *options.more])


def become_snakemake(arguments: list[str]) -> None:
    """Replace this process by Snakemake on the workflow of this package, in the working directory."""
    sys.stdout.flush()
    snakefile = places.workflow() / "Snakefile"
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), *arguments])
