"""The grid that a search has chosen."""

from pathlib import Path
from typing import Any

import numpy as np

from dode import solvers, storage
from dode.grids import shared
from dode.grids.base import check_numbers, filled, grid, grids, refuse_filled
from dode.grids.facts import ModelFacts
from dode.grids.variables import Variable


def _search_plan(*, steps, model, over, candidates, images, coefficient, teacher, end="zero"):
    """Refuse bad options of ``searched``; the candidates as (levels, variable)."""
    if (
        not isinstance(over, dict)
        or not isinstance(over.get("name"), str)
        or set(over) - {"name", "options"}
        or not isinstance(over.get("options", {}), dict)
    ):
        raise ValueError(f"grid 'searched': over must be a grid, {{name: ..., options: {{...}}}}, not {over!r}")
    if grids.get(over["name"]).prepare:
        raise ValueError(f"grid 'searched': over cannot be '{over['name']}', which must be prepared itself")
    for option, value in (("candidates", candidates), ("images", images)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"grid 'searched': {option} must be an integer of at least 1, not {value!r}")
    if steps > candidates - 1:
        raise ValueError(
            f"grid 'searched': {steps} steps need at least {steps + 1} candidates, not {candidates}; "
            f"{candidates} candidate levels make at most {candidates - 1} steps"
        )
    check_numbers("searched", coefficient=coefficient)
    if solvers.create_teacher(teacher).method.prepare:
        raise ValueError(f"grid 'searched': teacher cannot be '{teacher}', which must be prepared itself")
    options = over.get("options", {})
    refuse_filled(options)
    for option in shared.SHARED:
        if option in options:
            raise ValueError(f"grid 'searched': over cannot have the option '{option}'; it is one of 'searched' itself")
    grids.check_options(over["name"], {"steps": candidates - 1, **options})
    own = filled(over["name"], options, model or ModelFacts())
    return grids.get(over["name"]).levels(steps=candidates - 1, end=end, **own)


@grid(
    "searched",
    family=False,
    prepare="searched.json",
    plan=_search_plan,
    source="Chen et al. 2024, arXiv:2405.11326",
)
def searched(
    *,
    steps: int,
    prepared: str | Path | None = None,
    model: ModelFacts | None = None,
    over: dict[str, Any] = {"name": "karras"},  # noqa: B006 - read only, and shown as the default
    candidates: int = 61,
    images: int = 100,
    coefficient: float = 1.0,
    teacher: str = "heun",
    end: str = "zero",
) -> tuple[np.ndarray, Variable]:
    """The levels that :func:`dode.search.search` chose among those of another grid (Chen et al. 2024, 2405.11326).

    ``over`` is the grid of the candidates, ``{name, options}``, of ``candidates`` levels, the last one among them; with
    ``end="sigma_min"`` they end there. ``images`` is the number of the teacher's trajectories, ``coefficient`` and
    ``teacher`` are the search's. ``prepared`` is the path of the artefact with the result (rules/solvers/gits.smk),
    ``model`` is the model's :class:`dode.grids.facts.ModelFacts`. Refined in the variable of ``over``.
    """
    if prepared is None:
        raise ValueError("grid 'searched' needs a prepared file with its levels; in a program, call dode.search.search")
    _, variable = _search_plan(
        steps=steps,
        model=model,
        over=over,
        candidates=candidates,
        images=images,
        coefficient=coefficient,
        teacher=teacher,
        end=end,
    )
    levels = storage.read_json(prepared)["sigmas"]
    if len(levels) != steps + 1:
        raise ValueError(f"grid 'searched': {prepared} contains a grid of {len(levels) - 1} steps, not {steps}")
    return np.array(levels), variable
