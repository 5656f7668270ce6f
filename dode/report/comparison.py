"""Two finished benchmarks compared: scores that differ beyond their errors, and what differs in how they were made."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from dode import texts
from dode.metrics.catalogue import METRICS, Metric
from dode.report import numbers, verdicts
from dode.report.differences import differences
from dode.report.finished import Finished

NO_ERROR = "no error"


class Row(NamedTuple):
    """One metric of one cell in both, scaled as the tables are.

    The errors are standard errors. ``difference`` is the second minus the first, ``margin`` half the width of its
    confidence interval (:func:`dode.report.verdicts.margin`); ``beyond`` whether it is larger than that. It is None
    where that cannot be said, which ``why`` says: an error is not known, the numbers of images differ in a metric that
    depends on them, the fine-step solvers in one that is against them, or the scorers in one of prompts.
    """

    cell: str
    metric: str
    first: float
    first_error: float | None
    second: float
    second_error: float | None
    difference: float
    margin: float | None
    beyond: bool | None
    why: str = ""


class Change(NamedTuple):
    """A value that differs in the records: what it is of, its key, both values (None: there is none), which cells."""

    part: str
    key: str
    first: object
    second: object
    cells: tuple[str, ...]


class Comparison(NamedTuple):
    """What :func:`compare` finds.

    ``unrecorded`` are the folders without a record of what the cells were made of, ``stale`` the cells that an earlier
    configuration has left in a folder.
    """

    rows: list[Row]
    only_first: list[str]
    only_second: list[str]
    changes: list[Change]
    unrecorded: list[str]
    stale: list[str]

    @property
    def differs(self) -> bool:
        """Whether a score differs beyond its error (or differs and has none), or a cell is in one alone."""
        return bool(self.only_first or self.only_second or any(row.beyond is not False for row in self.rows))


def compare(first: Finished, second: Finished, *, confidence: float = verdicts.CONFIDENCE) -> Comparison:
    """Compare two :class:`dode.report.finished.Finished` benchmarks.

    A score is beyond the error where zero is not in the interval of this ``confidence`` around the difference. Where
    nothing changed, of the scores that are not the same to the last digit 1 - confidence are beyond it all the same.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be a number between 0 and 1, not {confidence:g}")
    shared = [name for name in first.cells if name in second.cells]
    found = Comparison(
        rows=[row for name in shared for row in rows(name, confidence, *_pair(name, first, second))],
        only_first=[name for name in first.cells if name not in second.cells],
        only_second=[name for name in second.cells if name not in first.cells],
        changes=[],
        unrecorded=[str(each.folder) for each in (first, second) if each.provenance is None],
        stale=[f"{each.folder}/{name}" for each in (first, second) for name in each.stale],
    )
    return found if found.unrecorded else found._replace(changes=_changes(first.provenance, second.provenance, shared))


def _pair(name, first, second):
    """The scores of a cell in both, and what forbids to compare some of them."""
    files = [each.score_file(name) for each in (first, second)]
    aims = [each.aim(name) for each in (first, second)]
    # By whether a metric has the attribute.
    reasons = {}
    if len({file.get("images") for file in files}) > 1:
        reasons["different number of images"] = lambda metric: not metric.any_count
    if None not in aims and aims[0] != aims[1]:
        reasons["different fine-step solver"] = lambda metric: metric.aim
    scorers = [each.scorers(name) for each in (first, second)]
    faults = {
        metric: _of_scorers(*(own[metric] for own in scorers)) for metric in scorers[0].keys() & scorers[1].keys()
    }
    for why in filter(None, faults.values()):
        reasons[why] = lambda metric, why=why: any(metric is METRICS[name] for name in faults if faults[name] == why)
    return *(file["metrics"] for file in files), reasons


def _of_scorers(first, second):
    """Why scores by two scorers cannot be compared; empty where both are the same."""
    if first == second and first["sha256"] is not None:
        return ""
    return "scorer not recorded" if None in (first["sha256"], second["sha256"]) else "different scorer"


def rows(
    cell: str,
    confidence: float,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    reasons: Mapping[str, Callable[[Metric], bool]] = MappingProxyType({}),
) -> Iterator[Row]:
    """The :class:`Row` of each metric of a cell, of its ``metrics`` in both.

    ``reasons``: why some of them cannot be compared, with whether a metric is one of these.
    """
    for name in [name for name in {**METRICS, **first, **second} if name in first or name in second]:
        metric, pair = _metric(name), (first.get(name), second.get(name))
        margin: float | None = None
        beyond: bool | None = None
        values = [metric.scale * entry["value"] if verdicts.known(entry) else math.nan for entry in pair]
        errors = [metric.scale * error if error else error for error in map(_error, pair)]
        why = next((reason for reason, holds in reasons.items() if holds(metric)), "")
        if None in pair:
            why = "in one alone"
        elif not why:
            if all(map(verdicts.known, pair)):
                margin = verdicts.margin(first[name], second[name], confidence)
                margin = margin if margin is None else metric.scale * margin
            beyond = _beyond(values[0], values[1], margin)
            why = NO_ERROR if beyond is None else ""
        yield Row(cell, name, values[0], errors[0], values[1], errors[1], values[1] - values[0], margin, beyond, why)


def _error(entry):
    return verdicts.standard_error(entry) if verdicts.known(entry) else None


