"""The configuration: read, checked by schema and by meaning, defaults filled in. One clear error, before any job."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dode import grids, solvers
from dode.benchmark import conditions, fit_config, records
from dode.benchmark.conditions import Cards, refuse, take_card
from dode.benchmark.execution import settings
from dode.fetching.cards import Card, without_grid
from dode.grids.facts import ModelFacts
from dode.images import data
from dode.names import HALVES, REFERENCE
from dode.registry import unknown
from dode.report.archives import format as archives
from dode.validation import ConfigError, copied, paths_from_home, refuse_odd, validate

FIT_IMAGES = 100
# Names in the folder of results, or in a dataset's, that are no dataset's and no solver's.
RESERVED = (
    *(
        REFERENCE,
        HALVES,
        "real",
        "logs",
        "figures",
        "collected",
        "conditions",
        "fine-ends",
        "precision",
        records.FOLDER,
    ),
    *("index.html", "report.html", "table.csv", "table.md", "table.tex", "costs.csv", "costs.md"),
    *("provenance.json", "facts.json", "elsewhere"),
    *("published-statistics.npz", "reference-statistics.npz"),
)


def load(config: Mapping[str, Any], root: str | Path) -> tuple[dict[str, Any], Cards]:
    """A checked copy of ``config`` with defaults, and the cards it names.

    Args:
        config: the configuration as a dictionary (as read from YAML).
        root: the folder that holds ``config/``.

    Returns:
        ``(config, cards)``, cards by name.

    Raises:
        ConfigError: with one sentence that names the key, the value and what is allowed.
    """
    refuse_odd(config, what="configuration")
    config = paths_from_home(copied(config))
    validate(config, Path(root) / "config" / "schemas" / "config.schema.yaml", "configuration")
    _check_unique(config["datasets"], "datasets")
    _check_unique(config["solvers"], "solvers")
    known = [dataset["id"] for dataset in config["datasets"]]
    for name in config["execution"]["datasets"]:
        if name not in known:
            raise ConfigError(f"execution.datasets: {unknown('dataset', name, known)}")
    cards: Cards = {}
    for index, dataset in enumerate(config["datasets"]):
        _check_dataset(dataset, f"datasets[{index}]", cards, config, root)
    for index, entry in enumerate(config["solvers"]):
        entry.setdefault("label", entry["id"])
        entry.setdefault("datasets", known)
        for name in entry["datasets"]:
            if name not in known:
                raise ConfigError(f"solvers[{index}].datasets: {unknown('dataset', name, known)}")
        chosen = {f"datasets[{known.index(name)}]": config["datasets"][known.index(name)] for name in entry["datasets"]}
        _check_solver(entry, f"solvers[{index}]", chosen, cards)
    for index, dataset in enumerate(config["datasets"]):
        card, fitted = cards[dataset["model"]], _fitted(config, dataset)
        conditions.check_prompts(dataset, f"datasets[{index}]", card, fitted, root)
        conditions.check_prompt_scores(dataset, f"datasets[{index}]", cards, root)
    _check_labels(config["solvers"])
    _check_archives(config["archives"])
    _check_figures(config)
    return copied(config), cards


def _check_unique(entries: list[dict[str, Any]], key: str) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry["id"] in seen:
            raise ConfigError(
                f"{key}[{index}].id: '{entry['id']}' is also the id of {key}[{seen[entry['id']]}]; ids must be unique"
            )
        if entry["id"].lower() in RESERVED:  # some file systems do not tell them apart
            raise ConfigError(f"{key}[{index}].id: '{entry['id']}' is reserved; not allowed: {', '.join(RESERVED)}")
        seen[entry["id"]] = index


def _check_figures(config: Mapping[str, Any]) -> None:
    chosen, entries = config["figures"]["trajectories"], config["solvers"]
    for name in chosen.get("solvers", []):
        if name not in {entry["id"] for entry in entries}:
            known = [entry["id"] for entry in entries]
            raise ConfigError(f"figures.trajectories.solvers: {unknown('solver', name, known)}")
    nfes = sorted({nfe for e in entries if e["id"] in chosen.get("solvers", [e["id"]]) for nfe in e["nfe"]})
    if chosen.get("nfe", nfes[0]) not in nfes:
        allowed = ", ".join(map(str, nfes))
        raise ConfigError(f"figures.trajectories.nfe: {chosen['nfe']} is not allowed; allowed: {allowed}")


def _check_archives(entries: list[dict[str, Any]]) -> None:
    """Refuse archives that are not the files whose checksums the configuration has."""
    seen: dict[str, int] = {}
    for index, own in enumerate(entries):
        key = f"archives[{index}]"
        if "{" in own["file"] or "}" in own["file"]:
            raise ConfigError(
                f"{key}.file: '{own['file']}' has a brace, which Snakemake takes for a wildcard; rename it"
            )
        sha256 = hashlib.sha256(refuse(f"{key}.file", archives.content, own["file"])).hexdigest()
        if sha256 != own["sha256"]:
            raise ConfigError(
                f"{key}.sha256: {own['file']} has the SHA-256 {sha256}, not {own['sha256']}; `python -m dode add "
                f"{own['file']}` says what is in the file, and adds it as it is now"
            )
        if sha256 in seen:
            raise ConfigError(f"{key}.file: {own['file']} is the same file as that of archives[{seen[sha256]}]")
        seen[sha256] = index


def _check_labels(entries: list[dict[str, Any]]) -> None:
    """Figures and tables know a solver by its label."""
    seen: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(entries):
        if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in entry["label"]):
            raise ConfigError(
                f"solvers[{index}].label: '{entry['label']}' is written from right to left, which figures and tables "
                "cannot show; allowed: text that is written from left to right"
            )
        if entry["label"].count("$") > 1:
            raise ConfigError(f"solvers[{index}].label: '{entry['label']}' has two '$', which would make it a formula")
        if re.search(r"†\s*[0-9]", entry["label"]):
            raise ConfigError(
                f"solvers[{index}].label: '{entry['label']}' has '†' before a number, which marks what was measured "
                "elsewhere; allowed: other labels"
            )
        for dataset in entry["datasets"]:
            looks = " ".join(unicodedata.normalize("NFC", entry["label"]).split())
            other = seen.setdefault((dataset, looks), index)
            if other != index:
                raise ConfigError(
                    f"solvers[{index}].label: '{entry['label']}' is also the label of solvers[{other}] on {dataset}"
                )


def _check_dataset(
    dataset: dict[str, Any], key: str, cards: Cards, config: Mapping[str, Any], root: str | Path
) -> None:
    card = take_card(dataset["model"], "diffusion", f"{key}.model", cards, root)
    refuse(f"{key}.model", ModelFacts.of_card, card)
    _fill_in(dataset, key, cards[dataset["model"]], root)
    _check_real(dataset, key, card, cards, root)
    conditions.check(dataset, key, cards, root)
    _check_execution(dataset, key, config["execution"])
    _check_precision(dataset, cards[dataset["model"]], config["execution"])
    kept = dataset.setdefault("trajectory_images", min(500, dataset["images"]))
    if kept > dataset["images"]:
        raise ConfigError(
            f"{key}.trajectory_images: {kept} is not allowed; allowed: at most the {dataset['images']} images"
        )
    fine = dataset["reference"]
    solver = _check_method(f"{key}.reference", fine["solver"], {})
    if solver.method.prepare:
        raise ConfigError(
            f"{key}.reference.solver: '{solver.name}' must be prepared, which a reference is not; take another solver"
        )
    fit_config.check_network(solver.name, f"{key}.reference", cards[dataset["model"]])
    place = f"{key}.reference.grid" if "grid" in fine else f"{key}.grid"
    grid = reference_grid(dataset)
    steps = _check_grid(grid, place, cards[dataset["model"]], solver, [fine["nfe"]], f"{key}.reference.nfe")
    if grid["options"].get("afs"):
        raise ConfigError(
            f"{place}.options.afs: the fine solution makes every step with the network; leave the key out"
        )
    if grids.grids.get(grid["name"]).prepare:
        raise ConfigError(
            f"{place}.name: '{grid['name']}' must be prepared, which {key}.reference does not "
            "support; take another grid"
        )
    _check_grid(dataset["grid"], f"{key}.grid", cards[dataset["model"]], solver, [], "")
    if grids.grids.get(grid["name"]).recipe:
        fine = {"solver": dataset["reference"]["solver"], "options": {}}
        fit_config.check_recipe(fine, f"{key}.reference", None, cards[dataset["model"]], steps)


def _check_execution(dataset: dict[str, Any], key: str, execution: dict[str, Any]) -> None:
    own, total = settings(execution, dataset["id"]), dataset["images"] * dataset["seeds"]
    place = "execution"
    if "shards" in execution["datasets"].get(dataset["id"], {}):
        place = f"execution.datasets.{dataset['id']}"
    if own["shards"] == "auto":
        if "evaluations_per_second" not in own:
            raise ConfigError(
                f"{place}.shards: 'auto' needs evaluations_per_second, in execution or "
                f"execution.datasets.{dataset['id']}"
            )
    elif own["shards"] > total:
        raise ConfigError(f"{place}.shards: {own['shards']} shards for {total} images of {key}; at most {total}")


def _check_precision(dataset: dict[str, Any], card: Card, execution: dict[str, Any]) -> None:
    """What is measured cannot be set besides."""
    own, name = settings(execution, dataset["id"]), dataset["id"]
    if own["precision"] != "auto":
        return
    place = "execution" if "precision" not in execution["datasets"].get(name, {}) else f"execution.datasets.{name}"
    if "pipeline" in card:
        raise ConfigError(
            f"{place}.precision: 'auto' is not possible for the dataset '{name}', whose model is a pipeline; set "
            f"execution.datasets.{name}.precision: card"
        )
    for key in ("channels_last", "compile"):
        if own[key]:
            raise ConfigError(
                f"execution.{key}: true is not allowed with precision: auto (dataset '{name}'), which tries it by "
                f"itself; leave {key} out"
            )


def _fill_in(dataset: dict[str, Any], key: str, card: Card, root: str | Path) -> None:
    """Fill in from the model's card what the dataset does not say."""
    for option, value in card.get("sampling", {}).items():
        dataset.setdefault(option, copied(value))
    if "data" not in dataset and "statistics" in card:
        dataset.setdefault("statistics", card["statistics"])
    if "guidance" in dataset and dataset["guidance"] is None:
        del dataset["guidance"]
    dataset.setdefault("fit_images", FIT_IMAGES)
    if "grid" not in dataset:
        why = without_grid(root, dataset["model"])
        raise ConfigError(
            f"{key}.grid: the key is missing, and the card '{dataset['model']}' has no sampling.grid"
            + (f": {why}" if why else "")
        )


