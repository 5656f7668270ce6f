"""What will a configuration cost: cells, jobs, network evaluations, GPU hours, disk?

GPU hours go by evaluations_per_second and features_per_second of the configuration's execution.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADERS = {
    "cells": "cells",
    "jobs": "jobs",
    "submissions": "cluster jobs",
    "evaluations": "evaluations",
    "sampling": "sampling, h",
    "fitting": "fitting, h",
    "scoring": "scoring, h",
    "samples": "samples, GB",
    "others": "other, GB",
}


def add_arguments(parser):
    """Which configuration."""
    parser.add_argument("config", type=Path, nargs="?", default=Path("config/config.yaml"), help="default: %(default)s")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs that the hours are divided by (default: %(default)s)")


def run(options):
    """Print the plan as a Markdown table."""
    from dode.cells import Benchmark
    from dode.planning import plan
    from dode.validation import read_yaml

    config = read_yaml(options.config)
    if options.gpus < 1:
        raise ValueError(f"--gpus: {options.gpus} is not allowed; allowed: at least 1")
    benchmark = Benchmark(config, ROOT)
    found = plan(benchmark)
    formats = ["", *[",.0f"] * 4, *[",.1f"] * 3, *[",.1f"] * 2]
    print(found.rename(columns=HEADERS)[list(HEADERS.values())].to_markdown(floatfmt=formats, intfmt=","))
    whole = found.loc["all"]
    hours = whole[["sampling", "fitting", "scoring"]].sum(skipna=False)
    if hours != hours:
        print("\nNo GPU hours where a dataset has no evaluations_per_second (benchmarks/throughput.py measures it).")
    else:
        days = hours / options.gpus / 24
        print(f"\n{hours:,.0f} GPU hours; {days:,.1f} days on {options.gpus} GPUs that wait for nothing.")
    kept = benchmark.config["execution"]["keep_samples"]
    passing = "" if kept else f", and the samples of the cells at work, of {whole['samples']:,.0f} GB (keep_samples)"
    print(f"Disk: {whole['others'] + kept * whole['samples']:,.0f} GB at the end{passing}.")
