"""The families of solvers that a joint fit chooses among, from the paper's one coefficient to the general linear form.

========== ==================================================================================================
lambda     one coefficient per evaluation, on the given noise levels (Kim, Tang & Yu 2024, arXiv 2309.16421)
directions m coefficients per evaluation, on the given levels
levels     and the noise levels, the first one included
told       and the levels that the network is told
general    every state a free combination of the noise and all outputs so far, told free levels (Shaul et al. 2024,
           arXiv 2403.01329)
========== ==================================================================================================

The first evaluation has a direction too: noise counts as the output before it (``Directions.from_noise``). A solver
that begins below the highest level needs that: its start ``sigma n`` lacks the share of the image that the skipped
steps would have added, which is a multiple of the first output.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from dode.directions import Directions, History
from dode.distillation.levenberg_marquardt import Images
from dode.distillation.linear_form import LinearForm, linear_form
from dode.driver import drive, steps
from dode.grids.facts import ModelFacts
from dode.sampling import Correction, Student
from dode.solvers.base import Solver

SCALED = 50  # images on which it is measured how far a coefficient moves the state
APART = 1e-4  # the least relative distance of two noise levels
SHORTEST = 1e-6  # a direction shorter than this share of the state is left out


def bounds(facts: ModelFacts, sigmas: torch.Tensor) -> tuple[float, float]:
    """Logarithms of the lowest and highest noise level: the model's own, or those of a grid that ends at 0."""
    positive = sigmas[sigmas > 0]
    lowest = float(positive[-1]) if facts.sigma_min is None else facts.sigma_min
    highest = float(positive[0]) if facts.sigma_max is None else facts.sigma_max
    return math.log(min(lowest, float(positive[-1]))), math.log(max(highest, float(positive[0])))


def begins_as_told(facts: ModelFacts) -> bool:
    """Whether the level that the network is told first must be that of the first state.

    So it must in flow matching: a pipeline of diffusers gives the noise itself to the network, which is of that size.
    """
    return facts.prediction == "flow"


def begun(solver: Solver, sigmas: torch.Tensor, directions: Directions, highest: float) -> Student:
    """The student without coefficients on the grid, but for the image that its start lacks.

    From the ``highest`` level to the first of the grid, steps would have added ``(1 - sigma_0 / highest) D`` to the
    state, of which ``(sigma_1 / sigma_0)`` is left after the first step: the first coefficient on ``D_0``.
    """
    lambdas = torch.zeros(solver.nfe(len(sigmas) - 1, end=sigmas[-1]), directions.count, dtype=torch.float64)
    first, second = sigmas[:2].tolist()
    if directions.differences and len(sigmas) > 2:
        share = second / first - second / highest
        lambdas[0, 0] = share if directions.kind_of(0) == "data" else -share * first
    return Student(solver, sigmas, lambdas, directions)


def widened(student: Student, directions: Directions) -> Student:
    """The same solver with more directions, whose coefficients begin at 0.

    Where the first is of another kind of output than the student's one, its coefficients mean nothing and begin at 0.
    """
    lambdas = torch.zeros(student.nfe, directions.count, dtype=torch.float64)
    own: Any = student.directions
    if directions.differences and directions.kind_of(0) == own.kind_of(0):
        lambdas[:, :1] = torch.as_tensor(student.lambdas)
    return dataclasses.replace(student, lambdas=lambdas, directions=directions)