def has_real(dataset: Mapping[str, Any]) -> bool:
    """Whether a dataset has real images, or statistics of them; FID, KID and what else compares with them need either.

    A pipeline's dataset may have neither. Its other scores compare with the fine solution, or with prompts.
    """
    return "data" in dataset or "statistics" in dataset


def has_features(dataset: Mapping[str, Any]) -> bool:
    """Whether a dataset's images are scored by their features; without, distances to the fine solution are left."""
    return dataset["features"] is not None


def _check_real(dataset: dict[str, Any], key: str, card: Card, cards: Cards, root: str | Path) -> None:
    """Check the real images or their statistics, and that the features are those of the statistics."""
    if "data" in dataset:
        for path in data.files(dataset["data"]):
            if "{" in path or "}" in path:
                raise ConfigError(f"{key}.data: '{path}' has a brace, which Snakemake takes for a wildcard; rename it")
        refuse(f"{key}.data", data.check, dataset["data"])
        if "statistics" in dataset:
            raise ConfigError(
                f"{key}.statistics: FIDs are computed against data or against statistics; leave one of them out"
            )
    elif not has_real(dataset) and "pipeline" not in card:
        raise ConfigError(
            f"{key}.data: the key is missing, there is no {key}.statistics, and the card '{dataset['model']}' has none"
        )
    if dataset.get("features", ...) is None:
        real = next((kind for kind in ("data", "statistics") if kind in dataset), None)
        if real is not None:
            raise ConfigError(
                f"{key}.features: null is not allowed with {real}, as images are compared with real ones by features; "
                "name a card, such as inception-clean"
            )
        return
    if "statistics" in dataset:
        name = dataset["statistics"]
        card = take_card(name, "statistics", f"{key}.statistics", cards, root)
        if dataset.setdefault("features", card["features"]) != card["features"]:
            raise ConfigError(
                f"{key}.features: '{dataset['features']}', but the statistics '{name}' are of '{card['features']}'; "
                "features of two extractors cannot be compared"
            )
    if "features" not in dataset:
        without = "" if has_real(dataset) else ", or null for the scores that need none"
        raise ConfigError(f"{key}.features: the key is missing; name a card, such as inception-clean{without}")
    if dataset["features"] == "none":
        raise ConfigError(f"{key}.features: 'none' is no card; write null for the scores that need none")
    take_card(dataset["features"], "features", f"{key}.features", cards, root)


