"""The grid that a card leaves out: that at which the scheduler beside its weights steps. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from dode.models.hub import own_grid, repository
from dode.pipelines import described, limits

#: Pipelines that tell their scheduler the shift for the image's size, and of them those that give it the times to step
#: at, too, uniform from 1 to 1/N.
SHIFTED, OWN_TIMES = ("FluxPipeline", "StableDiffusion3Pipeline"), ("FluxPipeline",)

Files = Mapping[str, Mapping[str, Any]]


def of(card: Mapping[str, Any], files: Files) -> own_grid.Grid | None:
    """The grid of the scheduler among a card's files, ``{name, options}``; None where there is no scheduler.

    Args:
        card: of a pipeline or a network of the hub, completed.
        files: what is read beside its weights (:mod:`dode.pipelines.described`, :mod:`dode.models.hub.repository`).

    Raises:
        ValueError: as :func:`dode.models.hub.own_grid.of`.
    """
    if "pipeline" not in card:
        scheduler = files.get(repository.SCHEDULER)
        # Behind a preconditioning its levels are other ones.
        return None if scheduler is None or "preconditioning" in card else own_grid.of(scheduler)
    kind, scheduler = card["pipeline"]["class"], files.get(described.SCHEDULER)
    if scheduler is None:
        return None
    tokens, latent = None, card.get("latent_shape")
    if kind in SHIFTED and described.is_shape(latent):
        tokens = math.prod(latent[1:]) / limits.sides(kind, described.network_config(files)).unit ** 2
    # FLUX gives no times where a configuration has `use_flow_sigmas`, which this scheduler does not read itself.
    given = not (scheduler.get("_class_name") == own_grid.EULER and scheduler.get("use_flow_sigmas"))
    return own_grid.of(scheduler, tokens=tokens, own_times=kind in OWN_TIMES and given)


def completed(card: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """The card with its scheduler's grid as ``sampling.grid``, unless it says one or there is none.

    Raises:
        ValueError: for a value of the scheduler's configuration that is none.
    """
    sampling = card.get("sampling", {})
    if not isinstance(sampling, Mapping) or "grid" in sampling:
        return dict(card)
    try:
        grid = of(card, files)
    except own_grid.NotServedError:
        grid = None
    return dict(card) if grid is None else {**card, "sampling": {"grid": grid, **sampling}}
