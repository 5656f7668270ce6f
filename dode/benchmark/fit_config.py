"""The fits and preparations of a configuration, checked and completed. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from dode import grids, solvers
from dode.benchmark.conditions import refuse
from dode.directions import Directions
from dode.distillation import fit_checks, learned
from dode.fetching.cards import Card
from dode.grids import schedules
from dode.grids.facts import ModelFacts
from dode.validation import ConfigError


def check_recipe(entry: dict[str, Any], key: str, alignment: str | None, card: Card, steps: Sequence[int]) -> None:
    """Refuse combinations for which the authors' code has no recipe."""
    if "pipeline" in card:
        raise ConfigError(
            f"{key}.grid.name: 'released' is not allowed for a pipeline, of which the authors' code has none"
        )
    if "distill" in entry and entry["distill"]["fit"] not in ("greedy", "refined"):
        raise ConfigError(f"{key}.distill.fit: the grid 'released' has a fit of its own; allowed: greedy")
    if alignment not in (None, "released"):
        raise ConfigError(
            f"{key}.distill.alignment: '{alignment}' on the grid 'released', which has a teacher of its own; "
            "allowed: released"
        )
    if entry.get("grid", {}).get("options"):
        raise ConfigError(f"{key}.grid.options: the grid 'released' has no options; leave the key out")
    if not entry.get("distill", {}).get("stages", True):
        raise ConfigError(f"{key}.distill.stages: the authors' recipes correct inner stages too; leave the key out")
    refuse(f"{key}.solver", fit_checks.check_recipe_of, card["prediction"], entry["solver"])
    refuse(f"{key}.options", fit_checks.recipe_order, card["prediction"], entry["solver"], entry["options"])
    if "schedule" in card:
        schedule = schedules.schedules.create(**card["schedule"])
        for count in steps:
            refuse(f"{key}.grid", fit_checks.check_recipe_schedule, entry["solver"], count, schedule)
    elif card["prediction"] == "noise":
        raise ConfigError(f"{key}.grid.name: 'released' needs a noise-prediction model with a schedule")


def check_released_grid(entry: dict[str, Any], key: str, grid: dict[str, Any], card: Card) -> None:
    """Refuse the alignment ``released`` where the authors' code has no teacher."""
    refuse(f"{key}.distill.alignment", fit_checks.check_released, card["prediction"], entry["solver"])
    if not grids.grids.get(grid["name"]).family:
        raise ConfigError(
            f"{key}.distill.alignment: 'released' has a teacher on the same grid with more steps, which "
            f"'{grid['name']}' cannot make; allowed: {', '.join(grids.families())}"
        )
    if card["prediction"] == "data":
        for nfe in entry["nfe"]:
            fine = entry["distill"]["substeps"] * nfe
            facts = ModelFacts.of_card(card)
            refuse(f"{key}.distill.substeps", grids.check, grid["name"], fine, facts, **grid["options"])


def check(entry: dict[str, Any], key: str, card: Card, dataset: dict[str, Any]) -> None:
    """Refuse a fit, :func:`complete`, that cannot be made on a dataset."""
    distill = entry["distill"]
    refuse(key, solvers.create(entry["solver"], **entry["options"]).check_shared_levels)
    if distill["fit"] not in fit_checks.FITS:
        _check_method(entry, key, card, dataset)
        return
    directions = refuse(f"{key}.directions", Directions.of, distill["directions"], card["prediction"])
    images, solver = fitting_images(distill, dataset), solvers.create(entry["solver"], **entry["options"])
    for nfe in entry["nfe"] if directions.basis else ():
        options = _grid_options(entry, dataset)
        placed = grids.placed(solver, options), grids.intervals(solver, nfe, options)
        refuse(f"{key}.directions", fit_checks.check_basis, directions.basis, distill["fit"], *placed, nfe)
    if distill["fit"] == "joint":
        _check_joint(entry, key, images, directions.count, dataset)
        _check_unprepared(entry, key)
        return
    _check_teacher(distill, key)
    if distill["alignment"] == "released":
        if "teacher" in distill:
            raise ConfigError(f"{key}.teacher: alignment 'released' has its own teacher; leave the key out")
        if distill["directions"] != 1:
            raise ConfigError(f"{key}.directions: alignment 'released' has one direction, not {distill['directions']}")
    refuse(f"{key}.alignment", fit_checks.check_fit, distill["fit"], distill["alignment"])
    afs = _grid_options(entry, dataset).get("afs", False)
    refuse(f"{key}.alignment", fit_checks.check_alignment, distill["alignment"], afs=afs)
    for nfe in entry["nfe"]:
        refined = distill.get("iterations", 0)
        refuse(f"{key}.images", fit_checks.check_images, images, directions.count, nfe, refined)


