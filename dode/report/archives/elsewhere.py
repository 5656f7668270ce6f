"""Which cells of an archive can stand beside those of one's own benchmark, which are the same, and what differs.

Scores of two cells can be compared where their *ground* is the same: model, real images or statistics, features, how
they are scored, number of images and seeds, the seed, classes and guidance, and the fine-step solver, each network with
its checksum; of the scorers of prompts, those of a score that both have. A cell is *the
same* as one of mine only if its ground, its solver with options and grid, its fit and all code agree. Versions and
machines determine nothing (docs/architecture.md), and are named nevertheless.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dode.metrics.catalogue import METRICS
from dode.names import CellName
from dode.registry import unknown
from dode.report.archives.format import Archive
from dode.report.differences import differences

Record = Mapping[str, Any]
#: What marks what was measured elsewhere, in every table, figure and page, with the archive's number.
MARK = "†"


def ground(record: Record, dataset: str) -> dict[str, Any]:
    """What the cells of a dataset share, of a record as :mod:`dode.benchmark.provenance` writes it."""
    own, cells = record["datasets"][dataset], record["cells"]
    fine = cells[own["reference"]]

    def checksum(card: str) -> str | None:
        entry = record["checkpoints"].get(card, {})
        return entry.get("sha256") or entry.get("published")

    found = {
        "model": own["model"],
        "features": _without_card(own["features"]),
        "real": own["real_version"],
        "scoring": own["scoring"],
        "samples": fine["samples"],
        # Where a precision was chosen by measurement, scores cannot tell it from the card's, which is the model's.
        "reference": {key: value for key, value in fine["run"].items() if key != "precision"},
        "checkpoints": {part: checksum(card) for part, card in _cards(own).items()},
    }
    if "scorers" in own:
        found["scorers"] = {
            metric: {**_without_card(scorer), "checkpoint": checksum(scorer["card"])}
            for metric, scorer in own["scorers"].items()
        }
    return found


def _without_card(own):
    return {key: value for key, value in own.items() if key != "card"}


def _cards(own):
    return {"model": own["card"], "features": own["features"]["card"], **own.get("guiding", {})}


def making(record: Record, cell: str) -> dict[str, Any]:
    """What determines a cell besides its ground: ``run``, ``fit`` if it has one, and ``code``."""
    own = record["cells"][cell]
    return {key: own[key] for key in ("run", "fit", "code") if key in own}


def select(archive: Archive, own: Record, *, solvers: Iterable[str] | None = None) -> dict[str, Any]:
    """What of an archive is comparable with a benchmark.

    Args:
        archive: the archive.
        own: the record of the benchmark, as far as it follows from its configuration
            (:func:`dode.benchmark.elsewhere.record`).
        solvers: ids of the archive's solvers that are wanted (default: all).

    Returns:
        ``rows``, ``{"name", "dataset", "differences"}`` of the archive's cells that can be rows of a dataset of the
        benchmark, with what differs from the cell of the same name or the same parameters there, if it has one;
        ``same``, ``{"name", "own"}`` of those that are the same as one of the benchmark; ``controls``, likewise of the
        fine-step cells, with the ``differences`` of code, which tell whether all else was computed as here; ``apart``,
        ``{"dataset", "own", "cells", "differences"}`` of the datasets whose cells cannot be compared, with what differs
        from the dataset that is nearest. Differences are ``[key, archive's, own]``.

    Raises:
        ValueError: for a solver that the archive does not have.
    """
    theirs = archive.provenance
    known = {cell["solver"] for cell in archive.facts["cells"] if not cell["reference"]}
    chosen = known if solvers is None else set(solvers)
    for name in chosen - known:
        raise ValueError(f"{archive.path}: {unknown('solver', name, sorted(known))}")
    found: dict[str, Any] = {"rows": [], "same": [], "controls": [], "apart": []}
    grounds = {name: ground(own, name) for name in own["datasets"]}
    taken: dict[str, str] = {}
    for dataset in theirs["datasets"]:
        cells = [cell["name"] for cell in archive.facts["cells"] if cell["dataset"] == dataset]
        mine, changes = _nearest(_with_all_scorers(ground(theirs, dataset), archive, cells), dataset, grounds)
        if not changes and mine in taken:  # two of its datasets are one here
            changes = [["dataset", dataset, taken[mine]]]
        if not changes and re.match(r"(folder|zip)-", str(theirs["datasets"][dataset]["real_version"])):
            changes = [["real", theirs["datasets"][dataset]["real"], "files of this machine, which may be others"]]
        if changes:
            found["apart"].append({"dataset": dataset, "own": mine, "cells": len(cells), "differences": changes})
            continue
        taken[mine] = dataset
        for name in cells:
            if name == theirs["datasets"][dataset]["reference"]:
                fine = own["datasets"][mine]["reference"]
                changes = [list(each) for each in differences(making(theirs, name), making(own, fine))]
                found["controls"].append({"name": name, "own": fine, "differences": changes})
            elif CellName.read(name).solver in chosen:
                other, changes = _counterpart(making(theirs, name), name, mine, own)
                if other is not None and not changes:
                    found["same"].append({"name": name, "own": other})
                else:
                    found["rows"].append({"name": name, "dataset": mine, "differences": changes})
    return found


def _with_all_scorers(ground, archive, cells):
    """Of an archive from before scorers were in its record, those that its scores must be by."""
    scored = {name for cell in cells for name in archive.scores[cell]["metrics"] if METRICS[name].of_scorer}
    unknown = {name: {"checkpoint": "not recorded"} for name in sorted(scored - set(ground.get("scorers", {})))}
    return {**ground, "scorers": {**ground.get("scorers", {}), **unknown}} if unknown else ground


def _between(ground, other):
    """What differs of two grounds; a scorer that one alone has gives a score that is compared with none."""
    shared = ground.get("scorers", {}).keys() & other.get("scorers", {}).keys()
    pair = ({**each, "scorers": {name: each["scorers"][name] for name in sorted(shared)}} for each in (ground, other))
    return [list(each) for each in differences(*pair)]


def _nearest(ground, name, grounds):
    """The dataset of mine with that ground, or the one of the same name, or with the fewest differences; and these."""
    found = {own: _between(ground, other) for own, other in grounds.items()}
    own = min(found, key=lambda own: (bool(found[own]), own != name, len(found[own])))
    if ground["model"] != grounds[own]["model"]:
        return own, [["model", _named(ground), _named(grounds[own])]]  # all else follows from that
    return own, found[own]


def _named(ground):
    """Which network a ground has, in short."""
    return f"{ground['model'].get('network', {}).get('name', 'a network')}, {ground['checkpoints']['model']}"


def _counterpart(made, name, dataset, own):
    """My cell that is made as ``made`` is but for its code, or that has the same name; and what differs."""
    parameters = _parameters(made)
    _, solver, nfe = CellName.read(name)
    others = [cell for cell in own["cells"] if CellName.read(cell).dataset == dataset]
    alike = [cell for cell in others if _parameters(making(own, cell)) == parameters]
    same_name = [cell for cell in others if CellName.read(cell)[1:] == (solver, nfe)]
    for cell in [*alike, *same_name]:
        return cell, [list(each) for each in differences(made, making(own, cell))]
    return None, []


def _parameters(made):
    """What was asked for: all of :func:`making` but the code and a precision that was chosen by measurement."""
    run = {key: value for key, value in made["run"].items() if key != "precision"}
    return {"run": run, "fit": made.get("fit")}


def identity(record: Record, cell: str) -> dict[str, Any]:
    """What measurements of one cell have in common: ground, solver and fit, not code or a chosen precision."""
    return {"ground": ground(record, CellName.read(cell).dataset), **_parameters(making(record, cell))}


def taken(archive: Archive, chosen: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What tables, figures and the page need of an archive's rows, as JSON.

    Args:
        archive: the archive.
        chosen: from :func:`select`.
        number: of the archive among those of the benchmark, from 1.

    Returns:
        ``about`` (``mark``, ``legend``, ``by``, ``date``, ``sha256``, ``benchmark``); ``facts``, ``scores``, ``fits``,
        ``made`` and ``thumbnails`` of the rows by the names that they have here; ``environments``; and of what is no
        row ``same``, ``controls`` with their scores, and ``apart``.
    """
    mark, legend = f"{MARK}{number}", _legend(archive, number)
    names = {row["name"]: _renamed(row, number) for row in chosen["rows"]}
    facts = {cell["name"]: cell for cell in archive.facts["cells"]}
    rows = []
    for row in chosen["rows"]:
        own = facts[row["name"]]
        name = CellName.read(names[row["name"]])
        label = f"{own['label']} {mark}"
        renamed = {"name": str(name), "dataset": name.dataset, "solver": name.solver, "label": label}
        real = archive.provenance["datasets"][own["dataset"]]["real"]
        said = {"archived": row["name"], "plain": names.get(own["plain"]), "measured": legend, "real": real}
        rows.append({**own, **renamed, **said, "differences": row["differences"]})
    return {
        "about": {**archive.about, "mark": mark, "legend": legend, "sha256": archive.sha256, "file": archive.path.name},
        "facts": rows,
        "scores": {names[name]: archive.scores[name] for name in names},
        "fits": {names[name]: archive.fits[name] for name in names if name in archive.fits},
        "made": {names[name]: archive.provenance["cells"][name] for name in names},
        "thumbnails": {names[name]: archive.thumbnails[name] for name in names if name in archive.thumbnails},
        "environments": archive.provenance["environments"],
        **{kind: [_scored(each, archive) for each in chosen[kind]] for kind in ("same", "controls")},
        "apart": chosen["apart"],
    }


def _renamed(row, number):
    """The name of an archive's cell here. No id of a configuration has an @."""
    _, solver, nfe = CellName.read(row["name"])
    return str(CellName(row["dataset"], f"{solver}@{number}", nfe))


def _scored(each, archive):
    return {**each, "metrics": archive.scores[each["name"]]["metrics"]}


def _legend(archive, number):
    """Whose cells a mark stands for, and what they were measured with, on one line."""
    about, environments = archive.about, archive.provenance["environments"]
    who = about["by"] or "someone who did not say who"
    machines = sorted({_machine(each["machine"]) for each in environments})
    torch = sorted({each["software"].get("torch", "?") for each in environments})
    return (
        f"{MARK}{number}: measured elsewhere, by {who}, {about['date']}, with dode {about['dode']} and torch "
        f"{', '.join(torch)} on {', '.join(machines)} (archive of {about['benchmark']}, SHA-256 {archive.sha256[:12]}…)"
    )


def _machine(machine):
    return machine["cpu"] if machine["device"] == "cpu" else machine["device"]
