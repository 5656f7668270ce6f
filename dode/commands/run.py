"""Run the workflow in this folder: `snakemake`, also where dode was installed without its repository.

Results go to results/<benchmark> of this folder. All further arguments are Snakemake's (--dry-run, --cores 2, targets
after --).
"""

import argparse
import os
import sys
from pathlib import Path

from dode.fetching import places
from dode.registry import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration."""
    parser.add_argument(
        "config",
        nargs="?",
        help="a file, or the name of one of this project's such as mnist (default: config/config.yaml of this folder, "
        "or else the embedded benchmark)",
    )
    parser.set_defaults(takes_more=True)


def run(options: argparse.Namespace) -> None:
    """Become Snakemake."""
    chosen = [] if options.config is None else ["--configfile", str(_configuration(options.config))]
    become_snakemake([*chosen, *options.more])


def become_snakemake(arguments: list[str]) -> None:
    """Replace this process by Snakemake on the workflow of this package, in the working directory."""
    sys.stdout.flush()
    snakefile = places.workflow() / "Snakefile"
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), *arguments])


def _configuration(named: str) -> Path:
    """The file that is named, or that of this project with this name."""
    if Path(named).is_file():
        return Path(named)
    folder = places.workflow() / "config"
    own = folder / f"{named}.yaml"
    if own.is_file() and Path(named).name == named:
        return own
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    hint = nearest(named, known)
    raise ValueError(f"config: there is no file '{named}'{hint}; this project's own are {', '.join(known)}")
