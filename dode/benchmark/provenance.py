"""What the cells of a benchmark were made of, as a record beside its results. Imports no torch.

What determines a result is written by the job that makes it and read from there: of teacher, fit, samples and score
with software and machine. Those of a grid search stand in its ``prepared/*.json`` alone, those of the real images'
statistics beside their halves in ``real/<data>/<features>.json``. Of published statistics and of those of the fine-step
samples (arrays in ``.npz`` files) they are not recorded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dode.benchmark import records
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.benchmark.software import revision, versions
from dode.fetching import checksums, pipelines
from dode.metrics import prompt_scores

PACKAGES = ("dode", "torch", "torchvision", "numpy", "scipy", "clean-fid", "diffusers", "snakemake")
ENVIRONMENT = ("software", "machine")


def names(benchmark: Benchmark) -> dict[str, Any]:
    """What the configuration calls its parts: labels of cells, cards and real images of datasets, published checksums.

    Nothing here decides a result.
    """
    files, depends, facts = Files(benchmark), Dependencies(benchmark), Facts(benchmark)
    return {
        "benchmark": benchmark.config["benchmark"],
        "datasets": {
            name: {
                "card": dataset["model"],
                "features": dataset["features"],
                "real": facts.real_text(name),
                "reference": str(benchmark.reference(name)),
                **{kind: own for kind, own in _others(depends, name).items() if own},
            }
            for name, dataset in benchmark.datasets.items()
        },
        "labels": {str(cell): cell.entry["label"] for cell in benchmark.cells.values()},
        "checkpoints": {
            name: {
                "file": Path(files.fetched(name)).name,
                "published": depends.published(name),
                **({"manifest": files.fetched(name)} if pipelines.of_card(card) is not None else {}),
            }
            for name, card in benchmark.cards.items()
        },
    }


def _others(depends: Dependencies, dataset: str) -> dict[str, dict[str, str]]:
    return {"guiding": depends.guiding(dataset), "scorers": depends.scorers(dataset)}


def completed(
    names: Mapping[str, Any],
    root: str | Path,
    scores: Mapping[str, Mapping[str, Any]],
    fits: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The record of a finished benchmark.

    Args:
        names: from :func:`names`.
        root: of the checkout.
        scores, fits: what the files of scores and fits of the cells say, by cell.

    Returns:
        ``datasets`` by id: what a dataset's cells share, with the cards of networks that guide (``guiding``) and of
        scorers of prompts (``scorers``) where there are any; ``cells`` by name: the parameters of trajectory (``run``),
        samples and fit, the digests of the code, and ``environments``, indices among those of the whole record;
        ``checkpoints`` with the sha256 of each; ``software`` and ``revision`` of the checkout as the record was
        written.
    """
    environments: list[Any] = []

    def index(found: Mapping[str, Any]) -> int:
        own = {key: found[key] for key in ENVIRONMENT}
        if own not in environments:
            environments.append(own)
        return environments.index(own)

    cells = {}
    for name, label in names["labels"].items():
        score, fit = scores[name], fits.get(name)
        made = score["made"]
        kinds = {"samples": [index(each) for each in score["samples"]], "score": [index(score)]}
        cell = {"label": label, "run": _without_model(made["cell"]), "samples": made["samples"], "code": made["code"]}
        if fit is not None:
            cell |= {"fit": fit["distill"], "code": {**made["code"], **fit["code"]}}
            kinds["fit"] = [index(fit)]
            if "teacher" in fit:
                kinds["teacher"] = [index(fit["teacher"])]
        cells[name] = {**cell, "environments": kinds}
    locked = checksums.read(root)
    return {
        "benchmark": names["benchmark"],
        "datasets": {name: _dataset(own, scores[own["reference"]]) for name, own in names["datasets"].items()},
        "cells": cells,
        "checkpoints": {
            card: {**entry, "sha256": _sha256(entry, locked.get(f"{card}/{entry['file']}"))}
            for card, entry in names["checkpoints"].items()
        },
        "software": versions(PACKAGES),
        "revision": revision(root),
        "environments": environments,
    }


def _without_model(cell: Mapping[str, Any]) -> dict[str, Any]:
    """All cells of a dataset have the same."""
    return {key: value for key, value in cell.items() if key != "model"}


def _dataset(own: Mapping[str, Any], score: Mapping[str, Any]) -> dict[str, Any]:
    made, scoring = score["made"], dict(score["made"]["scoring"])
    cards = [each["scoring"]["card"] for each in score.get("prompt_scores", [])]
    by_metric = {prompt_scores.metric(card): card for card in cards}
    scorers = {metric: {"card": own["scorers"][metric], **card} for metric, card in by_metric.items()}
    return {
        **own,
        **({"scorers": scorers} if scorers else {}),
        "model": made["cell"]["model"],
        "features": {"card": own["features"], **scoring.pop("card")},
        "real_version": scoring.pop("real"),
        "scoring": scoring,
    }


def _sha256(own: Mapping[str, Any], entry: Mapping[str, Any] | None) -> str | None:
    """The whole digest that was enforced as the file was fetched; None where there was none to enforce.

    Of a folder that of its manifest, which has the digests of all its files.
    """
    published, manifest = own["published"], own.get("manifest")
    if manifest is not None:
        return (records.read(manifest) or {}).get("sha256")
    return published if len(published) == 64 else entry["sha256"] if entry else None
