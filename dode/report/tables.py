"""The tidy frame of scores as Markdown and LaTeX."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from dode import storage
from dode.metrics.catalogue import ERROR_KINDS, METRICS
from dode.names import HALVES
from dode.report import frame as frames
from dode.report import latex, passes, preface, ranking
from dode.report.frame import SEPARATOR
from dode.report.preface import escaped, pipes

_MARKDOWN = {ranking.BEST: "**{}**", ranking.SECOND: "*{}*", ranking.UNMARKED: "{}"}
_TEX = {ranking.BEST: r"\textbf{{{}}}", ranking.SECOND: r"\underline{{{}}}", ranking.UNMARKED: "{}"}
_FLOATS = 18


def _tables(frame):
    # Rows as tuples: a table of its own as a frame takes pandas tens of milliseconds, and a benchmark has hundreds.
    found = {}
    for row in frame.itertuples(index=False):
        found.setdefault(row.dataset, {}).setdefault(row.metric, []).append(row)
    for dataset, of_metric in found.items():
        for metric, kind in METRICS.items():
            if metric in of_metric and kind.tabled:
                yield _table(dataset, metric, of_metric[metric])


def _table(dataset, metric, rows):
    measured, halves = ([row for row in rows if (row.solver == HALVES) == is_halves] for is_halves in (False, True))
    cells, references = ([row for row in measured if row.reference == is_one] for is_one in (False, True))
    places, cell = _places(cells, metric), functools.partial(_cell, METRICS[metric])
    body = {solver: (label, {}) for solver, label in _paired(cells)}
    for row, place in zip(cells, places, strict=True):
        body[row.solver][1][row.nfe] = cell(row, place)
    return latex.Table(
        dataset=dataset,
        metric=metric,
        nfes=sorted({row.nfe for row in cells}),
        body=list(body.values()),
        foot=[(f"{row.label} (NFE {row.nfe})", cell(row)) for row in references]
        + [(row.label, cell(row)) for row in halves],
        images=_count((row.images for row in measured), "image"),
        seeds=_count((row.seeds for row in measured), "seed"),
        halves=_count((row.seeds for row in halves), "pair") + " of random halves" if halves else "",
        errors=[name for name in ERROR_KINDS if any(row.error_kind == name for row in measured)],
        sources=_sources(measured),
        elsewhere=[text for text in dict.fromkeys(row.measured for row in cells) if text],
        passes=passes.sentence((row.nfe, None if pd.isna(row.passes) else row.passes) for row in cells),
    )


def _places(cells, metric):
    """The mark of each row among those of its NFE."""
    found, columns = [ranking.UNMARKED] * len(cells), {}
    for index, row in enumerate(cells):
        columns.setdefault(row.nfe, []).append(index)
    for column in columns.values():
        own = [frames.entry(cells[index]) for index in column]
        marks = ranking.places(own, lower_is_better=METRICS[metric].lower_is_better)
        for index, mark in zip(column, marks, strict=True):
            found[index] = mark
    return found


def _cell(kind, row, place=ranking.UNMARKED):
    return row.value * kind.scale, row.error * kind.scale, row.published, place


def _sources(cells):
    """Who published what: (source, the values with solver and NFE), each source once."""
    found = {}
    for row in cells:
        if not row.published:
            continue
        values, sources = row.published.split(SEPARATOR), row.published_source.split(SEPARATOR)
        for value, source in zip(values, sources, strict=True):
            found.setdefault(source, []).append(f"{value} ({row.label}, NFE {row.nfe})")
    return [(source, "; ".join(values)) for source, values in found.items()]


def _paired(cells):
    """(solver, label), the distilled ones right under the plain ones of their method; else in the order of the rows."""
    first = {}
    for row in cells:
        first.setdefault(row.solver, row)
    methods = list(dict.fromkeys(row.method for row in first.values()))
    ordered = sorted(first.values(), key=lambda row: (methods.index(row.method), row.distilled))
    return [(row.solver, row.label) for row in ordered]


def _count(numbers, noun):
    numbers = sorted({int(x) for x in numbers if not pd.isna(x)})
    if not numbers:
        return ""
    ends = " to ".join(f"{x:,}" for x in dict.fromkeys((numbers[0], numbers[-1])))
    return f"{ends} {noun}{'' if numbers == [1] else 's'}"


def write_markdown(
    frame: pd.DataFrame,
    path: str | Path,
    title: str = "Results",
    incomparable: Mapping[str, int] = MappingProxyType({}),
    closing: Sequence[str] = (),
) -> None:
    """Write how solvers rank, then one pipe table per dataset and metric; rows are solvers, columns NFE.

    ``incomparable``: of a dataset's checkpoint, how many FIDs are published that no measured one compares with.
    ``closing``: what comes after the tables, in parts.
    """
    parts, dataset = [f"# {escaped(title)}", *preface.opening(frame)], None
    for table in _tables(frame):
        if table.dataset != dataset:
            dataset = table.dataset
            parts += [f"## {escaped(dataset)}", *preface.against(frame[frame["dataset"] == dataset])]
            parts += [_remark(incomparable[dataset])] if dataset in incomparable else []
        parts += [f"### {METRICS[table.metric].name}", _note(table, escaped), _pipe_table(table)]
        if table.sources:
            parts.append("Published:\n\n" + "\n".join(f"- {escaped(text)}" for text in map(": ".join, table.sources)))
    with storage.atomic(path) as temporary:
        temporary.write_text("\n\n".join([*parts, *closing]) + "\n", encoding="utf-8", newline="\n")


def _remark(count):
    published = f"{_count([count], 'FID')} of this checkpoint in `config/published_fids.csv`"
    return f"Not shown, because not comparable: {published}, published under other or unstated conventions."


def _note(table, quoted=str):
    sentences = []
    if table.seeds:
        sentences.append(", ".join(filter(None, (table.images and f"{table.images} per cell", table.seeds))))
    if table.errors:
        sentences.append("± is " + " or ".join(ERROR_KINDS[kind] for kind in table.errors))
    if table.passes:
        sentences.append(table.passes)
    kind = METRICS[table.metric]
    sentences.append(kind.direction)
    if table.halves:
        sentences.append(f"real halves: mean over {table.halves}")
    if kind.unit:
        sentences.append(f"unit: {kind.unit}")
    sentences += map(quoted, table.elsewhere)
    if table.sources:
        sentences.append("in brackets: published for the same checkpoint, solver, NFE and convention")
    return "; ".join(sentences) + "."


def _pipe_table(table):
    rows = [
        [escaped(label), *(_pipe_cell(table, cells[nfe]) if nfe in cells else "–" for nfe in table.nfes)]
        for label, cells in table.body
    ]
    header = ["solver", *(f"NFE {nfe}" for nfe in table.nfes)]
    if table.foot:
        # A column of their own: neither the teacher nor real images belong to any NFE of the columns.
        rows = [[*row, ""] for row in rows]
        blank = [""] * len(table.nfes)
        rows += [[escaped(label), *blank, _pipe_cell(table, cell)] for label, cell in table.foot]
        header.append("reference")
    return pipes(rows, header)


def _pipe_cell(table, cell):
    """``value ± error [published]``; the value alone where there is no error."""
    value, error, published = table.parts(cell)
    text = _MARKDOWN[cell[-1]].format(f"{value} ± {error}" if error else value)
    return f"{text} [{published}]" if published else text


def write_latex(frame: pd.DataFrame, path: str | Path, width: float = 345) -> None:
    r"""Write the same tables as ``table`` environments to ``\input``; they need the package booktabs.

    No row is wider than ``width``, in pt: a line of text over the whole page. The default is that of article.
    """
    environments: list[str] = []
    for table in _tables(frame):
        title = f"{METRICS[table.metric].latex} on {latex.escaped(table.dataset)}"
        note = f"{latex.escaped(_note(table))} {ranking.LEGEND.format('underlining')}"
        environments += latex.environments(table, title, note, _TEX, width)
    parts = [r"% Needs \usepackage{booktabs}."]
    for i in range(0, len(environments), _FLOATS):
        # LaTeX gives up when too many wait for a place, as where a document has nothing but tables.
        parts += [r"\clearpage"] * (i > 0) + environments[i : i + _FLOATS]
    with storage.atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")