def _check_teacher(distill: dict[str, Any], key: str) -> None:
    """Refuse a teacher that is none, of whichever fit that has one."""
    if "teacher" in distill and refuse(f"{key}.teacher", solvers.create_teacher, distill["teacher"]).method.prepare:
        raise ConfigError(f"{key}.teacher: '{distill['teacher']}' must be prepared itself; take another teacher")


def _grid_options(entry: dict[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    return entry.get("grid", dataset["grid"])["options"]


def _check_unprepared(entry: dict[str, Any], key: str) -> None:
    """Refuse a solver that must be prepared itself for a fit of a whole solver."""
    if solvers.create(entry["solver"], **entry["options"]).method.prepare:
        fit = entry["distill"]["fit"]
        raise ConfigError(f"{key}.fit: '{entry['solver']}' must be prepared; a fit '{fit}' takes other solvers")


def _check_method(entry: dict[str, Any], key: str, card: Card, dataset: dict[str, Any]) -> None:
    """Check a fit by a method of others."""
    distill = entry["distill"]
    _check_unprepared(entry, key)
    _check_teacher(distill, key)
    method, images = learned.fits.get(distill["fit"]), fitting_images(distill, dataset)
    refuse(f"{key}.options", learned.fits.check_options, distill["fit"], distill["options"])
    _check_levels(entry, f"{key}.fit", method, distill["options"], card, dataset)
    _check_learning(entry, key, method, images, distill["options"], dataset)


def check_solver(entry: dict[str, Any], key: str, card: Card, of_grid: Mapping[str, Any]) -> None:
    """Refuse what a solver with a network of its own, or one that adds noise, does not go with."""
    name, own = entry["solver"], solvers.create(entry["solver"], **entry["options"])
    method = own.method
    if "distill" in entry:
        refuse(f"{key}.distill", fit_checks.check_noiseless, own)
    if method.network and "distill" in entry:
        raise ConfigError(f"{key}.distill: '{name}' has a network of its own and is not fitted besides; leave it out")
    if method.stochastic and of_grid.get("afs"):
        raise ConfigError(
            f"{key}.grid.options.afs: '{name}' follows no trajectory whose first step could be known; leave it out"
        )
    check_network(name, key, card)


def check_network(name: str, key: str, card: Card) -> None:
    """Refuse a solver for a model that it is not for: of a network that it trains, or that a solver could follow."""
    method = solvers.create(name).method
    if method.network and "pipeline" in card:
        raise ConfigError(
            f"{key}.solver: '{name}' has a network of its own, and a pipeline's is not trained; leave it out"
        )
    needs_consistency = method.network == "consistency" and not method.prepare
    if (card.get("preconditioning", {}).get("name") == "consistency") == needs_consistency:
        return
    if needs_consistency:
        raise ConfigError(
            f"{key}.solver: '{name}' needs a consistency model, whose card has preconditioning: {{name: consistency}}; "
            "'consistency-distillation' and 'ect' make one of another model"
        )
    raise ConfigError(
        f"{key}.solver: '{name}' is for diffusion models, and the dataset's is a consistency model; "
        "allowed: consistency"
    )


def check_preparation(entry: dict[str, Any], key: str, card: Card, dataset: dict[str, Any]) -> None:
    """Check how what a solver needs is prepared, and fill in what is left out."""
    name = entry["solver"]
    if name not in learned.preparations.names():
        if "prepare" in entry:
            known = ", ".join(learned.preparations.names()) or "none"
            raise ConfigError(f"{key}.prepare: solver '{name}' needs nothing prepared; solvers that do: {known}")
        return
    own = entry.setdefault("prepare", {})
    own.setdefault("options", {})
    refuse(f"{key}.prepare.options", learned.preparations.check_options, name, own["options"])
    method, images = learned.preparations.get(name), preparing_images(entry, dataset)
    _check_levels(entry, f"{key}.prepare", method, own["options"], card, dataset)
    _check_learning(entry, f"{key}.prepare", method, images, own["options"], dataset)


def _check_levels(
    entry: dict[str, Any],
    key: str,
    method: learned.Learned,
    options: dict[str, Any],
    card: Card,
    dataset: dict[str, Any],
) -> None:
    """Refuse a solver, or so many steps of its grid, that a method is not for."""
    solver, of_grid = solvers.create(entry["solver"], **entry["options"]), _grid_options(entry, dataset)
    lowest = ModelFacts.of_card(card).sigma_min
    for nfe in entry["nfe"]:
        span = learned.Span(grids.intervals(solver, nfe, of_grid), grids.ends_at(of_grid), lowest)
        refuse(key, method.check_solver, grids.placed(solver, of_grid), span, **options)


def _check_learning(
    entry: dict[str, Any],
    key: str,
    method: learned.Learned,
    images: int,
    options: dict[str, Any],
    dataset: dict[str, Any],
) -> None:
    for nfe in entry["nfe"]:
        if method.follows == "ends":
            _check_finer(key, nfe, dataset)
        refuse(key, method.check, images, nfe, **options)


def _check_finer(key: str, nfe: int, dataset: dict[str, Any]) -> None:
    """Refuse to follow a fine solution that is none beside so many evaluations."""
    fine = dataset["reference"]["nfe"]
    if nfe > fine:
        raise ConfigError(
            f"{key}: with NFE {nfe} it would follow the fine solution of dataset '{dataset['id']}', whose "
            f"reference.nfe is only {fine}"
        )


def _check_joint(entry: dict[str, Any], key: str, images: int, directions: int, dataset: dict[str, Any]) -> None:
    """Refuse a joint fit that could fit nothing, or has nothing better than itself to follow."""
    distill, solver = entry["distill"], solvers.create(entry["solver"], **entry["options"])
    refuse(f"{key}.images", fit_checks.check_joint_images, images)
    for nfe in entry["nfe"]:
        _check_finer(f"{key}.fit", nfe, dataset)
        refuse(
            key,
            fit_checks.check_joint,
            images,
            distill["family"],
            directions,
            nfe,
            grids.intervals(solver, nfe, _grid_options(entry, dataset)),
            distill.get("budget"),
        )


def fitting_images(distill: Mapping[str, Any], dataset: Mapping[str, Any]) -> int:
    """Size of the fitting set of a solver's ``distill`` on a dataset."""
    if distill["fit"] in fit_checks.FITS:
        least = fit_checks.JOINT_IMAGES if distill["fit"] == "joint" else 0
    else:
        least = learned.fits.get(distill["fit"]).images
    return distill.get("images", max(dataset["fit_images"], least))


def preparing_images(entry: Mapping[str, Any], dataset: Mapping[str, Any]) -> int:
    """How many images what a solver needs is prepared from on a dataset."""
    own = learned.preparations.get(entry["solver"])
    return entry["prepare"].get("images", max(dataset["fit_images"], own.images))


def complete(distill: dict[str, Any], key: str) -> None:
    """Fill in the defaults of a kind of fit; refuse keys that belong to another kind."""
    refuse(f"{key}.fit", fit_checks.check_fit, distill["fit"], "aligned")
    if distill["fit"] not in fit_checks.FITS:
        own: dict[str, Any] = {"options": {}}
        if learned.fits.get(distill["fit"]).follows == "states":
            own |= {name: fit_checks.FOLLOWING[name] for name in fit_checks.OF_TEACHER}
    else:
        own = dict(fit_checks.DEFAULTS[distill["fit"]])
    if distill["fit"] == "joint":
        own["directions"] = fit_checks.joint_directions(distill.get("family", own["family"]))
    for name in distill:
        if name not in own and name not in fit_checks.SHARED:
            kinds = [kind for kind, keys in fit_checks.DEFAULTS.items() if name in keys]
            if name in fit_checks.OF_TEACHER:
                kinds += [each for each in learned.fits.names() if learned.fits.get(each).follows == "states"]
            raise ConfigError(
                f"{key}.{name}: a {distill['fit']} fit has no such key; allowed with fit: {', '.join(kinds)}"
            )
    for name, value in own.items():
        if value is not None:
            distill.setdefault(name, value)
