"""Some images of an archive's cell, sampled again here and compared with what the archive says of them.

What is sampled is what the archive's own record says: its solver, levels, coefficients and noise, on the checkpoint of
the same card here. So an audit shows that the cell's images come from there. That its scores are those of its images
only running the whole cell shows; their files' checksums are in the archive (docs/sharing.md).
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dode import grids, solvers, storage
from dode.benchmark import jobs
from dode.benchmark.dependencies import computed
from dode.benchmark.parameters import GUIDING, Trajectory
from dode.fetching import places
from dode.fetching.cards import Card, load_card
from dode.registry import unknown
from dode.report.archives import evidence
from dode.report.archives.format import Archive
from dode.report.differences import differences
from dode.sampling import Student

#: What is made of a card's file: name and card -> path.
Weights = Callable[[str, Card], Path]


class Audited(NamedTuple):
    """One image: its seed block and place in it, whether all bytes are the same, and the estimated RMS difference."""

    block: int
    place: int
    same: bool
    distance: float


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
        cell: its name.
        images: the images, in the order of block and index.
        tolerance: RMS per pixel up to which two end states count as the same.
        evaluations, whole: network evaluations of the audit and of the whole cell.
    """

    cell: str
    images: list[Audited]
    tolerance: float
    evaluations: int
    whole: int

    @property
    def same(self) -> int:
        """How many images are the same to the byte."""
        return sum(image.same for image in self.images)

    @property
    def others(self) -> list[Audited]:
        """The images that are not the same within the tolerance."""
        return [image for image in self.images if not image.same and not image.distance <= self.tolerance]


def audit(
    archive: Archive,
    cell: str,
    *,
    images: int,
    seed: int,
    root: str | Path,
    weights: Weights,
    device: str = "auto",
    batch_size: int = 100,
) -> Audit:
    """Sample images of a cell again.

    Args:
        archive: the archive.
        cell: the cell's name in it.
        images: how many of those that left evidence behind; all if there are fewer.
        seed: of the choice among them.
        root: the folder that holds ``config/``.
        weights: gives the checkpoint of a card.
        device, batch_size: as of the settings ``execution``.

    Raises:
        ValueError: where there is no such cell, the card here is another, or the cell's solver needs more than the
            archive has.
    """
    if cell not in archive.scores:
        raise ValueError(f"{archive.path}: {unknown('cell', cell, archive.cells)}")
    record = archive.provenance["cells"][cell]
    dataset = archive.provenance["datasets"][cell.partition("/")[0]]
    name, card = dataset["card"], _card(dataset, root)
    run, own = dict(record["run"]), archive.evidence[cell]
    _check(run)
    if "precision" in run:  # chosen where the cell was made; to compile for a few images is not worth while
        run["precision"] = {**run["precision"], "compile": False}
    inputs = _guiding(run, root, weights)
    checkpoint, execution = str(weights(name, card)), {"device": device, "batch_size": batch_size}
    found = []
    with tempfile.TemporaryDirectory() as folder, _as_bad_input(cell):
        inputs |= _prepared(run, own, Path(folder))
        job = jobs.of_cell({**run, "model": computed(card)}, checkpoint, execution, inputs)
        fit = archive.fits.get(cell)
        student = Student(job.solver, job.sigmas) if fit is None else jobs.fitted(job.solver, job.sigmas, fit)
        for block, indices in _chosen(own, images, seed):
            ends = _ends(job, student, indices, block, batch_size)
            for index, digest, sketch in zip(indices, evidence.digests(ends), evidence.sketches(ends), strict=True):
                known, kept = evidence.kept(own, block, index)
                found.append(Audited(block, index, digest == known, evidence.distance(sketch, kept, ends[0].size)))
    samples = record["samples"]
    return Audit(
        cell=cell,
        images=found,
        tolerance=evidence.tolerance(run.get("precision") or card.get("precision", {})),
        evaluations=len(found) * run["nfe"],
        whole=samples["images"] * samples["seeds"] * run["nfe"],
    )


