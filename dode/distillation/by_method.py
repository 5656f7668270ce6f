"""Fits by methods of others (:mod:`dode.distillation.learned`), by their names."""

from collections.abc import Mapping
from typing import Any

import torch

from dode.distillation import learned
from dode.distillation.fitted import Fit, made_from, of_student
from dode.distillation.task import Checkpoint, Task
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Grid, Levels, checked
from dode.solvers.base import Denoise, Solver


def check_method(
    name: str, solver: Solver, denoise: Denoise, levels: torch.Tensor, images: int, options: Mapping[str, Any]
) -> None:
    """ValueError where the fit ``name`` has no such options, solver or number of images, before any evaluation."""
    method, steps = learned.fits.get(name), len(levels) - 1
    learned.fits.check_options(name, options)
    method.check(images, solver.nfe(steps, end=levels[-1]), **options)
    method.check_solver(solver, learned.Span(steps, float(levels[-1]), ModelFacts.of(denoise).sigma_min), **options)


def fit_by_method(
    name: str,
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    options: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    **followed: Any,
) -> Fit:
    """The fit ``name`` of :data:`dode.distillation.learned.fits`.

    Args:
        solver, denoise, latents, sigmas: as of :func:`dode.distill`.
        options: of the method.
        checkpoint: where an interrupted fit goes on.
        followed: ``ends`` or ``states``, ``clip`` and ``seed`` as of :class:`dode.distillation.task.Task`.
    """
    method, levels = learned.fits.get(name), checked(sigmas)
    check_method(name, solver, denoise, levels, len(latents), options)
    kept = sigmas if isinstance(sigmas, Grid) else levels  # which knows its family
    task = Task(solver, denoise, latents, kept, checkpoint=checkpoint or Checkpoint(), **followed)
    student = method(task, **options)
    if student.nfe != task.nfe:
        raise RuntimeError(f"fit '{name}' made a solver of {student.nfe} evaluations, not of {task.nfe}")
    return of_student(student, made_from(solver, sigmas, denoise, latents), family=name, cost=task.meter)
