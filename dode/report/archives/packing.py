"""From the folder of a finished benchmark to its archive: everything but the samples."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from dode import storage, texts
from dode.names import CellName
from dode.report.archives import evidence, format
from dode.report.archives.format import Archive
from dode.report.finished import Finished, read
from dode.report.page import thumbnails

FACTS = "facts.json"
#: Bytes of the pictures of all cells together, as base64.
PICTURES = 4_000_000
LONGEST_NAME = 100  # of those who measured
_FILES = ("samples.npy", "ends.npy", "lambdas.json")


def pack(
    folder: str | Path, path: str | Path, *, by: str = "", date: str | None = None, images: int = evidence.KEPT
) -> Archive:
    """Write the archive of a finished benchmark.

    Args:
        folder: ``results/<benchmark>``.
        path: of the file to write.
        by: who measured it, one line of at most 100 characters.
        date: of the results, ``YYYY-MM-DD`` (default: the day on which its record was written, in UTC).
        images: of each cell and seed, how many images leave evidence behind; as many as end states are kept, if fewer.

    Raises:
        ValueError: where the folder is not that of a finished benchmark, or its files contradict each other.
    """
    _check(by, date, images)
    finished = Finished(folder)
    facts = _facts(finished)
    names = [cell["name"] for cell in facts["cells"]]
    missing = [name for name in names if name not in finished.cells]
    if missing or finished.provenance is None or sorted(names) != sorted(finished.provenance["cells"]):
        of = f"{missing[0]} has no score" if missing else "its records are of two configurations"
        raise ValueError(f"{finished.folder}: is not finished ({of}); run snakemake until it has nothing to do")
    fits = [name for name in names if "fit" in finished.made(name)]
    members = {
        "provenance.json": {key: value for key, value in finished.provenance.items() if key != "elsewhere"},
        FACTS: facts,
        "scores.json": {name: finished.score_file(name) for name in names},
        "fits.json": {name: read(finished.cells[name] / "lambdas.json") for name in fits},
        "halves.json": _halves(finished, facts),
        "thumbnails.json": _pictures(finished, names),
        "evidence.json": {name: _evidence(finished, name, images) for name in names},
    }
    return format.write(path, members, by=by, date=date or _day(finished))


def _check(by, date, images):
    try:
        texts.refuse(by)
    except ValueError as error:
        raise ValueError(f"by: {error}") from None
    if len(by) > LONGEST_NAME:
        raise ValueError(f"by: {len(by)} characters are not allowed; allowed: at most {LONGEST_NAME}")
    if date is not None and not _is_day(date):
        raise ValueError(f"date: {date!r} is not allowed; allowed: YYYY-MM-DD, as 2026-11-29")
    if images < 1:
        raise ValueError(f"evidence: {images} images are not allowed; allowed: at least 1")


def _is_day(date):
    try:
        return datetime.date.fromisoformat(date).isoformat() == date  # it reads other forms too
    except ValueError:
        return False


def _facts(finished):
    path = finished.folder / FACTS
    if not path.is_file():
        raise ValueError(f"{path} is missing: run snakemake again, which writes it with the page")
    found = read(path)
    # What the benchmark itself took from archives stays with those who measured it.
    found["config"].pop("archives", None)
    return found


def _day(finished):
    written = (finished.folder / FACTS).stat().st_mtime
    return datetime.datetime.fromtimestamp(written, datetime.UTC).date().isoformat()


def _halves(finished, facts):
    paths = {name: finished.folder / path for name, path in facts.pop("halves").items()}
    return {name: read(path) for name, path in paths.items()}


def _evidence(finished, name, images):
    folder, samples = finished.cells[name], finished.provenance["cells"][name]["samples"]
    ends = storage.read_array(folder / "ends.npy")
    if len(ends) != samples["seeds"] * samples["trajectory_images"]:
        raise ValueError(f"{folder / 'ends.npy'} has {len(ends)} images, not those of its record: run snakemake again")
    count = min(images, samples["trajectory_images"])
    blocks = [block[:count] for block in np.split(ends, samples["seeds"])]
    levels = storage.read_array(folder / "states.npy")["sigmas"][0]
    return {"files": _written(folder), "levels": levels.tolist(), **evidence.of(blocks)}


def _written(folder):
    """Size and checksum of a cell's files, as the records beside them have them."""
    found = {}
    for name in _FILES:
        record = folder / "made" / f"{name}.json"
        if record.is_file():
            own = read(record)
            found[name] = {key: own[key] for key in ("size", "sha256")}
    return found


def _pictures(finished, names):
    """The page's pictures of the cells; smaller ones where all together would be too large."""
    found: dict[str, Any] = {}
    for dataset in dict.fromkeys(CellName.read(name).dataset for name in names):
        for path in sorted((finished.folder / dataset / "collected").glob("*.thumbnails.json")):
            found |= read(path)
    found = {name: found[name] for name in names if name in found}
    most = PICTURES // max(len(found), 1)
    for name, own in found.items():
        if len(own["samples"]["png"]) > most:
            ends = storage.read_array(finished.cells[name] / "ends.npy")
            own["samples"] = thumbnails.sprite(ends, most)
    return found
