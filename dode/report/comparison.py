"""Two finished benchmarks held against each other: scores beyond their errors, and what differs in their making."""

import math
from typing import NamedTuple

import pandas as pd

from dode.report.frame import METRICS, Metric

UNKNOWN = "no error"


class Row(NamedTuple):
    """One metric of one cell in both, scaled as the tables are.

    ``difference`` is the second minus the first; ``beyond`` whether its size is above ``errors`` combined standard
    errors, None where an error is not known and the values differ.
    """

    cell: str
    metric: str
    first: float
    first_error: float | None
    second: float
    second_error: float | None
    difference: float
    combined: float | None
    beyond: bool | None


class Change(NamedTuple):
    """A value that differs in the records: what it is of, its key, both values (None: there is none), which cells."""

    part: str
    key: str
    first: object
    second: object
    cells: tuple


class Comparison(NamedTuple):
    """What :func:`compare` finds; ``unrecorded`` are the folders without a record of what the cells were made of."""

    rows: list
    only_first: list
    only_second: list
    changes: list
    unrecorded: list

    @property
    def differs(self):
        """Whether a score differs beyond its error (or differs and has none), or a cell is in one alone."""
        return bool(self.only_first or self.only_second or any(row.beyond is not False for row in self.rows))


def compare(first, second, *, errors=2.0):
    """Hold two :class:`dode.report.finished.Finished` benchmarks against each other.

    A score is beyond the error where ``|b - a| > errors sqrt(e_a^2 + e_b^2)``, e the standard errors of both. That
    takes them for independent: two runs on the same noise differ by less than that, if by anything.
    """
    if not 0 <= errors < math.inf:
        raise ValueError(f"errors must be a finite number of at least 0, not {errors}")
    shared = [name for name in first.cells if name in second.cells]
    found = Comparison(
        rows=[row for name in shared for row in _rows(name, first.scores(name), second.scores(name), errors)],
        only_first=[name for name in first.cells if name not in second.cells],
        only_second=[name for name in second.cells if name not in first.cells],
        changes=[],
        unrecorded=[str(each.folder) for each in (first, second) if each.provenance is None],
    )
    return found if found.unrecorded else found._replace(changes=_changes(first.provenance, second.provenance, shared))


def _rows(cell, first, second, errors):
    for metric in [name for name in {**METRICS, **first, **second} if name in first or name in second]:
        scale = _metric(metric).scale
        a, b = first.get(metric), second.get(metric)
        if a is None or b is None:
            value = [math.nan if score is None else score.value * scale for score in (a, b)]
            yield Row(cell, metric, value[0], None, value[1], None, math.nan, None, None)
            continue
        known = a.error is not None and b.error is not None
        combined = math.hypot(a.error, b.error) * scale if known else None
        difference = (b.value - a.value) * scale
        same = a.value == b.value or (math.isnan(a.value) and math.isnan(b.value))
        beyond = False if same else abs(difference) > errors * combined if known else None
        if math.isnan(difference) and not same:
            beyond = True
        scaled = [None if score.error is None else score.error * scale for score in (a, b)]
        yield Row(cell, metric, a.value * scale, scaled[0], b.value * scale, scaled[1], difference, combined, beyond)


def _metric(name):
    """How a metric is printed: as in the tables, or under its own name where these leave it out."""
    return METRICS.get(name) or Metric(name, name)


def _changes(first, second, shared):
    """Every value that differs, those of cells with all cells that differ in the same way."""
    found = []
    parts = [("software", {*first["software"], *second["software"]})]
    # A data set or checkpoint of one benchmark alone is told by its cells.
    parts += [(part, set(first[part]) & set(second[part])) for part in ("checkpoints", "datasets")]
    for part, names in parts:
        values = ({name: each[part].get(name) for name in sorted(names)} for each in (first, second))
        found += [Change(part, key, a, b, ()) for key, a, b in _differences(*values)]
    grouped = {}
    for cell in [name for name in shared if name in first["cells"] and name in second["cells"]]:
        for key, a, b in _differences(first["cells"][cell], second["cells"][cell]):
            grouped.setdefault((key, repr(a), repr(b)), (a, b, []))[2].append(cell)
    found += [Change("cells", key, a, b, tuple(cells)) for (key, *_), (a, b, cells) in grouped.items()]
    return found


def _differences(first, second, key=""):
    """``(key, value, value)`` of the innermost values that differ, keys joined by dots."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys([*first, *second]):
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(first.get(name), second.get(name), inner)
    elif first != second:
        yield key, first, second


def markdown(comparison, names, *, errors=2.0, everything=True):
    """The comparison as Markdown; ``names`` of the two benchmarks, ``everything``: rows within the error too."""
    parts = [f"# {names[0]} and {names[1]}", _scores(comparison, names, errors, everything)]
    for name, cells in zip(names, (comparison.only_first, comparison.only_second), strict=True):
        if cells:
            parts.append(f"Cells only in {name}: {', '.join(cells)}")
    parts.append("## What differs in their making\n\n" + _making(comparison, names))
    return "\n\n".join(parts)


def _scores(comparison, names, errors, everything):
    counts = [sum(row.beyond is kind for row in comparison.rows) for kind in (True, None, False)]
    summary = (
        f"{counts[0]} of {len(comparison.rows)} scores differ by more than {errors:g} combined standard errors, "
        f"{counts[1]} cannot be judged, {counts[2]} do not."
    )
    shown = [row for row in comparison.rows if everything or row.beyond is not False]
    if not shown:
        return summary
    words = {True: "yes", False: "", None: UNKNOWN}
    table = pd.DataFrame(
        [(row.cell, _metric(row.metric).name, *_texts(row), words[row.beyond]) for row in shown],
        columns=["cell", "metric", *names, "difference", "beyond"],
    )
    sides = ["left", "left", *["right"] * 3, "left"]
    return f"{summary}\n\n{table.to_markdown(index=False, colalign=sides, disable_numparse=True)}"


def _texts(row):
    values = [_number(row.first, row.first_error), _number(row.second, row.second_error)]
    return [*values, _number(row.difference, row.combined, sign="+")]


def _number(value, error, sign=""):
    """``1.234 ± 0.056``: to two digits of the error, or four of the value."""
    if not math.isfinite(value):
        return "–"
    if not error:
        return f"{value:{sign}.4g}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 4)
    return f"{value:{sign}.{decimals}f} ± {error:.{decimals}f}"


def _making(comparison, names):
    if comparison.unrecorded:
        return f"Not known: no provenance.json in {', '.join(comparison.unrecorded)} (run snakemake again)."
    if not comparison.changes:
        return "Nothing that is recorded."
    rows = []
    for change in comparison.changes:
        where = change.part if not change.cells else ", ".join(change.cells[:3])
        where += f" and {len(change.cells) - 3} more" if len(change.cells) > 3 else ""
        rows.append((where, change.key, *(_short(value) for value in (change.first, change.second))))
    table = pd.DataFrame(rows, columns=["of", "what", *names])
    return table.to_markdown(index=False, disable_numparse=True)


def _short(value):
    text = "–" if value is None else str(value)
    return (text if len(text) <= 40 else f"{text[:37]}...").replace("|", "\\|")


def plain(comparison):
    """The comparison for :func:`json.dumps`; NaN is None."""

    def clean(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "scores": [{key: clean(value) for key, value in row._asdict().items()} for row in comparison.rows],
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
        "changes": [change._asdict() for change in comparison.changes],
        "unrecorded": comparison.unrecorded,
        "differs": comparison.differs,
    }