def _beyond(first, second, margin):
    """None where that cannot be said. A score that is finite in one alone has changed beyond any error."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) != math.isnan(second)
    if first == second:
        return False
    return None if margin is None else abs(second - first) > margin


def _metric(name):
    """How a metric is printed: as in the tables, or under its own name where these leave it out."""
    return METRICS.get(name) or Metric(name=name, latex=name, meaning="")


def _changes(first, second, shared):
    """Every value that differs, those of cells with all cells that differ in the same way."""
    found = []
    parts = [("software", {*first["software"], *second["software"]})]
    revisions = [each.get("revision") for each in (first, second)]
    found += [Change("revision", "dode", *revisions, ())] if len(set(revisions)) > 1 else []
    # A data set or checkpoint of one benchmark alone is told by its cells.
    parts += [(part, set(first[part]) & set(second[part])) for part in ("checkpoints", "datasets")]
    for part, names in parts:
        values = ({name: each[part].get(name) for name in sorted(names)} for each in (first, second))
        found += [Change(part, key, a, b, ()) for key, a, b in differences(*values)]
    grouped = {}
    for cell in [name for name in shared if name in first["cells"] and name in second["cells"]]:
        for key, a, b in differences(_made(first, cell), _made(second, cell)):
            grouped.setdefault((key, repr(a), repr(b)), (a, b, []))[2].append(cell)
    found += [Change("cells", key, a, b, tuple(cells)) for (key, *_), (a, b, cells) in grouped.items()]
    return found


def _made(record, cell):
    """What a cell was made of and on, its environments in place of their indices."""
    own = dict(record["cells"][cell])
    for kind, indices in own.pop("environments", {}).items():
        # Which shard came first says nothing.
        found = sorted((record["environments"][index] for index in indices), key=json.dumps)
        own[f"{kind} made with"] = found[0] if len(found) == 1 else found
    return own


def markdown(
    comparison: Comparison, names: Sequence[str], *, confidence: float = verdicts.CONFIDENCE, everything: bool = True
) -> str:
    """The comparison as Markdown; ``names`` of the two benchmarks, ``everything``: rows within the error too."""
    parts = [f"# {names[0]} and {names[1]}", _scores(comparison, names, confidence, everything)]
    for name, cells in zip(names, (comparison.only_first, comparison.only_second), strict=True):
        if cells:
            parts.append(f"Cells only in {name}: {', '.join(cells)}")
    if comparison.stale:
        parts.append(f"Left behind by an earlier configuration, and not compared: {', '.join(comparison.stale)}")
    parts.append("## What differs in how they were made\n\n" + _making(comparison, names))
    return "\n\n".join(parts)


def _scores(comparison, names, confidence, everything):
    rows = comparison.rows
    counts = [sum(row.beyond is kind for row in rows) for kind in (True, None, False)]
    same = sum(row.first == row.second for row in rows)
    chance = sum(row.margin is not None and row.first != row.second for row in rows) * (1 - confidence)
    summary = (
        f"{counts[0]} of {len(rows)} scores differ beyond their error, with {confidence:.4g} confidence each; "
        f"{counts[1]} cannot be judged, {counts[2]} do not, of these {same} are equal to the last digit. Had nothing "
        f"changed but rounding or noise, {chance:.2g} would be beyond by chance."
    )
    shown = [row for row in rows if everything or row.beyond is not False]
    if not shown:
        return summary
    table = pd.DataFrame(
        [(row.cell, _metric(row.metric).name, *_texts(row), "yes" if row.beyond else row.why) for row in shown],
        columns=["cell", "metric", *names, "difference", "beyond"],
    )
    sides = ["left", "left", *["right"] * 3, "left"]
    note = f"± is the standard error; for a difference, half its {confidence:.4g} confidence interval."
    return f"{summary}\n\n{table.to_markdown(index=False, colalign=sides, disable_numparse=True)}\n\n{note}"


def _texts(row):
    values = [_number(row.first, row.first_error), _number(row.second, row.second_error)]
    return [*values, _number(row.difference, row.margin, sign="+")]


def _number(value, error, sign=""):
    """``1.234 ± 0.056``."""
    return " ± ".join(filter(None, numbers.measured(value, error, sign))) or "–"


def _making(comparison, names):
    if comparison.unrecorded:
        return f"Unknown: there is no provenance.json in {', '.join(comparison.unrecorded)} (run snakemake again)."
    if not comparison.changes:
        return "Nothing that was recorded."
    return changed(comparison.changes, names)


def changed(changes: Sequence[Change], names: Sequence[str]) -> str:
    """What differs in how two were made, as a pipe table; ``names`` of the two."""
    rows = []
    for change in changes:
        where = change.part if not change.cells else ", ".join(change.cells[:3])
        where += f" and {len(change.cells) - 3} more" if len(change.cells) > 3 else ""
        rows.append((where, change.key, *(_short(value) for value in (change.first, change.second))))
    table = pd.DataFrame(rows, columns=["of", "what", *names])
    return table.to_markdown(index=False, disable_numparse=True)


def _short(value):
    text = "–" if value is None else texts.shown(value)
    return (text if len(text) <= 40 else f"{text[:37]}...").replace("|", "\\|")


def plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison for :func:`json.dumps`; NaN is None."""

    def clean(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "scores": [{key: clean(value) for key, value in row._asdict().items()} for row in comparison.rows],
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
        "changes": [change._asdict() for change in comparison.changes],
        "unrecorded": comparison.unrecorded,
        "stale": comparison.stale,
        "differs": comparison.differs,
    }
