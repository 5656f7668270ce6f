"""Scores as one tidy frame, and that frame as CSV, Markdown and LaTeX."""

import dataclasses
import math
import re
from types import MappingProxyType

import numpy as np
import pandas as pd

from dode import storage
from dode.registry import unknown


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is printed: its name, its name in LaTeX, the factor on its values, their unit, its direction."""

    name: str
    latex: str
    scale: float = 1.0
    unit: str = ""
    lower_is_better: bool = True

    @property
    def direction(self):
        """``"lower is better"`` or ``"higher is better"``."""
        return f"{'lower' if self.lower_is_better else 'higher'} is better"


PIXELS = "images in [−1, 1]"
#: The metrics in the order of the report.
METRICS = MappingProxyType(
    {
        "fid": Metric("FID", "FID"),
        "self_fid": Metric("self-FID", "self-FID"),
        "kid": Metric("KID × 10³", r"KID $\times\,10^3$", scale=1e3),
        "trajectory_rmse": Metric("trajectory RMSE", "trajectory RMSE", unit=PIXELS),
    }
)
FLOOR = "floor"
_COLUMNS = {
    "dataset": "str",
    "solver": "str",
    "label": "str",
    "method": "str",
    "distilled": "bool",
    "reference": "bool",
    "nfe": "Int64",
    "metric": "str",
    "mean": "float64",
    "sd": "float64",
    "seeds": "int64",
    "images": "Int64",
    "published": "str",
    "published_source": "str",
}
# Between several published values of a cell, and between their sources.
_SEPARATOR = " | "
_MOST_DECIMALS = 4


def tidy(scores, floors):
    """One row per cell and metric, then the floors of each dataset, as a frame.

    Args:
        scores: one dict per cell, as in its ``score.json``; ``published`` of a cell, if there, is a list of published
            FIDs, ``{"fid": text, "source": text}``.
        floors: one dict per dataset, ``{"dataset": ..., "floor": {metric: [value per pair of random halves]}}``.

    Returns:
        Columns dataset, solver, label, method, distilled, reference, nfe, metric, mean, sd, seeds, images, published,
        published_source. Datasets and solvers stand in the order of their first appearance. ``sd`` is the sample
        standard deviation, NaN for one seed; values are unscaled. A floor's solver and method are ``"floor"``, its
        ``seeds`` the number of pairs of halves. What is published is text, empty where nothing is, several values and
        their sources with ``" | "`` between them.

    Raises:
        ValueError: for an unknown metric, or a cell that appears twice.
    """
    rows = [row for score in scores for row in _rows(score, score["metrics"])]
    for floor in floors:
        name = {"solver": FLOOR, "label": "real vs real (floor)", "method": FLOOR}
        cell = {"dataset": floor["dataset"], **name, "distilled": False, "reference": False, "nfe": None}
        rows += _rows({**cell, "images": floor.get("images")}, floor["floor"])
    datasets, solvers, metrics = (
        {name: i for i, name in enumerate(dict.fromkeys(names))}
        for names in ([row["dataset"] for row in rows], [row["solver"] for row in rows], METRICS)
    )
    # Floors come last in the list, so that "floor" is the last solver too.
    rows.sort(key=lambda r: (datasets[r["dataset"]], solvers[r["solver"]], r["nfe"] or 0, metrics[r["metric"]]))
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)
    twice = frame.duplicated(["dataset", "solver", "nfe", "metric"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise ValueError(
            f"two scores for solver '{first.solver}' on '{first.dataset}' at NFE {first.nfe} ({first.metric})"
        )
    return frame


def _rows(cell, metrics):
    for metric, values in metrics.items():
        if metric not in METRICS:
            raise ValueError(unknown("metric", metric, METRICS))
        if not values:  # the reference has no distance to itself
            continue
        values = np.array(values, dtype=np.float64)
        mean = values.mean()
        spread = values.std(ddof=1) if len(values) > 1 and math.isfinite(mean) else math.nan
        statistics = {"metric": metric, "mean": mean, "sd": spread, "seeds": len(values)}
        published = cell.get("published", []) if metric == "fid" else []
        for column, key in (("published", "fid"), ("published_source", "source")):
            statistics[column] = _SEPARATOR.join(found[key] for found in published)
        yield {key: {**cell, **statistics}[key] for key in _COLUMNS}


def write_csv(frame, path):
    """Write a :func:`tidy` frame, unscaled and to the last digit; :func:`read_csv` gives it back."""
    with storage.atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_csv(path):
    """The frame that :func:`write_csv` wrote."""
    # float() gives back every digit; which float_precision of read_csv does depends on the version of pandas.
    numbers = dict.fromkeys(("mean", "sd"), lambda text: float(text or "nan"))
    others = {key: dtype for key, dtype in _COLUMNS.items() if key not in numbers}
    # A solver may be called "NA": empty is the only missing value, and only in these columns.
    missing = {"nfe": [""], "images": [""]}
    frame = pd.read_csv(path, dtype=others, converters=numbers, na_values=missing, keep_default_na=False)
    return frame[list(_COLUMNS)].astype(_COLUMNS)


@dataclasses.dataclass(frozen=True)
class _Table:
    """One dataset and metric: body rows ``(label, {nfe: cell})``, foot rows ``(label, cell)``.

    A cell is ``(mean, sd, published)``, scaled; ``sources`` are ``(source, [what it published])``.
    """

    dataset: str
    metric: str
    nfes: list
    body: list
    foot: list
    best: dict
    decimals: int
    images: str
    seeds: str
    halves: str
    spread: bool
    sources: list

    def value(self, mean, sd, published, plus_minus, bold="{}"):
        """``mean ± sd [published]``; the mean alone for one seed."""
        # Adding 0.0 turns a -0.0 left by the rounding into 0.0.
        shown = [f"{round(x, self.decimals) + 0.0:.{self.decimals}f}" for x in (mean, sd) if math.isfinite(x)]
        text = bold.format(f" {plus_minus} ".join(shown)) if math.isfinite(mean) else "not finite"
        values = ", ".join(dict.fromkeys(published.split(_SEPARATOR)))
        return f"{text} [{values}]" if values else text

    def rows(self, plus_minus, bold, missing):
        """Body rows as lists of text, label first and not yet escaped."""
        for label, cells in self.body:
            texts = [label]
            for nfe in self.nfes:
                if nfe not in cells:
                    texts.append(missing)
                    continue
                best = cells[nfe][0] == self.best.get(nfe)
                texts.append(self.value(*cells[nfe], plus_minus, bold if best else "{}"))
            yield texts


def _tables(frame):
    for dataset in frame["dataset"].unique():
        for metric in METRICS:
            rows = frame[(frame["dataset"] == dataset) & (frame["metric"] == metric)]
            if len(rows):
                yield _table(dataset, metric, rows)


def _table(dataset, metric, rows):
    kind = METRICS[metric]
    rows = rows.assign(mean=rows["mean"] * kind.scale, sd=rows["sd"] * kind.scale)
    floor = rows["solver"] == FLOOR
    cells = rows[~floor & ~rows["reference"]]
    body = []
    for solver in _paired(cells):
        own = cells[cells["solver"] == solver]
        body.append((own["label"].iloc[0], {row.nfe: (row.mean, row.sd, row.published) for row in own.itertuples()}))
    references, floors = rows[rows["reference"]].itertuples(), rows[floor].itertuples()
    foot = [(f"{row.label} (NFE {row.nfe})", (row.mean, row.sd, row.published)) for row in references]
    foot += [(row.label, (row.mean, row.sd, row.published)) for row in floors]
    finite = cells[np.isfinite(cells["mean"])].groupby("nfe")["mean"]
    measured = rows[~floor]
    return _Table(
        dataset=dataset,
        metric=metric,
        nfes=sorted(cells["nfe"].unique()),
        body=body,
        foot=foot,
        best=(finite.min() if kind.lower_is_better else finite.max()).to_dict(),
        decimals=_decimals(cells if len(cells) else rows),
        images=_count(measured["images"], "image"),
        seeds=_count(measured["seeds"], "seed"),
        halves=_count(rows[floor]["seeds"], "pair") + " of random halves of the real images" if floor.any() else "",
        spread=bool(measured["sd"].notna().any()),
        sources=_sources(measured),
    )


def _sources(cells):
    """Who published what: (source, the values with solver and NFE), each source once."""
    found = {}
    for row in cells[cells["published"] != ""].itertuples():
        values, sources = row.published.split(_SEPARATOR), row.published_source.split(_SEPARATOR)
        for value, source in zip(values, sources, strict=True):
            found.setdefault(source, []).append(f"{value} ({row.label}, NFE {row.nfe})")
    return [(source, "; ".join(values)) for source, values in found.items()]


def _paired(cells):
    """Solvers with the distilled ones right under the plain ones of their method; else in the order of the frame."""
    solvers = cells.drop_duplicates("solver")
    rank = {method: i for i, method in enumerate(solvers["method"].unique())}
    keyed = zip(solvers["method"], solvers["distilled"], solvers["solver"], strict=True)
    return [solver for _, _, solver in sorted(keyed, key=lambda key: (rank[key[0]], key[1]))]


def _decimals(cells):
    """Decimals that show two digits of the median error (three of the median value without errors), at most 4."""
    # The median: with the smallest error a lone stable cell would dress the whole table in meaningless digits.
    for column, digits in (("sd", 2), ("mean", 3)):
        sizes = cells[column].abs()
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        if len(sizes):
            return int(np.clip(digits - 1 - math.floor(math.log10(sizes.median())), 0, _MOST_DECIMALS))
    return 0


def _count(column, noun):
    numbers = sorted(int(x) for x in column.dropna().unique())
    if not numbers:
        return ""
    ends = " to ".join(f"{x:,}" for x in dict.fromkeys((numbers[0], numbers[-1])))
    return f"{ends} {noun}{'' if numbers == [1] else 's'}"


def write_markdown(frame, path, title="Results", incomparable=MappingProxyType({})):
    """Write one pipe table per dataset and metric; rows are solvers, columns NFE, the best mean per column bold.

    ``incomparable``: of a dataset's checkpoint, how many FIDs are published that no measured one compares with.
    """
    parts, dataset = [f"# {_markdown(title)}"], None
    for table in _tables(frame):
        if table.dataset != dataset:
            dataset = table.dataset
            parts.append(f"## {_markdown(dataset)}")
            parts += [_remark(incomparable[dataset])] if dataset in incomparable else []
        parts += [f"### {METRICS[table.metric].name}", _note(table), _pipe_table(table)]
        if table.sources:
            parts.append("Published:\n\n" + "\n".join(f"- {_markdown(text)}" for text in map(": ".join, table.sources)))
    with storage.atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _remark(count):
    published = f"{_count(pd.Series([count]), 'FID')} of this checkpoint in `config/published_fids.csv`"
    return f"Not shown, because not comparable: {published}, published at other or unstated conventions."


def _note(table):
    sentences = []
    if table.seeds:
        sentences.append(", ".join(filter(None, (table.images and f"{table.images} per cell", table.seeds))))
    if table.spread:
        sentences.append("± is the sample standard deviation over seeds")
    kind = METRICS[table.metric]
    sentences.append(f"{kind.direction}, best mean per NFE in bold")
    if table.halves:
        sentences.append(f"floor over {table.halves}")
    if kind.unit:
        sentences.append(f"unit: {kind.unit}")
    if table.sources:
        sentences.append("in brackets: published at the same checkpoint, solver, NFE and convention")
    return "; ".join(sentences) + "."


def _pipe_table(table):
    rows = [[_markdown(label), *texts] for label, *texts in table.rows("±", "**{}**", "–")]
    header = ["solver", *(f"NFE {nfe}" for nfe in table.nfes)]
    if table.foot:
        # A column of their own: neither the teacher nor the floor belongs to any NFE of the columns.
        rows = [[*row, ""] for row in rows]
        blank = [""] * len(table.nfes)
        rows += [[_markdown(label), *blank, table.value(*value, "±")] for label, value in table.foot]
        header.append("reference")
    alignment = ["left", *["right"] * (len(header) - 1)]
    return pd.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True, colalign=alignment)


def _markdown(text):
    return re.sub(r"([\\|*_<`\[\]])", r"\\\1", text)


_LATEX = {
    **{character: f"\\{character}" for character in "{}_&%$#"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "−": "$-$",
}


def _latex(text):
    return "".join(_LATEX.get(character, character) for character in text)


def write_latex(frame, path):
    r"""Write the same tables as ``table`` environments to ``\input``; they need the package booktabs."""
    parts = [r"% Needs \usepackage{booktabs}.", *(_latex_table(table) for table in _tables(frame))]
    with storage.atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _latex_table(table):
    columns = max(len(table.nfes), 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{METRICS[table.metric].latex} on {_latex(table.dataset)}. {_latex(_note(table))}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', f'{table.dataset}-{table.metric}')}}}",
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
        " & ".join(["solver", *(f"NFE {nfe}" for nfe in table.nfes)]) + r" \\",
        r"\midrule",
    ]
    rows = table.rows(r"$\pm$", r"\textbf{{{}}}", "--")
    lines += [" & ".join([_latex(label), *texts]) + r" \\" for label, *texts in rows]
    if table.foot and table.body:
        lines.append(r"\midrule")
    for label, value in table.foot:
        text = table.value(*value, r"$\pm$")
        lines.append(rf"{_latex(label)} & \multicolumn{{{columns}}}{{c}}{{{text}}} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.sources:
        sources = " ".join(f"{_latex(text)}." for text in map(": ".join, table.sources))
        lines.append(rf"\par\medskip{{\footnotesize Published: {sources}\par}}")
    return "\n".join([*lines, r"\end{table}"])
