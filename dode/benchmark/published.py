"""Published FIDs (config/published_fids.csv), and which of them stand for the same thing as a cell.

A published number is shown beside a measured one where all of its convention agrees; what a source does not say is
unknown, and what is unknown agrees with nothing. The columns are described in docs/published.md. Imports no torch.
"""

import functools
from pathlib import Path
from typing import Any, TypeAlias

from dode import grids, solvers
from dode.benchmark import csv_rows
from dode.weights import foreign_json

#: What the source says, in its own words.
SOURCE = (
    *("dataset", "checkpoint", "solver", "nfe", "fid", "n_samples"),
    *("method_class", "source", "verified", "notes"),
)
#: The same in this project's names, for comparison; empty where the source does not say it.
CONVENTION = ("file", "method", "options", "grid", "ends_at", "statistics", "classes", "distilled")
#: What the column ``distilled`` says of a plain solver.
PLAIN = "none"
#: Noise level at which samplers end here.
END = 0.0
#: The file, below the root of the checkout.
FILE = Path("config") / "published_fids.csv"
#: Images of a published FID by convention. More are as good; fewer bias it, so their number must be the same.
MANY_IMAGES = 50_000

#: A row of the file, parsed.
Row: TypeAlias = dict[str, Any]


def read(path: str | Path) -> list[Row]:
    """The rows of the file at ``path``; none where there is no such file.

    Returns:
        One dict a row with the columns of the file, parsed: ``nfe``, ``n_samples`` and ``ends_at`` are numbers,
        ``options`` and the grid's options have the defaults filled in, ``classes`` and ``distilled`` are dicts (or
        ``"none"``, of a plain solver). None stands for what is unknown. ``fid`` stays the text that was published.

    Raises:
        dode.benchmark.config.ConfigError: for a column that is missing or unknown, or a value that means nothing here;
            it names the line and the column.
    """
    path = Path(path)
    if not path.is_file():
        return []
    state = path.stat()
    return list(_read(path, (state.st_size, state.st_mtime_ns)))


@functools.lru_cache(maxsize=1)
def _read(path: Path, state: tuple[int, int]) -> list[Row]:
    return csv_rows.read(path, [*SOURCE, *CONVENTION], _PARSERS)


def _fid(row: dict[str, str]) -> str:
    """The text, for its digits."""
    csv_rows.number(row["fid"], float, "a number of at least 0")
    return row["fid"]


def _source(row: dict[str, str]) -> str:
    if not row["source"]:
        raise ValueError("it is empty; every published number needs a source")
    if "|" in row["source"] + row["notes"]:
        raise ValueError("'|' is not allowed in source or notes, because tables put it between two sources")
    return row["source"]


def _nfe(row: dict[str, str]) -> int | None:
    """A number; None where the source has only an approximate one (``~140``)."""
    return int(row["nfe"]) if row["nfe"].isdecimal() else None


def _object(text: str) -> dict[str, Any]:
    try:
        value = foreign_json.parsed(text.encode(), "it", ValueError)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is not a JSON object")
    return value


def _method(row: dict[str, str]) -> str | None:
    return _solver(row["method"], "{}").name if row["method"] else None


def _options(row: dict[str, str]) -> dict[str, Any] | None:
    if not row["options"]:
        return None
    if not row["method"]:
        raise ValueError("options need a method")
    return _solver(row["method"], row["options"]).options


@functools.cache
def _solver(name: str, options: str) -> solvers.Solver:
    return solvers.create(name, **_object(options))


@functools.cache
def _grid(text: str) -> dict[str, Any]:
    grid = {"options": {}, **_object(text)}
    if set(grid) != {"name", "options"} or not isinstance(grid["options"], dict):
        raise ValueError(f"{text!r} is not a grid, which has a name and options")
    grids.refuse_filled(grid["options"])
    grids.grids.check_options(grid["name"], {"steps": 1, **grid["options"]})
    return {"name": grid["name"], "options": {**grids.defaults(grid["name"]), **grid["options"]}}


def _level(text: str) -> float:
    return csv_rows.number(text, float, "a noise level of at least 0")


_PARSERS = {
    "nfe": _nfe,
    "fid": _fid,
    "source": _source,
    "n_samples": lambda row: csv_rows.number(row["n_samples"], int, "a number of images"),
    "method": _method,
    "options": _options,
    "grid": lambda row: _grid(row["grid"]) if row["grid"] else None,
    "ends_at": lambda row: _level(row["ends_at"]) if row["ends_at"] else None,
    "classes": lambda row: _object(row["classes"]) if row["classes"] else None,
    "distilled": lambda row: row["distilled"] or None if row["distilled"] in ("", PLAIN) else _object(row["distilled"]),
}


def comparable(
    rows: list[Row], *, file: str, statistics: str | None, images: int, classes: dict[str, Any]
) -> list[Row]:
    """The rows of a checkpoint whose every convention is known, and that of a dataset.

    Args:
        rows: as :func:`read` returns them.
        file: the published name of the checkpoint; datasets follow from it.
        statistics: the card of the reference statistics, None where they are made from images.
        images: images per seed.
        classes: ``{"labels": ..., "guidance": ...}`` of the dataset's entry; empty for a model without classes.
    """
    return [
        row
        for row in rows
        if row["file"] == file
        and row["ends_at"] == END
        and statistics is not None
        and row["statistics"] == statistics
        and row["classes"] == classes
        and (row["n_samples"] == images or min(row["n_samples"], images) >= MANY_IMAGES)
        and row["nfe"] is not None
        and None not in (row["options"], row["grid"])
        and row["distilled"] is not None
    ]


def matching(
    rows: list[Row],
    *,
    solver: str,
    options: dict[str, Any],
    grid: dict[str, Any],
    nfe: int,
    distill: dict[str, Any] | None,
    **convention: Any,
) -> list[Row]:
    """The rows of :func:`comparable` that stand for a cell too, in the order of the file.

    Args:
        rows: as :func:`read` returns them.
        solver: the solver's name, with its ``options``; defaults are filled in.
        grid: ``{"name": ..., "options": ...}``, what the model fixes and the defaults filled in
            (:func:`dode.grids.complete`).
        nfe: number of network evaluations.
        distill: the key ``distill`` of the solver's entry, defaults filled in, None for a plain solver.
        convention: the dataset's, as for :func:`comparable`.
    """
    cell = {
        "method": solver,
        "options": solvers.create(solver, **options).options,
        "grid": grid,
        "nfe": nfe,
        "distilled": distill or PLAIN,
    }
    return [row for row in comparable(rows, **convention) if all(row[key] == cell[key] for key in cell)]


def quoted(rows: list[Row]) -> list[dict[str, str]]:
    """What a table shows of the rows: ``{"fid": the text, "source": who published it, with the notes}`` each."""
    notes = [f" ({row['notes']})" if row["notes"] else "" for row in rows]
    return [{"fid": row["fid"], "source": row["source"] + note} for row, note in zip(rows, notes, strict=True)]
