"""What will a configuration cost: cells, jobs, network evaluations, GPU hours, disk?

Jobs are those of the cells; fetching, tables and figures come to them. GPU hours go by evaluations_per_second and
features_per_second of the configuration's execution, which were measured on the GPU that its comments name. With
precision: auto, choices that the folder of results has are taken, with their measured speeds. Until there are any, one
is assumed: the fastest of the given speeds that keeps as many digits as TF32; for the fine solution and for fits other
than greedy, the card's.
"""

import argparse
import math
from pathlib import Path

from dode.fetching import places

ROOT = places.workflow()
WHOLE = {
    **{"cells": "cells", "jobs": "jobs", "submissions": "cluster jobs"},
    **{"evaluations": "evaluations", "gradients": "with gradients", "passes": "network passes"},
}
HOURS = {"sampling": "sampling, h", "fitting": "fitting, h", "scoring": "scoring, h"}
#: What measures evaluations_per_second, of networks of images and of pipelines.
MEASURED_BY = {
    False: "benchmarks/throughput.py of the repository measures it",
    True: "of a pipeline it follows from the log of a sampling job: docs/pipelines.md, What it costs",
}
SIZES = {"samples": "samples on disk", "others": "other files"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which configuration."""
    parser.add_argument("config", nargs="?", help=places.NAMED)
    parser.add_argument("--gpus", type=int, default=8, help="GPUs that share the work (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Print the plan as a Markdown table."""
    from dode.benchmark.cells import Benchmark
    from dode.benchmark.planning import plan
    from dode.benchmark.precisions import Precisions
    from dode.report import precisions
    from dode.validation import read_mapping

    config = read_mapping(places.configuration(options.config))
    if options.gpus < 1:
        raise ValueError(f"--gpus: {options.gpus} is not allowed; allowed: at least 1")
    benchmark = Benchmark(config, ROOT)
    paths = [path for path in Precisions(benchmark).tables() if Path(path).is_file()]
    measured = precisions.read(paths)
    found = plan(benchmark, measured)
    print(_table(found))
    whole, hours = found.loc["all"], found[list(HOURS)].sum(axis=1, skipna=False)
    if math.isnan(hours["all"]):
        without = [name for name in benchmark.datasets if math.isnan(hours[name])]
        kinds = {name in benchmark.in_latents() for name in without}
        how = "; ".join(words for kind, words in MEASURED_BY.items() if kind in kinds)
        print(f"\nNo GPU hours for {', '.join(without)}: evaluations_per_second is missing ({how}).")
    else:
        days = hours["all"] / options.gpus / 24
        gpus = "1 GPU that waits" if options.gpus == 1 else f"{options.gpus} GPUs that wait"
        print(
            f"\n{_number(hours['all'])} GPU hours; {_number(days)} days on {gpus} for nothing at the configuration's "
            "speeds."
        )
    _say_precisions(benchmark, measured)
    if whole["decoded"]:
        encoded = f"{whole['encoded']:,.0f} prompts are encoded and " if whole["encoded"] else ""
        print(f"Besides, {encoded}{whole['decoded']:,.0f} latents {'' if encoded else 'are '}decoded.")
    kept = benchmark.config["execution"]["keep_samples"]
    passing = "" if kept else f", and the samples of the cells at work, of {_size(whole['samples'])} (keep_samples)"
    print(f"Disk: {_size(whole['others'] + kept * whole['samples'])} at the end{passing}.")


def _say_precisions(benchmark, measured):
    """What was measured, as a table; what is assumed where nothing was."""
    from dode.benchmark.workloads import CARD, Workloads
    from dode.report import precisions
    from dode.report.preface import pipes

    if measured:
        rows = [row for own in measured for row in precisions.rows(own)]
        print(f"\nPrecisions as measured:\n\n{pipes(rows, precisions.HEADER)}")
    work, known = Workloads(benchmark), {(own["dataset"], own["part"]) for own in measured}
    for name in filter(work.precisions.measured, benchmark.datasets):
        missing = [c for c in benchmark.cells_of(name) if (name, work.precisions.part(c)) not in known]
        ways = {assumed[0] for cell in missing if (assumed := work.assumed(cell)) is not None}
        if ways:
            said = ", ".join("the card's precision" if way == CARD else way for way in sorted(ways))
            print(f"Assumed for {name} until it is measured: {said}.")


def _table(found):
    import pandas as pd

    if not found["gradients"].any():
        found = found.drop(columns="gradients")
    forms = {**dict.fromkeys(WHOLE, "{:,}".format), **dict.fromkeys(HOURS, _number), **dict.fromkeys(SIZES, _size)}
    text = pd.DataFrame({name: found[name].map(form) for name, form in forms.items() if name in found})
    text = text.rename(columns={**WHOLE, **HOURS, **SIZES})
    return text.to_markdown(disable_numparse=True, colalign=["left", *["right"] * len(text.columns)])


def _number(value):
    """At least two digits; a dash for what is not known."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _size(gigabytes):
    """With its unit."""
    return f"{_number(gigabytes)} GB" if gigabytes >= 1 else f"{_number(1e3 * gigabytes)} MB"
