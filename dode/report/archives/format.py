"""The file of an archive: a zip file of eight texts in JSON (``archive.schema.yaml``), written and read here alone.

What comes from elsewhere is foreign bytes. Nothing in the file is unpacked to a disk or executed, no path in it is
followed; it must be exactly what :func:`write` writes, of bounded size, and its parts must agree with each other.
"""

import hashlib
import io
import json
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dode import storage
from dode.metrics.catalogue import METRICS
from dode.names import CellName
from dode.report import learning
from dode.report.archives import evidence
from dode.validation import ConfigError, refuse_odd, validate
from dode.weights import foreign_json

FORMAT, VERSION = "dode-archive", 1
MANIFEST = "archive.json"
MEMBERS = tuple(
    f"{name}.json" for name in ("evidence", "facts", "fits", "halves", "provenance", "scores", "thumbnails")
)
#: Most bytes of the file, and of all that is in it.
MOST, MOST_UNPACKED = 64 * 2**20, 256 * 2**20
_SCHEMA = Path(__file__).with_name("archive.schema.yaml")
_END, _END_SIZE = b"PK\5\6", 22  # the last record of a zip file, without a comment
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class ArchiveError(ValueError):
    """A file that is no archive, is damaged, or contradicts itself; the message is one sentence."""


class Archive:
    """An archive that has been read and checked.

    Attributes:
        path: of the file; ``sha256`` of its bytes, ``size`` their number.
        about: the manifest: ``benchmark``, ``by``, ``date``, ``dode``.
        provenance, facts, scores, fits, halves, thumbnails, evidence: its members (``archive.schema.yaml``).
    """

    def __init__(self, path: Path, sha256: str, size: int, members: Mapping[str, Any]):
        self.path, self.sha256, self.about = path, sha256, members[MANIFEST]
        self.size = size
        self.provenance, self.facts = members["provenance.json"], members["facts.json"]
        self.scores, self.fits, self.halves = (members[f"{name}.json"] for name in ("scores", "fits", "halves"))
        self.thumbnails, self.evidence = members["thumbnails.json"], members["evidence.json"]

    @property
    def cells(self) -> list[str]:
        """The names of its cells, in the order of its benchmark."""
        return [cell["name"] for cell in self.facts["cells"]]

    def environments(self, cell: str, kind: str) -> list[dict[str, Any]]:
        """What a cell's ``samples``, ``score``, ``fit`` or ``teacher`` was made with."""
        indices = self.provenance["cells"][cell]["environments"].get(kind, [])
        return [self.provenance["environments"][index] for index in indices]


def write(path: str | Path, members: Mapping[str, Any], *, by: str, date: str) -> Archive:
    """Write an archive and read it again; the same contents give the same bytes.

    Args:
        path: of the file; ``-`` and the like as of :func:`dode.storage.write_where_told`.
        members: the values of :data:`MEMBERS` by name.
        by: who measured it; empty if that is not to be said.
        date: when, ``YYYY-MM-DD``.

    Raises:
        ArchiveError: where :func:`read` would refuse it; nothing is written then.
    """
    texts = {name: _text(members[name]) for name in MEMBERS}
    about = {"format": FORMAT, "version": VERSION, "benchmark": members["provenance.json"]["benchmark"], "by": by}
    about |= {"date": date, "dode": members["provenance.json"]["software"].get("dode", "unknown")}
    checksums = {name: {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()} for name, text in texts.items()}
    texts[MANIFEST] = _text({**about, "members": checksums})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(texts):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            packed.writestr(entry, texts[name], zipfile.ZIP_DEFLATED, 9)
    content = file.getvalue()
    found = _read(Path(path), content)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    storage.write_where_told(path, content)
    return found


def _text(value):
    """JSON without spaces and with sorted keys; what is not finite is null, as in the files of results."""
    return json.dumps(json.loads(storage.json_text(value)), sort_keys=True, separators=(",", ":")).encode()


