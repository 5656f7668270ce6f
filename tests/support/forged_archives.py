"""The repository's archive with a few cells and anything else in it: with right checksums, as a forger writes it."""

import copy
import hashlib
import io
import json
import zipfile
from pathlib import Path

from dode.report.archives import format

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "archives" / "digits.zip"
CELLS = ("ddim/nfe5", "d-ddim/nfe5", "ipndm/nfe5", "j-ipndm/nfe5", "reference/nfe79")


def members(path=DEMO):
    """The values of an archive's members by name, all of them."""
    with zipfile.ZipFile(path) as packed:
        return {name: json.loads(packed.read(name)) for name in packed.namelist()}


def few(dataset="digits-edm", cells=CELLS):
    """Those of a few cells of one data set."""
    found = members()
    names = [f"{dataset}/{cell}" for cell in cells]
    record, facts = found["provenance.json"], found["facts.json"]
    record["cells"] = {name: record["cells"][name] for name in names}
    record["datasets"] = {dataset: record["datasets"][dataset]}
    facts["cells"] = [cell for cell in facts["cells"] if cell["name"] in names]
    facts["datasets"] = [own for own in facts["datasets"] if own["id"] == dataset]
    for member in ("scores.json", "fits.json", "thumbnails.json", "evidence.json"):
        found[member] = {name: own for name, own in found[member].items() if name in names}
    found["halves.json"] = {dataset: found["halves.json"][dataset]}
    return found


def zipped(texts, **manifest):
    """The bytes of an archive with these texts, whatever they are, under a manifest that has their checksums."""
    about = json.loads(texts[format.MANIFEST]) | manifest
    checksums = {
        name: {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        for name, text in texts.items()
        if name != format.MANIFEST
    }
    texts = texts | {format.MANIFEST: json.dumps({**about, "members": checksums}).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in texts.items():
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def written(path, found, **manifest):
    """Write members, whatever they are, as an archive; its path."""
    path.write_bytes(zipped({name: json.dumps(value).encode() for name, value in found.items()}, **manifest))
    return path


def edited(path, edit, found=None):
    """Write the few cells after ``edit(members)``, or ``found`` instead of them."""
    found = copy.deepcopy(few() if found is None else found)
    edit(found)
    return written(path, found)