class Corrections:
    """The coefficients of a student, and in some families its levels and the levels that the network is told.

    Args:
        student: where the fit begins.
        images: on the first of which the coefficients' units are measured.
        facts: of the model.
        limits: :func:`bounds`.
        levels, told: whether these are free. A model that knows some levels alone is always told the nearest of them.
    """

    def __init__(
        self,
        student: Student,
        images: Images,
        facts: ModelFacts,
        limits: tuple[float, float],
        *,
        levels: bool = False,
        told: bool = False,
    ):
        self.begun, self.facts, self.bounds = student, facts, limits
        self.free = len(student.sigmas) - 1 if levels else 0
        self.told = student.nfe - begins_as_told(facts) if told and facts.round_sigma is None else 0
        self.sigmas = torch.as_tensor(student.sigmas, dtype=torch.float64).as_subclass(torch.Tensor)
        scales = _scales(self._told(student), images)
        self.active = scales.nonzero(as_tuple=True)
        self.scales = scales[self.active]
        count = len(self.scales)
        offsets = torch.zeros(self.told, dtype=torch.float64)
        if self.told and student.told is not None:
            own = torch.tensor(student.own_levels(), dtype=torch.float64)
            offsets = torch.log(torch.as_tensor(student.told) / own)[-self.told :]
        lambdas = torch.as_tensor(student.lambdas)[self.active] / self.scales
        self.start = torch.cat([lambdas, self.sigmas[: self.free].log(), offsets])
        self.levels = torch.arange(len(self.start)).ge(count) & torch.arange(len(self.start)).lt(count + self.free)

    def student(self, z: torch.Tensor) -> Student | None:
        """The solver of z; None where its levels are out of order."""
        count = len(self.scales)
        lambdas = torch.as_tensor(self.begun.lambdas).clone()
        lambdas[self.active] = z[:count] * self.scales
        sigmas = self.sigmas.clone()
        sigmas[: self.free] = z[count : count + self.free].exp()
        if bool((sigmas[1:] > sigmas[:-1] * (1 - APART)).any()):
            return None
        found = dataclasses.replace(self.begun, sigmas=sigmas, lambdas=lambdas, told=None)
        if self.told:
            own = torch.tensor(found.own_levels(), dtype=torch.float64)
            own[-self.told :] *= z[count + self.free :].exp()
            return dataclasses.replace(found, told=own)
        return self._told(found)

    def _told(self, student):
        """A student whose network is told levels that it knows."""
        if self.facts.round_sigma is None:
            return student
        return dataclasses.replace(student, told=self.facts.round_sigma(student.own_levels()))

    def form(self, z: torch.Tensor) -> LinearForm | None:
        """Its linear form."""
        student = self.student(z)
        return None if student is None else linear_form(student, self.facts)


class General:
    """All coefficients of a linear form, in units that move the state by its own size, and the told levels.

    The first state is a multiple of the noise; its factor is the prior's at the first level, which is free. ``last``
    is the level of the end state.
    """

    def __init__(
        self,
        form: LinearForm,
        first: float,
        images: Images,
        facts: ModelFacts,
        limits: tuple[float, float],
        *,
        last: float = 0.0,
    ):
        self.last, self.facts, self.bounds, count = last, facts, limits, len(form.told)
        part = slice(0, min(SCALED, len(images.latents)))
        run = images.run(form, part)
        basis = [images.latents[part], *run.outputs]
        size = _rms(run.end)
        states = [*((float(level) ** 2 + size**2) ** 0.5 for level in form.told[1:]), size]
        rows, columns = torch.tril_indices(count + 1, count + 1)
        self.rows, self.columns = rows[1:], columns[1:]
        self.scales = torch.tensor(
            [
                states[row - 1] / max(_rms(basis[column]), SHORTEST)
                for row, column in zip(self.rows.tolist(), self.columns.tolist(), strict=True)
            ],
            dtype=torch.float64,
        )
        self.told, self.tied = form.told if facts.round_sigma is not None else None, begins_as_told(facts)
        levels = [math.log(first), *([] if self.told is not None else form.told[self.tied :].log().tolist())]
        self.start = torch.cat(
            [form.coefficients[self.rows, self.columns] / self.scales, torch.tensor(levels, dtype=torch.float64)]
        )
        self.levels = torch.arange(len(self.start)).ge(len(self.scales))

    def form(self, z: torch.Tensor) -> LinearForm:
        """Its linear form."""
        count = len(self.scales)
        size = int(self.rows[-1]) + 1
        coefficients = torch.zeros(size, size, dtype=torch.float64)
        coefficients[self.rows, self.columns] = z[:count] * self.scales
        coefficients[0, 0] = float(self.facts.prior_std(self._first(z)))
        return LinearForm(coefficients, z[count + 1 - self.tied :].exp() if self.told is None else self.told)

    def student(self, z: torch.Tensor) -> Student:
        """The solver of z."""
        return self.form(z).student(self._first(z), self.last)

    def _first(self, z):
        return math.exp(z[len(self.scales)])


def _scales(student, images):
    """(K, m): by how much each coefficient must change to move the state by its own size; 0 without a direction."""
    part = slice(0, min(SCALED, len(images.latents)))
    found = torch.zeros(torch.as_tensor(student.lambdas).shape, dtype=torch.float64)
    directions = student.directions
    history = History(directions)
    correction = Correction(student.lambdas, directions, "data", evaluations=student.nfe)

    def advance(step):
        size = (1 + float(step.sigma) ** 2) ** 0.5
        for column, direction in history.at(step).items():
            length = _rms(direction)
            found[step.index, column] = size / length if length > SHORTEST * size else 0
        return correction(step)

    noise = images.latents[part]
    drive(steps(student.solver, images.bound(part), noise, student.sigmas, told=student.told), advance)
    return found


def _rms(x):
    return float(torch.linalg.vector_norm(x.to(torch.float64)) / x.numel() ** 0.5)
