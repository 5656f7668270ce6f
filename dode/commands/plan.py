"""What will a configuration cost: cells, jobs, network evaluations, GPU hours, disk?

Jobs are those of the cells; fetching, tables and figures come to them. GPU hours go by evaluations_per_second and
features_per_second of the configuration's execution, which were measured on the GPU that its comments name.
"""

import argparse
import math
from pathlib import Path

from dode.fetching import places

ROOT = places.workflow()
WHOLE = {
    **{"cells": "cells", "jobs": "jobs", "submissions": "cluster jobs"},
    **{"evaluations": "evaluations", "passes": "network passes"},
}
HOURS = {"sampling": "sampling, h", "fitting": "fitting, h", "scoring": "scoring, h"}
SIZES = {"samples": "samples on disk", "others": "other files"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which configuration."""
    parser.add_argument("config", type=Path, nargs="?", default=Path("config/config.yaml"), help="default: %(default)s")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs that share the work (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Print the plan as a Markdown table."""
    from dode.benchmark.cells import Benchmark
    from dode.benchmark.planning import plan
    from dode.validation import read_mapping

    config = read_mapping(options.config)
    if options.gpus < 1:
        raise ValueError(f"--gpus: {options.gpus} is not allowed; allowed: at least 1")
    benchmark = Benchmark(config, ROOT)
    found = plan(benchmark)
    print(_table(found))
    whole, hours = found.loc["all"], found[list(HOURS)].sum(axis=1, skipna=False)
    if math.isnan(hours["all"]):
        without = ", ".join(name for name in benchmark.datasets if math.isnan(hours[name]))
        print(
            f"\nNo GPU hours for {without}: evaluations_per_second is missing (benchmarks/throughput.py measures it)."
        )
    else:
        days = hours["all"] / options.gpus / 24
        print(
            f"\n{_number(hours['all'])} GPU hours; {_number(days)} days on {options.gpus} GPUs that wait for nothing "
            "at the configuration's speeds."
        )
    if whole["decoded"]:
        print(f"Besides, {whole['encoded']:,.0f} prompts are encoded and {whole['decoded']:,.0f} latents decoded.")
    kept = benchmark.config["execution"]["keep_samples"]
    passing = "" if kept else f", and the samples of the cells at work, of {_size(whole['samples'])} (keep_samples)"
    print(f"Disk: {_size(whole['others'] + kept * whole['samples'])} at the end{passing}.")


def _table(found):
    import pandas as pd

    forms = {**dict.fromkeys(WHOLE, "{:,}".format), **dict.fromkeys(HOURS, _number), **dict.fromkeys(SIZES, _size)}
    text = pd.DataFrame({name: found[name].map(form) for name, form in forms.items()})
    text = text.rename(columns={**WHOLE, **HOURS, **SIZES})
    return text.to_markdown(disable_numparse=True, colalign=["left", *["right"] * len(forms)])


def _number(value):
    """At least two digits; a dash for what is not known."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _size(gigabytes):
    """With its unit."""
    return f"{_number(gigabytes)} GB" if gigabytes >= 1 else f"{_number(1e3 * gigabytes)} MB"
