"""Teacher trajectories: which solver, on which grid, and with which of its states a student is compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch

from dode import driver, grids, solvers
from dode.distillation import fit_checks
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Grid, Levels, checked
from dode.solvers.base import Denoise, Solver

#: The teacher's states, ``(level, state)``.
States: TypeAlias = Iterable[tuple[float, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The pairing of a student's evaluations with a teacher's states.

    Attributes:
        teacher: the teacher's solver.
        sigmas: its grid.
        levels: per evaluation of the student, the noise level of the teacher's state that is its target (a level of
            ``sigmas``), or None where the evaluation is not fitted.
        scales: per evaluation, the factor on that state (1 but for the released VP recipe).
        from_noise: see :class:`dode.directions.Directions`.
    """

    teacher: solvers.Solver
    sigmas: torch.Tensor
    levels: tuple[float | None, ...]
    scales: tuple[float, ...]
    from_noise: bool = False

    @property
    def kept(self) -> list[float]:
        """The levels of the teacher's states that are needed, descending, each once."""
        return sorted({level for level in self.levels if level is not None}, reverse=True)

    def targets(self, denoise: Denoise, states: States, dtype: torch.dtype) -> _Followed:
        """The targets of a run, from the states of :func:`trajectory`."""
        return _Followed(self, iter(states))


class _Followed:
    """``target(step)``: the paired state of the trajectory, or None; ``end`` is the last one."""

    def __init__(self, pairing, states):
        self.pairing, self.states = pairing, states
        self.level = self.end = None

    def __call__(self, step):
        level = self.pairing.levels[step.index]
        if level is None:
            return None
        while self.level is None or self.level > level:
            self.level, self.end = next(self.states, (None, None))
            if self.level is None:
                break
        if self.level != level:
            raise ValueError(f"evaluation {step.index}: the teacher has no state at sigma = {level}")
        return self.end.to(torch.float64) * self.pairing.scales[step.index]


@dataclasses.dataclass(frozen=True)
class Local:
    """Targets that begin at the student: each of its steps again, from its own state, by the teacher's small ones.

    Attributes:
        teacher: the teacher's solver.
        variable: of the student's grid; each interval between proposals is divided uniformly in it.
        substeps: into how many.
    """

    teacher: solvers.Solver
    variable: grids.Variable
    substeps: int
    from_noise = False

    def targets(self, denoise: Denoise, states: States, dtype: torch.dtype) -> _Restarted:
        """The targets of a run of ``denoise``, called in the precision ``dtype``; ``states`` must be empty."""
        return _Restarted(self, denoise, dtype)


class _Restarted:
    """``target(step)``: where the teacher gets from the state at the beginning of the student's present step."""

    def __init__(self, pairing, denoise, dtype):
        self.pairing, self.denoise, self.dtype = pairing, denoise, dtype
        self.level = self.x = None
        self.begins = True

    def __call__(self, step):
        if self.begins:
            self.level, self.x = float(step.sigma), step.x
        self.begins = not step.proposal.stage
        level = float(step.proposal.sigma)
        if level < self.level:
            levels = self.pairing.variable.refine(np.array([self.level, level]), self.pairing.substeps)
            latents = step.latents.to(self.dtype)  # whose precision is the network's
            run = driver.steps(self.pairing.teacher, self.denoise, latents, levels, start=self.x)
            self.level, self.x = level, driver.drive(run)
        return self.x


def variable_of(sigmas: Levels) -> grids.Variable:
    """The grid's own variable; rho-space with rho = 7 for a plain tensor."""
    own = getattr(sigmas, "variable", None)
    if own is not None:
        return own
    positive = [float(sigma) for sigma in sigmas if sigma > 0]
    return grids.rho_space(sigma_min=min(positive))


def _teacher_of(solver, name):
    return solvers.create_teacher(name) if name else solver.teacher


def aligned(solver: Solver, sigmas: Levels, substeps: int, teacher: str | None = None) -> Alignment:
    """Each state of the student is compared with the teacher's at the same noise level, including inner stages.

    The teacher's grid divides every interval between the student's proposals into ``substeps``, uniform in the grid's
    own variable; ``teacher`` is a solver name, by default the student's own choice.
    """
    levels = driver.proposal_levels(solver, sigmas)
    # An analytic first step is none of the student's, but the teacher makes it: its end counts too.
    distinct = sorted({float(checked(sigmas)[0]), driver.evaluated_levels(solver, sigmas)[0], *levels}, reverse=True)
    variable = variable_of(sigmas)
    fine = Grid.of(variable.refine(np.array(distinct), substeps), variable, None)
    return Alignment(_teacher_of(solver, teacher), fine, tuple(levels), (1.0,) * len(levels))


