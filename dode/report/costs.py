"""What the learning of each solver took, beside what it gained: the report on methods that learn."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dode import storage
from dode.distillation.learned import Expense
from dode.metrics.catalogue import METRICS
from dode.names import CellName
from dode.report import numbers
from dode.report.preface import escaped, pipes

#: The scores beside the costs, in this order.
SCORES = ("paired_fid", "fid", "self_fid", "trajectory_rmse")
_FACTS = ("dataset", "solver", "label", "method", "learnt", "nfe")
COUNTS = ("numbers", "evaluations", "gradients")
_COSTS = (*COUNTS, "seconds")
_MEMORY = "memory"  # the last column of the file
_TEXT = (
    "What each solver had to learn before it could sample, and what that gained. *Numbers* are those that were learnt. "
    "*Evaluations* are of the network, one image each, with those of the fine solution or teacher that was followed, "
    "which other solvers may share; *gradients* says through how many of them gradients flowed back, each of which "
    "takes about as long as two more. *Seconds* are those of the jobs on the machine at hand, without their starts. "
    "*MB* is the most memory that one of these jobs took, with Python and its packages."
)


def of_fit(values: Mapping[str, Any]) -> dict[str, int]:
    """``numbers``, ``evaluations`` and ``gradients`` that a fit's file tells of: 0 where it does not say."""
    cost = values.get("cost") or {}
    evaluations = cost.get("evaluations", sum(rung["evaluations"] for rung in values.get("rungs") or ()))
    return {"numbers": _numbers(values), "evaluations": evaluations, "gradients": cost.get("gradients", 0)}


def _numbers(values):
    """How many numbers a fitted solver has that the plain one has not."""
    told = len(values["told"]) if values["told"] is not None else 0
    moved = 0 if values["levels"] == values["given"] else len(values["levels"]) - 1
    if values["coefficients"] is not None:  # its levels after the first are the told ones
        return 1 + told + sum(index + 1 for index in range(1, len(values["coefficients"])))
    return moved + told + sum(value != 0 for row in values["lambdas"] or () for value in row)


def of_preparation(header: Mapping[str, Any]) -> dict[str, int]:
    """The same of the header of a prepared file."""
    return {"numbers": header["numbers"], **header["cost"]}


def frame(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell.

    Args:
        cells: facts, the costs ``numbers``, ``evaluations``, ``gradients``, ``seconds`` and ``memory`` (MB; both
            None where a job has left none), and ``metrics`` as in a ``score.json``.

    Returns:
        Columns dataset, solver, label, method, learnt (by what), nfe, the costs, and of each of :data:`SCORES` value
        and error, unscaled, and memory.
    """
    rows = []
    for cell in cells:
        row = {key: cell[key] for key in (*_FACTS, *_COSTS)}
        for name in SCORES:
            entry = cell["metrics"].get(name) or {}
            row |= {name: entry.get("value"), f"{name}_error": entry.get("error")}
        rows.append({**row, _MEMORY: cell.get(_MEMORY)})
    scores = [key for name in SCORES for key in (name, f"{name}_error")]
    floats = dict.fromkeys(("seconds", *scores, _MEMORY), "float64")
    return pd.DataFrame(rows, columns=[*_FACTS, *_COSTS, *scores, _MEMORY]).astype(floats)


def by_cell(path: str | Path) -> dict[str, dict[str, Any]]:
    """The costs of the file that :func:`write` wrote, by the cell's name.

    ``learnt`` (by what), ``numbers``, ``evaluations``, ``gradients``, ``seconds`` and ``memory`` (MB; None where not
    known), and ``work``, the cost in evaluations without gradients.
    """
    text = {"dataset": str, "solver": str, "learnt": str}
    found = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={key: [""] for key in ("seconds", _MEMORY)})
    rows = {}
    for row in found.itertuples():
        own: dict[str, float | None] = {key: int(getattr(row, key)) for key in COUNTS}
        for key in ("seconds", _MEMORY):
            value = float(getattr(row, key))
            own[key] = None if math.isnan(value) else value
        rows[str(CellName(row.dataset, row.solver, int(row.nfe)))] = {"learnt": row.learnt, **own, "work": work(row)}
    return rows


def work(row: Any) -> int:
    """The cost of a row in evaluations without gradients."""
    return Expense(int(row.evaluations), int(row.gradients)).work


def markdown(found: pd.DataFrame, title: str) -> str:
    """The frame as Markdown: a table for each dataset and NFE, the best paired FID first."""
    parts = [f"# {escaped(title)}: what was learnt and what it cost", _TEXT]
    shown = [name for name in SCORES if found[name].notna().any()]
    header = ["solver", "learnt by", *(METRICS[name].name for name in shown), *_COSTS, "MB"]
    for dataset, own in found.groupby("dataset", sort=False):
        parts.append(f"## {escaped(str(dataset))}")
        for nfe, rows in own.groupby("nfe"):
            ordered = rows.sort_values(shown[0], kind="stable") if shown else rows
            parts += [f"### NFE {nfe}", pipes([_line(row, shown) for row in ordered.itertuples()], header)]
    return "\n\n".join(parts) + "\n"


def _line(row, shown):
    scores = []
    for name in shown:
        scale = METRICS[name].scale
        value, error = (scale * getattr(row, key) for key in (name, f"{name}_error"))
        text, spread = numbers.measured(value, error)
        scores.append(f"{text} ± {spread}" if spread else text or "–")
    seconds, memory = (
        "–" if math.isnan(value) else f"{value:{digits}}"
        for value, digits in ((row.seconds, ".3g"), (row.memory, ".0f"))
    )
    counts = [f"{int(getattr(row, key)):,}" if getattr(row, key) else "–" for key in COUNTS]
    return [escaped(row.label), row.learnt, *scores, *counts, seconds, memory]


def write(found: pd.DataFrame, title: str, csv: str | Path, md: str | Path) -> None:
    """Write the frame as CSV, to the last digit, and as Markdown."""
    with storage.atomic(csv) as temporary:
        found.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    with storage.atomic(md) as temporary:
        temporary.write_text(markdown(found, title), encoding="utf-8", newline="\n")
