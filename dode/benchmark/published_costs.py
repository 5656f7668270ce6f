"""Published costs of methods that train a network or learn a solver (config/published_costs.csv). Imports no torch.

They are of other networks, on other devices; docs/figures.md describes the columns and what may be compared.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from dode.benchmark import csv_rows

#: The file, below the root of the checkout.
FILE = Path("config") / "published_costs.csv"
COLUMNS = (
    *("method", "dataset", "image_shape", "nfe", "fid"),
    *("hours", "device", "updates", "batch_size", "trajectories", "teacher_nfe", "source"),
)

_Row: TypeAlias = dict[str, str]


def read(path: str | Path) -> list[dict[str, Any]]:
    """The rows of the file at ``path``; none where there is no such file.

    Returns:
        One dict a row with the columns of the file, parsed, None where the source does not say it: ``image_shape`` is
        (C, H, W); ``hours`` are those of one ``device``, of several added up, and the upper end of what the source has
        as a bound or a range; ``fid`` stays the text that was published. Besides, ``images``: those that training took
        (updates times batch size), or None.

    Raises:
        dode.benchmark.config.ConfigError: for a column that is missing or unknown, a value that means nothing, a row
            without source or without any cost; it names the line and the column.
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = csv_rows.read(path, COLUMNS, _PARSERS)
    return [{**row, "images": row["updates"] * row["batch_size"] if row["updates"] else None} for row in rows]


def _text(column: str) -> Callable[[_Row], str]:
    def parse(row: _Row) -> str:
        if not row[column]:
            raise ValueError("it is empty; every published cost needs one")
        return row[column]

    return parse


def _shape(row: _Row) -> tuple[int, ...]:
    sides = row["image_shape"].split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"{row['image_shape']!r} is not a shape of images such as 3x32x32")
    return tuple(map(int, sides))


def _count(column: str, *, needed_by: str = "") -> Callable[[_Row], int | None]:
    """A whole number of at least 1, or None where neither it nor the column that needs it is there."""

    def parse(row: _Row) -> int | None:
        if needed_by and row[needed_by] and not row[column]:
            raise ValueError(f"it is empty, but '{needed_by}' is not")
        return int(csv_rows.number(row[column], int, "a whole number of at least 1", least=1)) if row[column] else None

    return parse


def _fid(row: _Row) -> str | None:
    """The text, for its digits."""
    if row["fid"]:
        csv_rows.number(row["fid"], float, "a number of at least 0")
    return row["fid"] or None


def _hours(row: _Row) -> float | None:
    if not any(row[cost] for cost in ("hours", "updates", "trajectories")):
        raise ValueError("one of hours, updates and trajectories is needed")
    least = math.nextafter(0, 1)
    return csv_rows.number(row["hours"], float, "a number above 0", least=least) if row["hours"] else None


def _device(row: _Row) -> str | None:
    if bool(row["device"]) != bool(row["hours"]):
        raise ValueError("hours need the device that they were measured on, and it needs hours")
    return row["device"] or None


_PARSERS = {
    "method": _text("method"),
    "dataset": _text("dataset"),
    "image_shape": _shape,
    "nfe": _count("nfe", needed_by="fid"),
    "fid": _fid,
    "hours": _hours,
    "device": _device,
    "updates": _count("updates", needed_by="batch_size"),
    "batch_size": _count("batch_size", needed_by="updates"),
    "trajectories": _count("trajectories"),
    "teacher_nfe": _count("teacher_nfe"),
    "source": _text("source"),
}
