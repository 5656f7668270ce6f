"""Prompts of images, from a file: text with one a line, CSV, JSON lines, or COCO's captions as they are published.

Row i is of image i: scored images have the first rows, in every seed the same, and fitting images the rows that follow.
Imports no torch.
"""

import csv
import functools
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dode.registry import unknown
from dode.validation import read_text
from dode.weights import foreign_json

COLUMN = "prompt"
KINDS = (".txt", ".csv", ".jsonl", ".json")


def read(file: str | Path, *, column: str | None = None, sha256: str | None = None) -> list[str]:
    """The prompts of a file, in its order.

    Args:
        file: by its suffix ``.txt``, one prompt a line; ``.csv``, with a row of names above; ``.jsonl``, an object a
            line; ``.json``, COCO's captions, of which each image has its first one, in the order of ``images``.
        column: in CSV and JSON lines, the name of the column or key; ``prompt`` by default.
        sha256: of the file, as it must be; None for any.

    Raises:
        ValueError: in one sentence with the number of the row, for a file that is none of these, is not text in UTF-8,
            has another sha256, no such column, a row without a prompt, or one with more values than columns.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; a relative path is relative to the working directory")
    state = path.stat()
    return list(_read(path, column, sha256, (state.st_size, state.st_mtime_ns)))


@functools.lru_cache(maxsize=4)
def _read(path, column, sha256, state):
    if path.suffix not in KINDS:
        raise ValueError(f"'{path}' is not allowed; allowed: a file that ends with {', '.join(KINDS)}")
    if sha256 is not None and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
        raise ValueError(f"the sha256 of '{path}' is {found}, but {sha256} is asked for")
    if column is not None and path.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"column: '{column}' is asked for, but '{path}' has no columns; leave the key out")
    text = read_text(path)
    reader = {".txt": _lines, ".csv": _csv, ".jsonl": _json_lines, ".json": _coco}[path.suffix]
    rows = reader(text, path, column or COLUMN)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, str):
            raise ValueError(f"row {number} of '{path}' is {json.dumps(row)[:80]}, which is no text")
        if re.search("[\ud800-\udfff]", row):
            raise ValueError(f"row {number} of '{path}' has half of a surrogate pair, which is no character")
        if not any(character.isprintable() and not character.isspace() for character in row):
            raise _empty(number, path)
    return tuple(row.strip() for row in rows)


def _empty(number, path):
    return ValueError(f"row {number} of '{path}' is empty; every image needs a prompt")


def _lines(text, path, column):
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _csv(text, path, column):
    try:
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"'{path}' is not CSV with a row of names above: {error}") from None
    if column not in names:
        raise ValueError(f"column: '{path}': {unknown('column', column, names)}")
    if names.count(column) > 1:
        raise ValueError(f"column: '{path}' has the column '{column}' more than once; rename the others")
    for number, row in enumerate(rows, 1):
        if len(row) > len(names):  # what follows an unquoted comma of a prompt would be lost
            raise ValueError(
                f"row {number} of '{path}' has {len(row)} values for {len(names)} columns; a prompt with a comma must "
                "be in quotes"
            )
    place = names.index(column)
    return [row[place] if len(row) > place else "" for row in rows]


def _json_lines(text, path, column):
    found = []
    for number, line in enumerate(_lines(text, path, column), 1):
        if not line.strip():
            raise _empty(number, path)
        row = foreign_json.parsed(line.encode(), f"row {number} of '{path}'", ValueError)
        if not isinstance(row, Mapping):
            raise ValueError(f"row {number} of '{path}' is not a JSON object")
        if column not in row:
            raise ValueError(f"column: row {number} of '{path}': {unknown('column', column, row)}")
        found.append(row[column])
    return found


def _coco(text, path, column):
    found = foreign_json.parsed(text.encode(), f"'{path}'", ValueError)
    keys = {"images": "id", "annotations": "image_id"}
    for key, own in keys.items():
        entries = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(each, Mapping) and own in each for each in entries):
            raise ValueError(
                f"'{path}' is not a file of COCO's captions: it has no list '{key}' of objects with '{own}'"
            )
    for key, own in keys.items():
        if not all(isinstance(each[own], int | str) for each in found[key]):
            raise ValueError(
                f"'{path}' is not a file of COCO's captions: an '{own}' of '{key}' is no number and no text"
            )
    captions: dict[Any, Any] = {}
    for each in found["annotations"]:
        captions.setdefault(each["image_id"], each.get("caption", ""))
    return [captions[each["id"]] for each in found["images"] if each["id"] in captions]


def check_count(rows: list[str], file: str | Path, scored: int, fitted: int) -> None:
    """Raise ValueError where there are fewer prompts than images that are scored and fitted on."""
    if len(rows) < scored + fitted:
        raise ValueError(
            f"'{file}' has {len(rows)} prompts, but {scored + fitted} are needed: {scored} for the scored images"
            + (f" and {fitted} more for those that solvers are fitted on" if fitted else "")
        )
