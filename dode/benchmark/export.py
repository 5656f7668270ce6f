"""From a cell of a finished benchmark to a file that :func:`dode.load` reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dode import grids, portable, solvers, storage
from dode.directions import Directions
from dode.distillation import citations, released
from dode.distillation.fit_checks import moves_levels, recipe_order
from dode.grids.facts import ModelFacts, index_scale
from dode.metrics.catalogue import METRICS
from dode.registry import unknown
from dode.report import verdicts
from dode.report.finished import PROVENANCE, Finished
from dode.solvers.non_stationary import NAME

if TYPE_CHECKING:
    import torch

OF_THE_MODEL = ("prediction", "image_shape", "schedule", "preconditioning", "sigma_min", "sigma_max", "classes")


def record(finished: Finished, dataset: str, solver: str, nfe: int) -> dict[str, Any]:
    """The record of a cell (``dode/portable.schema.yaml``).

    Args:
        finished: the :class:`dode.report.finished.Finished` benchmark.
        dataset, solver: their ids; nfe: the cell's number of evaluations.

    Raises:
        ValueError: if there is no such cell, or its files contradict each other.
    """
    name = finished.cell(dataset, solver, nfe)
    cell = finished.made(name)
    provenance: Any = finished.provenance  # it is there, or nothing would be known of the cell
    shared = provenance["datasets"][dataset]
    software = _software(provenance["environments"][index] for index in cell["environments"]["samples"])
    run, fit = cell["run"], _fit(finished.cells[name], cell, shared["model"])
    if solvers.create(run["solver"]).method.prepare:
        raise ValueError(
            f"{name}: the solver '{run['solver']}' needs a prepared file, which an exported result cannot hold"
        )
    general = "coefficients" in fit
    if run["grid"]["options"].get("afs") and not general:
        fit["afs"] = True
    conditions = {key: run[key] for key in ("labels", "guidance") if key in run}
    model = {key: shared["model"][key] for key in OF_THE_MODEL if key in shared["model"]}
    if "latent_shape" in shared["model"]:
        model["image_shape"] = shared["model"]["latent_shape"]  # what a solver sees of an image
    if index_scale(shared["model"]) != 1:
        model["index_scale"] = index_scale(shared["model"])
    return {
        "format": portable.FORMAT,
        "version": portable.version(fit, model),
        "solver": {"name": NAME, "options": {}} if general else {"name": run["solver"], "options": run["options"]},
        "grid": run["grid"],
        "sigmas": fit.pop("levels") or _sigmas(finished.cells[name], run, shared["model"]).tolist(),
        "nfe": run["nfe"],
        **fit,
        "model": {
            "card": shared["card"],
            "sha256": provenance["checkpoints"][shared["card"]]["sha256"],
            **model,
        },
        **({"conditions": conditions} if conditions else {}),
        "cell": f"{provenance['benchmark']}/{name}",
        "scores": {
            **{
                metric: {"value": entry["value"], "error": verdicts.standard_error(entry)}
                for metric, entry in finished.scores(name).items()
            },
            **{key: cell["samples"][key] for key in ("images", "seeds")},
        },
        "software": software,
        "citation": [f"dode {software['dode']}", *citations.of_cell(cell, fit)],
    }


def best(finished: Finished, dataset: str, metric: str, nfe: int) -> tuple[str, int, list[str]]:
    """What the page recommends on a dataset for at most ``nfe`` evaluations: ``(solver, its nfe, ties)``.

    Of the best plain and the best distilled solver, the distilled one if it is better, else the plain one, which has
    nothing to learn (:func:`dode.report.verdicts.choices`). Ties are the names of cells that cannot be told apart from
    it.
    """
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))
    lower, cells = METRICS[metric].lower_is_better, finished.measured(dataset)
    rows = [row for row in verdicts.choices(cells, metric, lower=lower) if row["nfe"] <= nfe]
    if not rows:
        raise ValueError(f"{finished.folder}: no cell of '{dataset}' with at most {nfe} evaluations has a {metric}")
    row = rows[-1]
    other = row["distilled"] if row["take"] == "plain" else row["plain"]
    taken = row[row["take"]]
    ties = [*taken["ties"], *([other["best"], *other["ties"]] if row["better"] == "tied" else [])]
    cell = next(cell for cell in cells if cell["name"] == taken["best"])
    return cell["solver"], cell["nfe"], ties


def left_open(finished: Finished, metric: str, name: str, ties: Iterable[str]) -> list[str]:
    """Those of a cell's ties that two seeds leave open and a third would end, by :func:`verdicts.unsettled`."""
    own = finished.scores(name)[metric]
    return [tie for tie in ties if verdicts.unsettled(finished.scores(tie)[metric], own)]


def _software(environments: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Versions that the samples were made with; several if the jobs had different ones."""
    found: dict[str, set[str]] = {}
    for environment in environments:
        for name, version in environment["software"].items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _fit(folder: Path, cell: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Coefficients and what they belong to, and levels where the fit moved them; all None for a plain cell."""
    nothing: dict[str, Any] = dict.fromkeys(("lambdas", "directions", "levels"))
    if "fit" not in cell:
        return nothing
    path = folder / "lambdas.json"
    values = storage.read_json(path)
    if values["cell"] != {**cell["run"], "model": model} or values["distill"] != cell["fit"]:
        raise ValueError(f"{path} was made with another configuration than {PROVENANCE} says: run snakemake again")
    found = {**{key: values[key] for key in nothing}, "fit": cell["fit"]}
    found |= {key: values[key] for key in portable.ADDED if values[key] is not None}
    if not moves_levels(values["family"]):
        found["levels"] = None
    if values["coefficients"] is not None:  # which are all that there is
        found |= {"lambdas": None, "directions": None}
    elif values["directions"] is not None:
        found["directions"] = Directions(**values["directions"]).said()
    return found


def _sigmas(folder: Path, run: dict[str, Any], card: dict[str, Any]) -> torch.Tensor:
    """The levels that the cell's samples were made on."""
    facts = ModelFacts.of_card(card)
    solver, grid = solvers.create(run["solver"], **run["options"]), run["grid"]
    steps = grids.intervals(solver, run["nfe"], grid["options"])
    made = grids.grids.get(grid["name"])
    if made.recipe:
        order = recipe_order(facts.prediction, run["solver"], run["options"])
        return released.recipe(run["solver"], order, facts, steps, 1).sigmas
    prepared = {"prepared": folder / "prepared" / made.prepare} if made.prepare else {}
    return grids.for_facts(facts, grid["name"], steps, **grid["options"], **prepared)
