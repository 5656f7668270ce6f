"""What a configuration will cost before it is run: jobs, network evaluations, GPU hours, disk. Imports no torch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from dode.benchmark import evaluations
from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.workloads import CARD, FIT, START, Workloads, speeds
from dode.images.shards import RECORDED

GIGABYTE = 1e9


def plan(benchmark: Benchmark, measured: Iterable[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """One row a dataset and a last one, ``all``.

    With ``precision: auto`` a cell's speed is that of its choice where it is among ``measured``, or else assumed
    (:meth:`dode.benchmark.workloads.Workloads.assumed`).

    Args:
        benchmark: a :class:`dode.benchmark.cells.Benchmark`.
        measured: measurements of precisions (:func:`dode.report.precisions.read`).

    Returns:
        A data frame with the columns ``cells``; ``jobs`` of the workflow; ``submissions``, the cluster's jobs;
        ``evaluations``, network evaluations at most (:mod:`dode.benchmark.evaluations`), ``gradients``, through how
        many of them these flow back, and ``passes`` of networks, which are twice as many as evaluations where guidance
        needs two; ``encoded`` prompts and ``decoded`` latents; ``sampling``,
        ``fitting`` and ``scoring`` in GPU hours with what jobs take to start, NaN where no speed is given; ``samples``
        in GB, which stay with ``keep_samples``; ``others`` in GB, which stay in any case. Measurements of precisions
        are part of ``fitting``, as those that their first images decide.
    """
    work = Workloads(benchmark, measured=known_speeds(measured))
    rows = {name: _row(work, name) for name in benchmark.datasets}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.loc["all"] = frame.sum(skipna=False)
    whole = ["cells", "jobs", "submissions", "evaluations", "gradients", "passes", "encoded", "decoded"]
    return frame.astype(dict.fromkeys(whole, "int64"))


def known_speeds(measured: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Evaluations per second of each choice, and the seconds of its compilation, by (dataset id, part, kind)."""
    return {
        (own["dataset"], own["part"], kind): (way["speed"], way["first"] if "compiled" in way["way"] else 0.0)
        for own in measured
        for way in own["ways"]
        for kind in way["chosen"]
    }


def _row(work: Workloads, dataset: str) -> dict[str, Any]:
    cells = work.benchmark.cells_of(dataset)
    row: dict[str, float] = dict.fromkeys(
        ("jobs", "evaluations", "gradients", "passes", "sampling", "fitting", "scoring", "samples", "others"), 0
    )
    submissions: set[str | tuple] = set()
    encoded = _encoded(cells)
    submissions |= encoded
    row["jobs"] += len(encoded)
    for part in work.precisions.parts(dataset):
        row["jobs"] += 1
        submissions.add((dataset, part))
        count, of = work.measuring(dataset, part), work.precisions.measurement(dataset, part).cell
        row["evaluations"] += count
        row["passes"] += count * evaluations.passes(of)
        speed = speeds(work.settings(of)).get(CARD, math.nan)
        row["fitting"] += (count / speed + START) / 3600
    for cell in cells:
        for rule, count in work.jobs(cell).items():
            row["jobs"] += count
            row["evaluations"] += work.evaluations(rule, cell)
            row["gradients"] += work.gradients(rule, cell)
            row["passes"] += work.evaluations(rule, cell) * evaluations.passes(cell)
            group = work.group(rule, cell)
            submissions |= {group} if group else {(*cell.key, rule, number) for number in range(count)}
            kind = "sampling" if rule == "sample" else "fitting" if rule in FIT else "scoring"
            seconds = work.seconds(rule, cell)
            row[kind] += math.nan if seconds is None else (seconds + START) * count / 3600
        size = math.prod(work.benchmark.image_shape(cell.dataset["id"]))
        state = math.prod(work.benchmark.state_shape(cell.dataset["id"]))
        in_latents = cell.dataset["id"] in work.benchmark.in_latents()
        images = work.scored(cell)
        row["samples"] += images * (size + 4 * state * in_latents) / GIGABYTE
        states = ((cell.entry["distill"]["images"] if cell.fitted else 0) + RECORDED) * (cell.nfe + 1)
        kept = cell.dataset["trajectory_images"] * cell.dataset["seeds"]
        row["others"] += 4 * (kept * (size + state * in_latents) + state * states) / GIGABYTE
    decoded = sum(work.scored(cell) for cell in cells if dataset in work.benchmark.in_latents())
    known = {"cells": len(cells), "submissions": len(submissions)}
    return {**known, "encoded": sum(images for _, images in encoded), "decoded": decoded, **row}


def _encoded(cells: list[Cell]) -> set[tuple[str, int]]:
    """(stream of noise, images) of each set of prompts of a dataset's cells, which is encoded once."""
    if "prompts" not in cells[0].dataset:
        return set()
    fitted = {("fit", cell.entry["distill"]["images"]) for cell in cells if cell.fitted}
    searched = {("fit", cell.grid_options["images"]) for cell in cells if cell.searched}
    prepared = {("fit", cell.entry["prepare"]["images"]) for cell in cells if cell.preparation is not None}
    return {("sample", cells[0].dataset["images"])} | fitted | searched | prepared