def read(path: str | Path) -> Archive:
    """Read an archive from wherever it comes.

    Raises:
        ArchiveError: in one sentence, where the file cannot be read, and for whatever :func:`write` did not write: no
            zip file; other, missing or encrypted members; wrong checksums; texts that are not of the schema; parts that
            contradict each other.
    """
    return _read(Path(path), content(path))


def content(path: str | Path) -> bytes:
    """The bytes of a file that may be an archive; ArchiveError where there is no regular file or it is too large."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait
            raise ArchiveError(f"{path}: is no regular file; allowed: an archive that `python -m dode pack` wrote")
        with open(path, "rb") as file:
            found = file.read(MOST + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(found) > MOST:
        raise ArchiveError(f"{path}: has more than {MOST:,} bytes, which no archive has")
    return found


def _read(path, content):
    def error(message):
        return ArchiveError(f"{path}: {message}")

    texts = _unpacked(content, error)
    members = {name: foreign_json.parsed(text, name, error) for name, text in texts.items()}
    about = members[MANIFEST]
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise error("is not an archive of a benchmark")
    if about.get("version") != VERSION:
        raise error(f"has the version {about.get('version')!r:.20}; this dode reads version {VERSION}: update dode")
    try:
        refuse_odd(members, what="it")
        validate(members, _SCHEMA, "it")
    except ConfigError as problem:
        raise error(f"damaged or forged: {problem}") from None
    for name in MEMBERS:
        text, wanted = texts[name], about["members"].get(name)
        if wanted != {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}:
            raise error(f"damaged: {name} is not what its checksum says")
    if set(about["members"]) != set(MEMBERS):
        raise error("its manifest names other members than it has")
    found = Archive(path, hashlib.sha256(content).hexdigest(), len(content), members)
    _tell_fitted(found)
    fault = _contradiction(found)
    if fault:
        raise error(f"forged or damaged: {fault}")
    return found


def _tell_fitted(archive):
    """Say which cells are fitted, in an archive from before that was said: ``distilled`` meant it then."""
    for cell in archive.facts["cells"]:
        if "fitted" not in cell:
            made = archive.provenance["cells"].get(cell["name"])
            cell["fitted"] = cell["distilled"]
            prepared = cell.pop("prepared", False)
            cell["distilled"] |= prepared if made is None else learning.of_record(made, said=prepared)


def _unpacked(content, error):
    """The texts of the members by name."""
    end = content[-_END_SIZE:]
    if not content.startswith(b"PK\3\4") or not end.startswith(_END):
        raise error("is no zip file as `python -m dode pack` writes it, or it is cut off")
    count, size, offset, comment = struct.unpack("<8xHHIIH", end)[1:]
    if count != len(MEMBERS) + 1 or comment or size + offset + _END_SIZE != len(content):
        raise error(f"is no archive: it has other members than {', '.join(sorted([MANIFEST, *MEMBERS]))}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            entries = packed.infolist()
            _check_entries(entries, error)
            return {entry.filename: _member(packed, entry, error) for entry in entries}
    except _BROKEN as problem:
        if isinstance(problem, ArchiveError):
            raise
        raise error(f"damaged: {str(problem)[:200] or type(problem).__name__}") from None


def _check_entries(entries, error):
    names = sorted(entry.filename for entry in entries)
    if names != sorted([MANIFEST, *MEMBERS]):
        raise error(f"is no archive: it has other members than {', '.join(sorted([MANIFEST, *MEMBERS]))}")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise error(f"{entry.filename} in it is no plain file")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise error(f"{entry.filename} in it is compressed in another way than archives are")
    if sum(entry.file_size for entry in entries) > MOST_UNPACKED:
        raise error(f"unpacks to more than {MOST_UNPACKED:,} bytes, which no archive does")


def _member(packed, entry, error):
    with packed.open(entry) as file:
        text = file.read(entry.file_size + 1)  # no more than it is said to have, whatever it unpacks to
    if len(text) != entry.file_size:
        raise error(f"damaged: {entry.filename} has another size than it says")
    return text


def _contradiction(archive):
    """What in an archive disagrees with the rest, in words; None where all agrees."""
    names, made = archive.cells, archive.provenance["cells"]
    for name, keys in (("provenance.json", made), ("scores.json", archive.scores), ("evidence.json", archive.evidence)):
        if sorted(keys) != sorted(names) or len(set(names)) < len(names):
            return f"the cells of {name} are not those of facts.json"
    fitted = [cell["name"] for cell in archive.facts["cells"] if cell["fitted"]]
    if sorted(archive.fits) != sorted(fitted) or sorted(name for name in made if "fit" in made[name]) != sorted(fitted):
        return "the fits are not those of its fitted cells"
    datasets = {own["id"]: own for own in archive.facts["datasets"]}
    if set(datasets) != set(archive.provenance["datasets"]) or len(datasets) < len(archive.facts["datasets"]):
        return "the datasets of provenance.json are not those of facts.json"
    if archive.about["benchmark"] != archive.provenance["benchmark"]:
        return "it has two names"
    if not set(archive.thumbnails) <= set(names) or not set(archive.halves) <= set(datasets):
        return "it has pictures or halves of what it has no scores of"
    checks = (_of_dataset(archive, own) for own in datasets.values())
    cells = (_of_cell(archive, cell) for cell in archive.facts["cells"])
    return next(filter(None, (*checks, *cells)), None)


def _of_dataset(archive, own):
    record, reference = archive.provenance["datasets"][own["id"]], archive.provenance["cells"].get(own["reference"])
    cards = archive.provenance["checkpoints"]
    if reference is None or record["reference"] != own["reference"]:
        return f"{own['id']} has no reference"
    if CellName.read(own["reference"]).dataset != own["id"]:
        return f"the reference of {own['id']} is another dataset's"
    parts = {"model": record["card"], "extractor": record["features"]["card"]}
    if any((own[part] or {"card": None})["card"] != card or card not in {*cards, None} for part, card in parts.items()):
        return f"the cards of {own['id']} are not those of its record"
    if own["real"] != record["real"] or own["shape"] != record["model"]["image_shape"]:
        return f"{own['id']} is described in two ways"
    return None


def _of_cell(archive, cell):
    """The same of a cell: its facts, its record, its scores, its fit and its evidence are of one measurement."""
    name, made, score = cell["name"], archive.provenance["cells"][cell["name"]], archive.scores[cell["name"]]
    if CellName.of(cell) != CellName.read(name) or cell["dataset"] not in archive.provenance["datasets"]:
        return f"{name} has another name in its facts"
    dataset = archive.provenance["datasets"][cell["dataset"]]
    run = {**made["run"], "model": dataset["model"]}
    method = learning.method(made["run"]["solver"], made.get("fit", {}).get("fit"))
    said = {"method": method, "nfe": made["run"]["nfe"], "label": made["label"]}
    said |= {key: made["samples"][key] for key in ("images", "seeds")}
    said |= {"reference": name == dataset["reference"]}
    for key, value in said.items():
        if cell[key] != value:
            return f"{name} has the {key} {value!r:.60} in one place and {cell[key]!r:.60} in another"
    if cell["distilled"] != learning.of_record(made, said=cell["distilled"]):
        return f"{name} is distilled in one place and plain in another"
    if _parsed(cell["options"]) != made["run"]["options"] or not isinstance(_parsed(score["extractor"]), dict):
        return f"{name} has other options in one place than in another"
    if score["made"]["cell"] != run or score["made"]["samples"] != made["samples"]:
        return f"the score of {name} was made from something else than its record says"
    scoring = {"card": {k: v for k, v in dataset["features"].items() if k != "card"}, "real": dataset["real_version"]}
    if score["made"]["scoring"] != {**scoring, **dataset["scoring"]}:
        return f"the score of {name} was made in another way than its record says"
    if not all(made["code"].get(part) == digest for part, digest in score["made"]["code"].items()):
        return f"the score of {name} was made by other code than its record says"
    if (score["images"], score["seeds"]) != (cell["images"], cell["seeds"]):
        return f"the score of {name} is of another number of images than its record says"
    if cell["plain"] is not None and cell["plain"] not in archive.scores:
        return f"{name} has a plain counterpart that is not there"
    if any(
        index >= len(archive.provenance["environments"]) for kinds in made["environments"].values() for index in kinds
    ):
        return f"{name} was made on a machine that is not there"
    return _of_scores(name, cell, score) or _of_fit(name, made, run, archive) or _of_evidence(name, made, archive)


def _parsed(text):
    try:
        return foreign_json.parsed(text.encode(), "", ValueError)
    except ValueError:
        return None


def _of_scores(name, cell, score):
    for metric, entry in score["metrics"].items():
        if metric not in METRICS:
            return f"{name} has the unknown metric {metric!r:.60}"
        blocks = entry["blocks"]
        if entry["error"] is not None and entry["error"] < 0:
            return f"the {metric} of {name} has a negative error"
        if not 1 <= len(blocks) <= cell["seeds"]:
            return f"the {metric} of {name} has {len(blocks)} values for {cell['seeds']} seeds"
        known = None not in blocks and entry["value"] is not None
        # A mean of numbers of any size, to rounding (dode.metrics.spread).
        if known and not math.isclose(
            entry["value"], math.fsum(b / len(blocks) for b in blocks), rel_tol=1e-9, abs_tol=1e-12
        ):
            return f"the {metric} of {name} is not the mean over its seeds"
    return None


def _of_fit(name, made, run, archive):
    if "fit" not in made:
        return None
    fit, nfe = archive.fits[name], made["run"]["nfe"]
    if fit["cell"] != run or fit["distill"] != made["fit"]:
        return f"the fit of {name} was made from something else than its record says"
    matrices = [fit[key] for key in ("lambdas", "coefficients") if fit[key] is not None]
    if any(not matrix or len({len(row) for row in matrix}) > 1 for matrix in matrices):
        return f"the fit of {name} has rows of different lengths"
    if any(len(fit[key] or [0] * nfe) != nfe for key in ("rms_before", "rms_after")):
        return f"the fit of {name} is not of {nfe} evaluations"
    if fit["lambdas"] is not None and len(fit["lambdas"]) != nfe:
        return f"the fit of {name} is not of {nfe} evaluations"
    if fit["family"] and (not fit["levels"] or None in [*fit["levels"], *(fit["told"] or [])]):
        return f"the fit of {name} has no noise levels"
    if made["fit"].get("fit") == "joint" and not (fit["family"] and fit["rungs"]):
        return f"the fit of {name} does not say what became of each family"
    unfinished = ("rmse_fitted", "rmse_held_out")
    if any(not rung.get("skipped") and None in [rung[key] for key in unfinished] for rung in fit["rungs"] or []):
        return f"the fit of {name} has a family without an error"
    return None


def _of_evidence(name, made, archive):
    own, samples = archive.evidence[name], made["samples"]
    if own["images"] > samples["trajectory_images"] or own["seeds"] != samples["seeds"]:
        return f"the evidence of {name} is of more images than were kept"
    if evidence.fault(own):
        return f"the evidence of {name} {evidence.fault(own)}"
    picture = archive.thumbnails.get(name)
    if picture and {len(picture["trajectory"]["sigmas"])} != {
        len(picture["trajectory"]["error"] or ()),
        *map(len, picture["trajectory"]["pixels"]),
    }:
        return f"the pictures of {name} are cut off"
    return None
