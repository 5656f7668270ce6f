"""The rows of a CSV file with known columns; what is wrong is said with its line and column. Imports no torch."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from dode import texts
from dode.validation import ConfigError, read_text

#: What makes a value of a row of texts.
Parser: TypeAlias = Callable[[dict[str, str]], Any]


def read(path: Path, columns: Sequence[str], parsers: Mapping[str, Parser]) -> list[dict[str, Any]]:
    """The rows of the file at ``path``, each a dict of its ``columns``.

    Args:
        path: a file in UTF-8, with the names of the columns in its first line.
        columns: all columns, in the file's order.
        parsers: what a column's value is made of, by the whole row as text; they raise ValueError, TypeError, KeyError
            or ArithmeticError. A column without one has its text, and None where it is empty.

    Raises:
        dode.benchmark.config.ConfigError: for a column that is missing or unknown, text that cannot be seen, or what a
            parser refuses; it names the line and the column.
    """
    name = f"{path.parent.name}/{path.name}"
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        if reader.fieldnames != list(columns):
            known = ", ".join(columns)
            raise ConfigError(f"{name}: the columns must be {known}, in this order and separated by commas")
        return [_row(row, f"{name}, line {reader.line_num}", len(columns), parsers) for row in reader]
    except csv.Error as error:
        raise ConfigError(f"{name}, line {reader.line_num}: {error}") from None


def _row(row: dict[Any, Any], place: str, count: int, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ConfigError(f"{place}: {count} values are needed")
    for column, text in row.items():
        try:
            texts.refuse(text)
        except ValueError as error:
            raise ConfigError(f"{place}, column '{column}': {error}") from None
    parsed = {key: text or None for key, text in row.items()}
    for column, parse in parsers.items():
        try:
            parsed[column] = parse(row)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            raise ConfigError(f"{place}, column '{column}': {error}") from None
    return parsed


def number(text: str, kind: type[int] | type[float], allowed: str, *, least: float = 0) -> float:
    """The finite number that ``text`` is; a ValueError says that it is not ``allowed`` if it is below ``least``."""
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not least <= value < float("inf"):
        raise ValueError(f"{text!r} is not {allowed}")
    return value