def _check_method(key: str, name: str, options: dict[str, Any]) -> solvers.Solver:
    """The solver; refuses unknown ones and options."""
    refuse(f"{key}.solver", solvers.create, name)
    return refuse(f"{key}.options", solvers.create, name, **options)


def reference_grid(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The grid of a dataset's fine solution: its own, or the dataset's, whose savings are none of the fine one's."""
    if "grid" in dataset["reference"]:
        return dataset["reference"]["grid"]
    grid = dataset["grid"]
    options = {key: value for key, value in grid.get("options", {}).items() if key not in grids.SHARED}
    return {"name": grid["name"], "options": options}


def _check_grid(
    grid: dict[str, Any], key: str, card: Card, solver: solvers.Solver, nfes: Iterable[int], of_nfe: str
) -> list[int]:
    """The grid intervals of each NFE (key ``of_nfe``); refuses grids that cannot be made, NFEs the solver cannot."""
    refuse(f"{key}.name", grids.grids.get, grid["name"])
    refuse(f"{key}.options", grids.refuse_filled, grid.setdefault("options", {}))
    refuse(f"{key}.options", grids.grids.check_options, grid["name"], {"steps": 1, **grid["options"]})
    steps = [refuse(of_nfe, grids.intervals, solver, nfe, grid["options"]) for nfe in nfes]
    for count in steps:
        refuse(f"{key}.options", grids.check, grid["name"], count, ModelFacts.of_card(card), **grid["options"])
    return steps


def _check_solver(entry: dict[str, Any], key: str, chosen: dict[str, dict[str, Any]], cards: Cards) -> None:
    if len(set(entry["nfe"])) < len(entry["nfe"]):
        raise ConfigError(f"{key}.nfe: {entry['nfe']} lists an NFE twice")
    solver = _check_method(key, entry["solver"], entry["options"])
    if "prepared" in entry["options"]:
        raise ConfigError(f"{key}.options: 'prepared' is filled in by the workflow; leave it out")
    for place, dataset in chosen.items():
        card = cards[dataset["model"]]
        grid, place = (entry["grid"], key) if "grid" in entry else (dataset["grid"], place)
        steps = _check_grid(grid, f"{place}.grid", card, solver, entry["nfe"], f"{key}.nfe")
        fit_config.check_solver(entry, key, card, grid["options"])
        if "distill" in entry:
            fit_config.complete(entry["distill"], f"{key}.distill")
        fit_config.check_preparation(entry, key, card, dataset)
        alignment = entry.get("distill", {}).get("alignment")
        if grids.grids.get(grid["name"]).recipe:
            fit_config.check_recipe(entry, key, alignment, card, steps)
        elif alignment == "released":
            fit_config.check_released_grid(entry, key, grid, card)
        if "distill" in entry:
            fit_config.check(entry, f"{key}.distill", card, dataset)


def _fitted(config: Mapping[str, Any], dataset: Mapping[str, Any]) -> int:
    """Most images that a solver or a grid is fitted to on a dataset."""
    found = [0]
    for entry in (each for each in config["solvers"] if dataset["id"] in each["datasets"]):
        if "distill" in entry:
            found.append(fit_config.fitting_images(entry["distill"], dataset))
        if "prepare" in entry:
            found.append(fit_config.preparing_images(entry, dataset))
        grid = entry.get("grid", dataset["grid"])
        if grids.grids.get(grid["name"]).prepare:
            found.append({**grids.defaults(grid["name"]), **grid["options"]}["images"])
    return max(found)
