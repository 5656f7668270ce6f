"""What the cells of a benchmark were made of, as a record beside its results. Imports no torch.

Software and machine are recorded of the jobs of cells: teacher, fit, samples, score. Those of a grid search stand in
its ``prepared/*.json`` alone, those of the real images' statistics beside their halves in
``real/<data>/<features>.json``. Of published statistics and of those of the fine-step samples (arrays in ``.npz``
files) they are not recorded.
"""

from pathlib import Path

from dode.benchmark.software import revision, versions
from dode.fetching import checksums

PACKAGES = ("dode", "torch", "torchvision", "numpy", "scipy", "clean-fid", "diffusers", "snakemake")


def of(bench):
    """Everything that a :class:`dode.benchmark.cells.Benchmark` says of its cells in the ``params`` of their rules,
    each once.

    Returns:
        ``benchmark``; ``datasets`` by id: what a dataset's cells share; ``cells`` by path: the parameters of run,
        samples and fit, and the digests of the code; ``checkpoints`` by card, with the checksum that is published.
    """
    return {
        "benchmark": bench.config["benchmark"],
        "datasets": {name: _dataset(bench, name) for name in bench.datasets},
        "cells": {str(cell): _cell(bench, cell) for cell in bench.cells.values()},
        "checkpoints": {
            name: {"file": Path(bench.fetched(name)).name, "published": bench.published(name)} for name in bench.cards
        },
    }


def _dataset(bench, name):
    dataset = bench.datasets[name]
    reference = bench.reference(name)
    return {
        "card": dataset["model"],
        "model": bench.model(reference),
        "features": {"card": dataset["features"], **bench.features_card(name)},
        "real": bench.real_text(name),
        "real_version": bench.scored_against(name),
        "reference": str(reference),
        "scoring": {key: bench.config[key] for key in ("kid", "neighbours")},
    }


def _cell(bench, cell):
    solver = cell.entry["solver"]
    own = {key: value for key, value in bench.run(cell).items() if key != "model"}
    code = {"sample": bench.code("sample.py", solver), "score": bench.code("score.py")}
    found = {
        "label": cell.entry["label"],
        "run": own,
        "samples": {key: value for key, value in bench.samples(cell).items() if key not in (*own, "model")},
    }
    if cell.distilled:
        fit = bench.fit(cell)
        found["fit"] = {**fit["distill"], **fit["fit"]}
        code["distill"] = bench.code("distill.py", *bench.fit_solvers(cell))
        if bench.trajectory(cell):
            code["teacher"] = bench.code("teacher.py", solver, bench.teacher_solver(cell))
    return {**found, "code": code}


def completed(record, root, made):
    """The record with what is known when the cells are there.

    Args:
        record: from :func:`of`.
        root: of the checkout.
        made: what each cell was made on, from :func:`dode.report.collection.environments`.

    Returns:
        ``record`` with the sha256 of every checkpoint, the ``software`` and the ``revision`` of the checkout as the
        tables were written, and ``environments``, each once; a cell's are indices among them.
    """
    environments = []
    cells = {name: {**cell, "environments": {}} for name, cell in record["cells"].items()}
    for name, kinds in made.items():
        for kind, found in kinds.items():
            environments += [each for each in found if each not in environments]
            cells[name]["environments"][kind] = [environments.index(each) for each in found]
    locked = checksums.read(root)
    checkpoints = {
        card: {**entry, "sha256": _sha256(entry["published"], locked.get(f"{card}/{entry['file']}"))}
        for card, entry in record["checkpoints"].items()
    }
    known = {"software": versions(PACKAGES), "revision": revision(root), "environments": environments}
    return {**record, "cells": cells, "checkpoints": checkpoints, **known}


def _sha256(published, entry):
    """The whole digest that was enforced as the file was fetched; None where there was none to enforce."""
    return published if len(published) == 64 else entry["sha256"] if entry else None
