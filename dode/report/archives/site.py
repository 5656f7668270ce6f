"""Many archives as one static site: an index by model and evaluations, a page for each cell, one for each archive."""

import hashlib
import json
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dode import storage
from dode.metrics.catalogue import METRICS
from dode.report import collection, comparison, frame, ranking, tables, verdicts
from dode.report.archives import elsewhere
from dode.report.archives.format import Archive
from dode.report.differences import differences
from dode.report.page import page, texts

ASSETS = Path(__file__).parent / "assets"
MARKER = "dode-site.json"  # names the files of a site, so that the next one removes them and nothing else
#: The scores of the index, the first one first, and the one in their place where images were scored without features.
SHOWN, WITHOUT_FEATURES = ("paired_fid", "fid"), ("trajectory_rmse",)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+@-]*"


class Measurement:
    """A cell of one archive.

    Attributes:
        archive: the :class:`Archive`; ``letter`` names it in the site, ``folder`` is that of its page.
        name: of the cell in it; ``facts``, what is said of it.
        metrics: its scores.
    """

    def __init__(self, archive: Archive, letter: str, folder: str, facts: Mapping[str, Any]):
        self.archive, self.letter, self.folder, self.facts = archive, letter, folder, facts
        self.name = facts["name"]
        self.metrics = archive.scores[self.name]["metrics"]

    def text(self, metric: str) -> str:
        """A score with its error; empty where there is none."""
        entry = self.metrics.get(metric)
        return "" if entry is None else texts.score([entry["value"], entry["error"]], {"scale": METRICS[metric].scale})

    def value(self, metric: str) -> float | None:
        """A score, unscaled; None where there is none, or it is not finite."""
        entry = self.metrics.get(metric)
        return entry["value"] if verdicts.known(entry) else None

    @property
    def file(self) -> str:
        """The name of the archive's file, as a shell takes it."""
        return shlex.quote(self.archive.path.name)

    @property
    def made(self) -> dict[str, Any]:
        """What the cell was made of and with."""
        kinds = {
            f"{kind} made with": self.archive.environments(self.name, kind) for kind in ("samples", "fit", "score")
        }
        own = {kind: found[0] if len(found) == 1 else found for kind, found in kinds.items() if found}
        return {**elsewhere.making(self.archive.provenance, self.name), **own}

    @property
    def machines(self) -> list[str]:
        """What its samples were made on, in words."""
        return [texts.environment(each) for each in self.archive.environments(self.name, "samples")]


class Cell:
    """A cell with all its measurements, the newest last; ``page`` is the path of its page."""

    def __init__(self, identity: str, measured: Sequence[Measurement]):
        self.measured, self.newest = list(measured), measured[-1]
        self.facts = self.newest.facts
        self.page = f"cells/{self.facts['solver']}-nfe{self.facts['nfe']}-{identity}.html"

    def changes(self) -> list[dict[str, Any]]:
        """Between each measurement and the one before: what was made differently, and which scores differ."""
        found = []
        for before, after in zip(self.measured, self.measured[1:], strict=False):
            rows = list(comparison.rows(self.newest.name, verdicts.CONFIDENCE, before.metrics, after.metrics))
            found.append(
                {
                    "before": before,
                    "after": after,
                    "made": [[key, a, b] for key, a, b in differences(before.made, after.made)],
                    "equal": sum(row.first == row.second for row in rows),
                    "scores": len(rows),
                    "beyond": [METRICS[row.metric].name for row in rows if row.beyond],
                }
            )
        return found


class Ground:
    """The cells that can be compared with each other: one model, scored in one way (:func:`elsewhere.ground`)."""

    def __init__(self, cells: Sequence[Cell]):
        self.cells = list(cells)
        newest = self.cells[0].newest
        self.dataset = next(own for own in newest.archive.facts["datasets"] if own["id"] == newest.facts["dataset"])
        self.samples = newest.archive.provenance["cells"][newest.name]["samples"]
        shown = SHOWN if self.dataset["extractor"] else WITHOUT_FEATURES
        self.metrics = [key for key in shown if any(cell.newest.value(key) is not None for cell in self.measured)]
        self.reference = next((cell for cell in self.cells if cell.facts["reference"]), None)

    @property
    def measured(self) -> list[Cell]:
        """All but the fine-step cell."""
        return [cell for cell in self.cells if not cell.facts["reference"]]

    @property
    def nfes(self) -> list[int]:
        """Their numbers of evaluations."""
        return sorted({cell.facts["nfe"] for cell in self.measured})

    def rows(self, metric: str) -> list[tuple[str, dict[int, Cell]]]:
        """(label, cell by evaluations) of each solver, the best at the fewest evaluations first."""
        found: dict[tuple[str, str], dict[int, Cell]] = {}
        for cell in self.measured:
            found.setdefault((cell.facts["label"], _solver(cell)), {})[cell.facts["nfe"]] = cell
        sign = 1 if METRICS[metric].lower_is_better else -1

        def place(item):
            values = ((item[1][nfe].newest.value(metric) if nfe in item[1] else None) for nfe in self.nfes)
            return [(value is None, sign * (value or 0)) for value in values]

        return [(label, cells) for (label, _), cells in sorted(found.items(), key=place)]

    def marks(self, metric: str) -> dict[str, str]:
        """``best`` and ``second`` of each column, by the path of a cell's page."""
        found = {}
        for nfe in self.nfes:
            column = [cell for cell in self.measured if cell.facts["nfe"] == nfe and metric in cell.newest.metrics]
            entries = [cell.newest.metrics[metric] for cell in column]
            places = ranking.places(entries, lower_is_better=METRICS[metric].lower_is_better)
            for cell, own in zip(column, places, strict=True):
                found[cell.page] = {ranking.BEST: "best", ranking.SECOND: "second"}.get(own, "")
        return found


