"""What the page says of cells and datasets besides their scores and their provenance. Imports no torch."""

import itertools
import json

from dode import solvers
from dode.names import REFERENCE

#: Most bytes of the samples of a cell, and of those of all cells of a page, as they are written (base64).
MOST, WHOLE = 150_000, 40_000_000


def share(cells):
    """Bytes that the samples of each of so many cells may take on the page, :data:`WHOLE` together.

    ``MOST`` times 1, 2/3, 1/2, 1/3, 1/4, ...: in steps, so that a cell more seldom changes what the others may take.
    """
    steps = (MOST * 2 // (divisor * 2**power) for power in itertools.count() for divisor in (2, 3))
    return next(each for each in steps if each * cells <= WHOLE)


def cells(bench):
    """One dict a cell of a :class:`dode.benchmark.cells.Benchmark`: its facts, name, published FIDs and plain
    counterpart.

    ``plain`` is the name of the cell with the same dataset, solver, options, grid and NFE that is not distilled, None
    where there is none or the cell is not distilled.
    """
    plain = {_numerics(cell): str(cell) for cell in bench.cells.values() if not cell.distilled and not _fine(cell)}
    return [
        {
            **bench.facts(cell),
            "name": str(cell),
            "plain": plain.get(_numerics(cell)) if cell.distilled else None,
            "published": bench.published_fids(cell),
        }
        for cell in bench.cells.values()
    ]


def _fine(cell):
    return cell.entry["id"] == REFERENCE


def _options(cell):
    """The solver's options with its defaults filled in."""
    return solvers.create(cell.entry["solver"], **cell.entry["options"]).options


def _numerics(cell):
    dataset, _, nfe = cell.key
    return (
        dataset,
        nfe,
        cell.entry["solver"],
        *(json.dumps(x, sort_keys=True) for x in (_options(cell), cell.entry["grid"])),
    )


def datasets(bench):
    """One dict a dataset: its images, the cards of its model and features, and what it is scored against."""
    incomparable = bench.incomparable()
    found = []
    for name, dataset in bench.datasets.items():
        reference = bench.reference(name)
        found.append(
            {
                "id": name,
                "reference": str(reference),
                "images": dataset["images"],
                "seeds": dataset["seeds"],
                "shape": bench.image_shape(name),
                "prediction": bench.model(reference)["prediction"],
                "real": bench.real_text(name),
                "published_statistics": "statistics" in dataset,
                "model": _card(bench, dataset["model"]),
                "extractor": _card(bench, dataset["features"]),
                "incomparable": incomparable.get(name, 0),
            }
        )
    return found


def _card(bench, name):
    card = bench.cards[name]
    return {"card": name, "source": card["urls"][0], **{key: card.get(key) for key in ("licence", "restrictions")}}
