"""What an archive's cells are compared with: the record of one's own benchmark as its configuration makes it.

So what of an archive can be added is known before anything has run. Imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dode.benchmark import records
from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.benchmark.parameters import resolved
from dode.fetching import pipelines
from dode.report.archives import elsewhere, format
from dode.validation import ConfigError, copied


def record(benchmark: Benchmark) -> dict[str, Any]:
    """The part of ``provenance.json`` that follows from the configuration, the cards and the code.

    That is ``datasets``, ``cells`` without labels and environments, and ``checkpoints`` as far as they are known before
    they are fetched; of pipelines see :func:`with_manifests`.
    """
    depends = Dependencies(benchmark)
    cards = {card for dataset in benchmark.datasets for card in _cards(depends, dataset)}
    found = {
        "datasets": {name: _dataset(benchmark, depends, name) for name in benchmark.datasets},
        "cells": {str(cell): _cell(depends, cell) for cell in benchmark.cells.values()},
        "checkpoints": {card: _checkpoint(depends, card) for card in sorted(cards)},
    }
    return copied(found)


def with_manifests(record: Mapping[str, Any], manifests: Mapping[str, str]) -> dict[str, Any]:
    """A :func:`record` with the checksums of folders, of pipelines and scorers, known once these are fetched.

    Args:
        record: of the benchmark.
        manifests: of the folders by card, as far as they are there.
    """
    known = {card: records.read(path) for card, path in manifests.items()}
    fetched = {card: {"sha256": own["sha256"], "published": "none"} for card, own in known.items() if own is not None}
    return {**record, "checkpoints": {**record["checkpoints"], **fetched}}


def manifests(benchmark: Benchmark) -> dict[str, str]:
    """The files of :func:`with_manifests`, whether they are there or not."""
    files, depends = Files(benchmark), Dependencies(benchmark)
    cards = {card for dataset in benchmark.datasets for card in _cards(depends, dataset)}
    return {card: files.fetched(card) for card in sorted(cards) if pipelines.of_card(benchmark.cards[card]) is not None}


def with_precisions(record: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """A :func:`record` with the precisions that were chosen by measurement in the place of their names.

    Args:
        record: of the benchmark.
        choices: of cells by name the file with the choice, as far as it is there.
    """
    cells = {
        name: {**own, "run": resolved(own["run"], choices[name])} if name in choices else own
        for name, own in record["cells"].items()
    }
    return {**record, "cells": cells}


def choices(benchmark: Benchmark) -> dict[str, str]:
    """The files of :func:`with_precisions`, whether they are there or not."""
    files = Files(benchmark)
    found = {str(cell): files.precision(cell).get("precision") for cell in benchmark.cells.values()}
    return {name: path for name, path in found.items() if path is not None}


def _cards(depends: Dependencies, dataset: str) -> list[str]:
    """The cards of all networks that samples and scores of a dataset id depend on."""
    own = depends.benchmark.datasets[dataset]
    others = {**depends.guiding(dataset), **depends.scorers(dataset)}
    return [own["model"], *([own["features"]] if own["features"] else []), *others.values()]


def _dataset(benchmark: Benchmark, depends: Dependencies, name: str) -> dict[str, Any]:
    own, scoring = benchmark.datasets[name], dict(depends.score(name))
    return {
        "card": own["model"],
        "model": depends.model(benchmark.reference(name)),
        "reference": str(benchmark.reference(name)),
        "features": {"card": own["features"], **scoring.pop("card")},
        "real_version": scoring.pop("real"),
        "scoring": scoring,
        **({"guiding": guiding} if (guiding := depends.guiding(name)) else {}),
        **({"scorers": scorers} if (scorers := _scorers(depends, name)) else {}),
    }


def _scorers(depends: Dependencies, dataset: str) -> dict[str, Any]:
    cards = depends.scorers(dataset)
    return {metric: {"card": card, **depends.prompt_score(dataset, card)["card"]} for metric, card in cards.items()}


def _cell(depends: Dependencies, cell: Cell) -> dict[str, Any]:
    run = depends.trajectory(cell).params()
    del run["model"]
    code = {**depends.sampling_code(cell), "score": depends.score_code(cell.dataset["id"])}
    found = {"run": run, "samples": depends.samples(cell).params()}
    if cell.fitted:
        found["fit"] = {**depends.teacher(cell).params(), **depends.fit(cell).params()}
        code["distill"] = depends.fit_code(cell)
        if cell.fit_follows_ends:
            code["teacher"] = depends.fine_ends_code(cell.dataset["id"])
        elif cell.with_teacher:
            code["teacher"] = depends.teacher_code(cell)
    if cell.dataset["id"] in depends.benchmark.in_latents():
        code |= depends.decoded_code(cell.dataset["id"])
    return {**found, "code": code}


def _checkpoint(depends: Dependencies, card: str) -> dict[str, Any]:
    if pipelines.of_card(depends.cards[card]) is not None:
        return {"sha256": None, "published": "not fetched yet"}
    expected = depends.expected(card)
    return {"sha256": expected if len(expected) == 64 else None, "published": depends.published(card)}


def refuse_unreadable(benchmark: Benchmark) -> None:
    """Refuse, before the first job, archives that cannot be read, and solvers that one does not have.

    Raises:
        ConfigError: in one sentence.
    """
    own = record(benchmark) if benchmark.config["archives"] else {}
    for index, each in enumerate(benchmark.config["archives"]):
        try:
            elsewhere.select(format.read(each["file"]), own, solvers=each.get("solvers"))
        except (ValueError, OSError) as error:
            raise ConfigError(f"archives[{index}]: {error}") from None


def place(results: str, number: int | str) -> str:
    """Path of what is taken of the archive of that number, from 1, below a folder of results."""
    return str(Path(results) / "elsewhere" / f"{number}.json")
