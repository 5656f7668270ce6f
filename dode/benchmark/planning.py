"""What a configuration will cost before it is run: jobs, network evaluations, GPU hours, disk. Imports no torch."""

import math
from typing import Any

import pandas as pd

from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.workloads import FIT, START, Workloads
from dode.images.shards import RECORDED

GIGABYTE = 1e9


def plan(benchmark: Benchmark) -> pd.DataFrame:
    """One row a dataset and a last one, ``all``.

    Args:
        benchmark: a :class:`dode.benchmark.cells.Benchmark`.

    Returns:
        A data frame with the columns ``cells``; ``jobs`` of the workflow; ``submissions``, the cluster's jobs;
        ``evaluations``, network evaluations at most (:mod:`dode.benchmark.evaluations`); ``sampling``, ``fitting`` and
        ``scoring`` in GPU hours with what jobs take to start, NaN where no speed is given; ``samples`` in GB, which
        stay with ``keep_samples``; ``others`` in GB, which stay in any case.
    """
    work = Workloads(benchmark)
    rows = {name: _row(work, benchmark.cells_of(name)) for name in benchmark.datasets}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.loc["all"] = frame.sum(skipna=False)
    whole = ["cells", "jobs", "submissions", "evaluations"]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _row(work: Workloads, cells: list[Cell]) -> dict[str, Any]:
    row: dict[str, float] = dict.fromkeys(
        ("jobs", "evaluations", "sampling", "fitting", "scoring", "samples", "others"), 0
    )
    submissions: set[str | tuple] = set()
    for cell in cells:
        for rule, count in work.jobs(cell).items():
            row["jobs"] += count
            row["evaluations"] += work.evaluations(rule, cell)
            group = work.group(rule, cell)
            submissions |= {group} if group else {(*cell.key, rule, number) for number in range(count)}
            kind = "sampling" if rule == "sample" else "fitting" if rule in FIT else "scoring"
            seconds = work.seconds(rule, cell)
            row[kind] += math.nan if seconds is None else (seconds + START) * count / 3600
        size = math.prod(work.benchmark.image_shape(cell.dataset["id"]))
        images = cell.dataset["images"] * cell.dataset["seeds"]
        row["samples"] += images * size / GIGABYTE
        states = ((cell.entry["distill"]["images"] if cell.distilled else 0) + RECORDED) * (cell.nfe + 1)
        row["others"] += 4 * size * (cell.dataset["trajectory_images"] * cell.dataset["seeds"] + states) / GIGABYTE
    return {"cells": len(cells), "submissions": len(submissions), **row}