def _check(run: Mapping[str, Any]) -> None:
    """Refuse parameters that no configuration can have: among them paths of files, which would be read."""
    known = {field.name for field in dataclasses.fields(Trajectory)} - {"model"}
    for key in set(run) - known:
        raise ValueError(unknown("parameter", key, sorted(known)))
    if "prepared" in run["options"]:
        raise ValueError("options: 'prepared' is the path of a file, which an archive does not have")
    grids.refuse_filled(run["grid"]["options"])
    if not isinstance(run.get("precision", {}), dict):
        raise ValueError(f"precision: {run['precision']!r:.60} is the name of a choice that the archive does not have")


@contextlib.contextmanager
def _as_bad_input(cell: str) -> Iterator[None]:
    """What goes wrong as a cell is sampled from parameters and numbers that others wrote, as one sentence."""
    try:
        yield
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{cell} cannot be sampled as the archive describes it: {text[:300]}") from None


def _card(dataset: Mapping[str, Any], root: str | Path) -> Card:
    """The card of a dataset's model here, which must be of the same network."""
    name = dataset["card"]
    card = load_card(root, name, "the archive's model")
    if "pipeline" in card or "pipeline" in dataset["model"]:
        raise ValueError(f"{name}: is a pipeline, whose cells cannot be audited; allowed: cells of other models")
    changes = list(differences(dataset["model"], computed(card), "model"))
    if changes:
        named = "; ".join(f"{key} is {theirs!r:.80} there and {own!r:.80} here" for key, theirs, own in changes)
        raise ValueError(f"{name}: config/models/{name}.yaml is another model than that of the archive: {named}")
    return card


def _guiding(run: Mapping[str, Any], root: str | Path, weights: Weights) -> dict[str, str]:
    """The checkpoints of networks that guide, whose cards are found by what they are."""
    found = {}
    for key in GUIDING:
        wanted = run.get("guidance", {}).get(key)
        if wanted is None:
            continue
        cards = ((name, load_card(root, name, key)) for name in _names(root))
        name, card = next(((name, card) for name, card in cards if computed(card) == wanted), (None, None))
        if name is None or card is None:
            raise ValueError(f"guidance.{key}: no card in config/models is that of the archive")
        found[key] = str(weights(name, card))
    return found


def _names(root: str | Path) -> list[str]:
    """Of all cards."""
    return sorted({path.stem for folder in places.folders_of_cards(root) for path in folder.glob("*.yaml")})


def _prepared(run: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The files that a cell's grid is made from, of the levels in the archive."""
    if solvers.create(run["solver"]).method.prepare:
        raise ValueError(f"the solver '{run['solver']}' needs a prepared file, which an archive does not have")
    name = grids.grids.get(run["grid"]["name"]).prepare
    if name is None:
        return {}
    storage.write_json(folder / name, {"sigmas": own["levels"]})
    return {"prepared_grid": str(folder / name)}


def _chosen(own: Mapping[str, Any], images: int, seed: int) -> list[tuple[int, list[int]]]:
    """``(block, indices)`` of the images of an audit."""
    count = own["images"] * own["seeds"]
    places = np.random.default_rng(seed).choice(count, size=min(images, count), replace=False)
    blocks: dict[int, list[int]] = {}
    for place in sorted(places.tolist()):
        blocks.setdefault(place // own["images"], []).append(place % own["images"])
    return list(blocks.items())


def _ends(job: jobs.CellJob, student: Student, indices: list[int], block: int, size: int) -> np.ndarray:
    """End states of images of a cell, as ``scripts/sample.py`` keeps them, (n, C, H, W) float32."""
    found = []
    for start in range(0, len(indices), size):
        some = indices[start : start + size]
        latents, denoise = job.latents(some, block=block), job.denoise_for(some, block=block)
        found.append(job.images(student.sample(denoise, latents)).cpu().float().numpy())
    return np.concatenate(found)
