"""What the trained fits have as options, checked and reckoned without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from dode.distillation.fit_checks import CHECKED
from dode.distillation.learned import Expense, Span
from dode.grids.facts import ModelFacts
from dode.registry import finite, nearest
from dode.solvers.base import Solver

LOSSES = ("l2", "l1", "log")
CHECKS = 20  # times that the held-out images are looked at on the way


def held_out(images: int, share: float) -> int:
    """How many of the images are held out."""
    return max(1, round(images * share))


def batch_of(images: int, share: float, batch: int) -> int:
    """Images of an iteration: no more than there are that are not held out."""
    return min(batch, images - held_out(images, share))


def interval(iterations: int) -> int:
    """Iterations from one look at the held-out images to the next."""
    return max(1, math.ceil(iterations / CHECKS))


def check(images: int, nfe: int, *, loss: str | Callable[..., Any], **options: Any) -> None:
    """Raise ValueError, in one sentence, for a value that an option cannot have."""
    for name in ("iterations", "batch"):
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    if not (finite(options["learning_rate"]) and options["learning_rate"] > 0):
        raise ValueError(f"learning_rate must be a number above 0, not {options['learning_rate']!r}")
    if not (finite(options["held_out"]) and 0 < options["held_out"] < 1):
        raise ValueError(f"held_out must be a share above 0 and below 1, not {options['held_out']!r}")
    if not isinstance(options["recompute"], bool):
        raise ValueError(f"recompute must be True or False, not {options['recompute']!r}")
    if loss not in LOSSES and not callable(loss):
        known = ", ".join(map(repr, LOSSES))
        raise ValueError(f"loss must be one of {known}, or a function, not {loss!r}{nearest(loss, LOSSES)}")
    if images < 2:
        raise ValueError(f"images: {images} is too few, as at least one is held out and one is fitted")


def check_one_per_step(what: str, solver: Solver, span: Span) -> None:
    """Raise ValueError for a solver with another number of evaluations than one in each step."""
    made, own = solver.nfe(span.steps, end=span.end), f"{what} makes one evaluation in each of {span.steps} steps"
    if made != span.steps:
        raise ValueError(f"{own}, but {solver} makes {made}")
    if solver.afs:
        raise ValueError(f"{own}, but with afs the first has none")


def check_lowest(name: str, solver: Solver, span: Span, **options: Any) -> None:
    """Raise ValueError where there is no level that the fit ``name`` could go down to: see :func:`lowest`."""
    if span.steps == 1 and span.end == 0 and span.lowest is None:
        raise ValueError(
            f"fit '{name}' goes from the grid's first noise level to the model's lowest, sigma_min, which is not "
            "known; a grid of at least 2 steps, or one that ends above 0, has a level in its place"
        )


def expense(images: int, nfe: int, *, iterations: int, batch: int, held_out: float, **options: Any) -> Expense:
    """What :func:`dode.distillation.backprop.training.train` costs at most: it may end before the last iteration."""
    trained = iterations * batch_of(images, held_out, batch) * nfe
    looks = 1 + math.ceil(iterations / interval(iterations))
    return Expense(trained + looks * (images - fitted(images, held_out)) * nfe, trained)


def fitted(images: int, share: float) -> int:
    """How many of the images are not held out."""
    return images - held_out(images, share)


def lowest(facts: ModelFacts, sigmas: Iterable[float]) -> float:
    """The lowest positive level that a grid may have: its last, or the model's own where it ends at 0."""
    levels = [float(sigma) for sigma in sigmas]
    if levels[-1] > 0:
        return levels[-1]
    return levels[-2] if facts.sigma_min is None else min(levels[-2], facts.sigma_min)


def of_check(images: int, nfe: int) -> int:
    """Evaluations of the check that a solver is linear: two runs."""
    return 2 * min(CHECKED, images) * nfe


def soft(radius: float, elements: int, nfe: int) -> tuple[float, float] | None:
    """Radius of the soft objective and the rate at which noise moves; None for a radius of 0.

    The authors of LD3 (arXiv 2405.15506) have a radius of 0.001 times the number of elements over that of evaluations
    squared, and 12 over that number as the rate.
    """
    return (radius * elements / nfe**2, 12 / nfe) if radius else None
