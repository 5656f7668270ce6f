"""The tidy frame of scores as Markdown and LaTeX."""

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
    for dataset in frame["dataset"].unique():
        for metric, kind in METRICS.items():
            rows = frame[(frame["dataset"] == dataset) & (frame["metric"] == metric)]
            if len(rows) and kind.tabled:
                yield _table(dataset, metric, rows)


def _table(dataset, metric, rows):
    kind = METRICS[metric]
    rows = rows.assign(entry=frames.entries(rows), place=ranking.UNMARKED)
    rows = rows.assign(value=rows["value"] * kind.scale, error=rows["error"] * kind.scale)
    halves = rows["solver"] == HALVES
    body = ~halves & ~rows["reference"]
    for _, column in rows[body].groupby("nfe"):
        rows.loc[column.index, "place"] = ranking.places(column["entry"], lower_is_better=kind.lower_is_better)
    cells, measured = rows[body], rows[~halves]
    own = [cells[cells["solver"] == solver] for solver in _paired(cells)]
    references = [(f"{row.label} (NFE {row.nfe})", _cell(row)) for row in rows[rows["reference"]].itertuples()]
    return latex.Table(
        dataset=dataset,
        metric=metric,
        nfes=sorted(cells["nfe"].unique()),
        body=[(some["label"].iloc[0], {row.nfe: _cell(row) for row in some.itertuples()}) for some in own],
        foot=references + [(row.label, _cell(row)) for row in rows[halves].itertuples()],
        images=_count(measured["images"], "image"),
        seeds=_count(measured["seeds"], "seed"),
        halves=_count(rows[halves]["seeds"], "pair") + " of random halves" if halves.any() else "",
        errors=[name for name in ERROR_KINDS if (measured["error_kind"] == name).any()],
        sources=_sources(measured),
        elsewhere=[text for text in dict.fromkeys(cells["measured"]) if text],
        passes=passes.sentence(
            (int(nfe), None if pd.isna(own) else int(own))
            for nfe, own in zip(cells["nfe"], cells["passes"], strict=True)
        ),
    )


def _cell(row):
    return row.value, row.error, row.published, row.place


def _sources(cells):
    """Who published what: (source, the values with solver and NFE), each source once."""
    found = {}
    for row in cells[cells["published"] != ""].itertuples():
        values, sources = row.published.split(SEPARATOR), row.published_source.split(SEPARATOR)
        for value, source in zip(values, sources, strict=True):
            found.setdefault(source, []).append(f"{value} ({row.label}, NFE {row.nfe})")
    return [(source, "; ".join(values)) for source, values in found.items()]


def _paired(cells):
    """Solvers with the distilled ones right under the plain ones of their method; else in the order of the frame."""
    solvers = cells.drop_duplicates("solver")
    rank = {method: i for i, method in enumerate(solvers["method"].unique())}
    keyed = zip(solvers["method"], solvers["distilled"], solvers["solver"], strict=True)
    return [solver for _, _, solver in sorted(keyed, key=lambda key: (rank[key[0]], key[1]))]


def _count(column, noun):
    numbers = sorted(int(x) for x in column.dropna().unique())
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
    published = f"{_count(pd.Series([count]), 'FID')} of this checkpoint in `config/published_fids.csv`"
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