def _solver(cell):
    """What a row of a table is of: all but the evaluations."""
    made = elsewhere.making(cell.newest.archive.provenance, cell.newest.name)
    return json.dumps([{**made["run"], "nfe": None}, made.get("fit")], sort_keys=True)


def write(archives: Sequence[Archive], folder: str | Path) -> list[Path]:
    """Render archives into a folder.

    Args:
        archives: in any order; each file once.
        folder: a new or an empty one, or one that this function wrote, whose files of then are removed.

    Returns:
        The pages, the index first.

    Raises:
        ValueError: for a folder with other files, or an archive twice.
    """
    folder = Path(folder)
    twice = [each for each in archives if sum(each.sha256 == other.sha256 for other in archives) > 1]
    if twice:
        raise ValueError(f"{twice[0].path}: is given twice, here or under another name")
    _clear(folder)
    archives = sorted(archives, key=lambda each: (each.about["date"], each.about["benchmark"], each.sha256))
    letters, folders = _letters(len(archives)), [f"{each.about['benchmark']}-{each.sha256[:8]}" for each in archives]
    named = list(zip(archives, letters, folders, strict=True))
    grounds = _grounds(named)
    environment = page.environment(ASSETS, "many", "plain")
    pages = [folder / "index.html", *(folder / cell.page for own in grounds for cell in own.cells)]
    models: dict[str, list[Ground]] = {}
    for own in grounds:
        models.setdefault(own.dataset["model"]["card"], []).append(own)
    shared = {
        "style": Markup((page.ASSETS / "page.css").read_text(encoding="utf-8")),
        "own_style": Markup((ASSETS / "site.css").read_text(encoding="utf-8")),
        "named": named,
        "metrics": METRICS,
    }
    page.render(environment, "index.html.j2", pages[0], **shared, models=models)
    for own in grounds:
        for cell in own.cells:
            page.render(environment, "site_cell.html.j2", folder / cell.page, **shared, cell=cell, own=own)
    for archive, _, name in named:
        pages.append(folder / name / "index.html")
        _write_archive(archive, folder / name)
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    storage.write_json(folder / MARKER, {"files": files})
    return pages


def _letters(count):
    """A, B, ..., Z, AA, AB, ..."""
    found = []
    for index in range(count):
        text, index = "", index + 1
        while index:
            index, rest = divmod(index - 1, 26)
            text = chr(65 + rest) + text
        found.append(text)
    return found


def _clear(folder):
    """Remove the files of the site that is there."""
    if not folder.exists():
        return
    marker = folder / MARKER
    if not folder.is_dir() or (any(folder.iterdir()) and not marker.is_file()):
        raise ValueError(f"{folder}: has other files than a site that `python -m dode pages` wrote; take a new folder")
    if marker.is_file():
        for name in storage.read_json(marker).get("files", []):
            if isinstance(name, str) and re.fullmatch(rf"{_NAME}(/{_NAME})?", name) and ".." not in name:
                (folder / name).unlink(missing_ok=True)
        for place in (path for path in folder.iterdir() if path.is_dir() and not any(path.iterdir())):
            place.rmdir()


def _grounds(named):
    cells: dict[str, dict[str, list[Measurement]]] = {}
    for archive, letter, folder in named:
        for facts in archive.facts["cells"]:
            found = elsewhere.identity(archive.provenance, facts["name"])
            own = cells.setdefault(_digest(found["ground"]), {}).setdefault(_digest(found), [])
            own.append(Measurement(archive, letter, folder, facts))
    return [Ground([Cell(identity, own) for identity, own in group.items()]) for group in cells.values()]


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _write_archive(archive, folder):
    """The page of an archive's benchmark, and its tables."""
    with tempfile.TemporaryDirectory() as place:
        collected = Path(place) / "collected.json"
        storage.write_json(collected, {"scores": archive.scores, "fits": archive.fits})
        halves = {}
        for number, (dataset, own) in enumerate(archive.halves.items()):
            halves[dataset] = Path(place) / f"{number}.json"
            storage.write_json(halves[dataset], own)
        cells, datasets = archive.facts["cells"], archive.facts["datasets"]
        about = {**archive.about, "file": archive.path.name, "sha256": archive.sha256}
        found = page.data(cells, datasets, [collected], halves, archive.provenance, archive=about)
        real = {own["id"]: own["real"] for own in datasets}
        scores = collection.frame([{**cell, "real": real[cell["dataset"]]} for cell in cells], [collected], halves)
    page.write(folder / "index.html", found, archive.thumbnails, archive.facts["config"])
    frame.write_csv(scores, folder / "table.csv")
    incomparable = {own["id"]: own["incomparable"] for own in datasets if own["incomparable"]}
    tables.write_markdown(scores, folder / "table.md", title=archive.about["benchmark"], incomparable=incomparable)
    tables.write_latex(scores, folder / "table.tex")