def local(solver: Solver, sigmas: Levels, substeps: int, teacher: str | None = None) -> Local:
    """The teacher's small steps begin at the student's state (IIA: Zhang, Niwa & Kleijn 2023, arXiv 2304.11328)."""
    return Local(_teacher_of(solver, teacher), variable_of(sigmas), substeps)


def released(solver: Solver, sigmas: Levels, substeps: int, prediction: str) -> Alignment:
    """The pairing of the authors' released code (commit 6dc5a1c), to the digit: targets at other noise levels.

    Data prediction (``ddim``, ``heun``): Euler teacher on the same family of grid with ``substeps * K`` steps;
    evaluation k >= 1 of K is held against entry ``(k + 1) substeps``; the first is not fitted.
    Noise prediction (``ddim``): DDIM teacher with ``M = min(T, substeps * N)`` steps; evaluation k is held against
    entry ``(k + 1) (M // N)``, the last against the end state. The comparison is made in VP coordinates, hence the
    scale.
    """
    fit_checks.check_released(prediction, solver.name)
    remake = getattr(sigmas, "remake", None)
    if remake is None:
        raise ValueError(
            "alignment 'released' needs sigmas made by a function of dode.grids: its teacher has a grid of the same "
            "family with more steps"
        )
    student, steps = driver.proposal_levels(solver, sigmas), len(sigmas) - 1
    teacher = solvers.create("ddim")
    if prediction == "data":
        fine = remake(steps=substeps * len(student))
        entries = [None] + [(k + 1) * substeps for k in range(1, len(student))]
        levels = tuple(None if entry is None else float(fine[entry]) for entry in entries)
        return Alignment(teacher, fine, levels, (1.0,) * len(levels))
    limit = variable_of(sigmas).max_steps or substeps * steps
    fine = remake(steps=min(limit, substeps * steps))
    return paired_in_vp(teacher, fine, student, strided(steps, len(fine) - 1))


def align(
    solver: Solver,
    denoise: Denoise,
    sigmas: Levels,
    *,
    substeps: int = 10,
    alignment: str = "aligned",
    teacher: str | None = None,
) -> Alignment | Local:
    """The pairing of a solver with its teacher by name: ``"aligned"``, ``"local"`` or ``"released"``.

    Returns:
        A :class:`Alignment`, for ``"local"`` a :class:`Local`.
    """
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"substeps must be an integer of at least 1, not {substeps!r}")
    fit_checks.check_alignment(alignment, afs=driver.on_grid(solver, sigmas).afs)
    if alignment == "aligned":
        return aligned(solver, sigmas, substeps, teacher)
    if alignment == "local":
        return local(solver, sigmas, substeps, teacher)
    if alignment == "released":
        if teacher is not None:
            raise ValueError("alignment 'released' has its own teacher; leave 'teacher' out")
        return released(solver, sigmas, substeps, ModelFacts.of(denoise).prediction)
    raise ValueError(f"alignment must be 'aligned', 'local' or 'released', not '{alignment}'")


def strided(evaluations: int, end: int) -> list[int]:
    """Entries of a trajectory of ``end`` steps: every (end // evaluations)-th, and the end state for the last."""
    stride = end // evaluations
    return [(k + 1) * stride for k in range(evaluations - 1)] + [end]


def paired_in_vp(teacher: Solver, fine: torch.Tensor, student: Sequence[float], entries: Sequence[int]) -> Alignment:
    """Hold the proposals at levels ``student`` against ``entries`` of the teacher's states on the grid ``fine``.

    The states are compared in VP coordinates, ``x / sqrt(1 + sigma^2)``, hence the scales, and pure noise is the output
    before the first evaluation: so does the authors' released code.
    """
    levels = tuple(float(fine[entry]) for entry in entries)
    scales = tuple(((1 + own**2) / (1 + other**2)) ** 0.5 for own, other in zip(student, levels, strict=True))
    return Alignment(teacher, fine, levels, scales, from_noise=True)


def trajectory(alignment: Alignment, denoise: Denoise, latents: torch.Tensor) -> Iterator[tuple[float, torch.Tensor]]:
    """Generate the teacher's states at ``alignment.kept``, as ``(level, state)``; one state is held at a time."""
    wanted = iter(alignment.kept)
    level = next(wanted, None)
    for step in driver.steps(alignment.teacher, denoise, latents, alignment.sigmas):
        if not step.proposal.stage and float(step.proposal.sigma) == level:
            yield level, step.proposal.x
            level = next(wanted, None)
    if level is not None:
        raise ValueError(f"{alignment.teacher} never ends a step at sigma = {level}")
