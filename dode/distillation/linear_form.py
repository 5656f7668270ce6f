"""A linear solver's states as combinations of the noise and the network's outputs."""

import math
from typing import NamedTuple

import torch
from scipy.optimize import brentq

from dode.grids.facts import ModelFacts
from dode.sampling import Student
from dode.solvers.non_stationary import NonStationary


class LinearForm(NamedTuple):
    """``x_i = c_i0 n + sum_{j<i} c_i,j+1 D_j`` with ``D_j = D(x_j; t_j)``; ``x_K`` is the end state.

    Attributes:
        coefficients: c, (K + 1, K + 1) float64, lower triangular.
        told: t, the noise levels that the network is told, (K,) float64.
    """

    coefficients: torch.Tensor
    told: torch.Tensor

    def student(self, first: float, last: float = 0.0) -> Student:
        """The solver of this form from the level ``first``, whose prior has standard deviation ``c_00``, to ``last``.

        Of its levels after the first only the told ones have a meaning; the solver's own follow them as closely as
        descending levels can.
        """
        levels = [first]
        for told in self.told[1:].tolist():
            levels.append(min(told, levels[-1] * (1 - 1e-9)))
        levels.append(min(last, levels[-1] * (1 - 1e-9)))
        return Student(NonStationary(self.coefficients.tolist()), levels, told=self.told)


def linear_form(student: Student, facts: ModelFacts) -> LinearForm:
    """The form of a plain or distilled solver, by a run on symbols in place of images.

    Noise and outputs are the unit vectors of a space of K + 1 dimensions. That is exact for every solver that combines
    states and outputs linearly; :func:`check_linear` compares with a real run.
    """
    unit = torch.eye(student.nfe + 1, dtype=torch.float64)
    rows: list[torch.Tensor] = []
    told: list[float] = []

    def output(x, sigma):
        rows.append(x.flatten())
        told.append(float(sigma))
        return unit[len(rows)].view(x.shape)

    start = unit[:1].view(1, 1, 1, -1) * float(facts.prior_std(float(student.sigmas[0])))
    noise = unit[:1].view(1, 1, 1, -1)
    end = student.run(output, noise, start=start, prediction=facts.prediction)
    return LinearForm(torch.stack([*rows, end.flatten()]), torch.tensor(told, dtype=torch.float64))


def level_of(size: float, highest: float, facts: ModelFacts) -> float:
    """The noise level at which the model's prior has the standard deviation ``size``, at most ``highest``.

    A solver with an analytic first step begins with that size at its first evaluation, somewhat off the prior's there.
    """
    if math.isclose(float(facts.prior_std(highest)), size, rel_tol=1e-12):
        return highest
    return float(brentq(lambda level: float(facts.prior_std(level)) - size, 0.0, highest, xtol=1e-15, rtol=1e-14))


def check_linear(student: Student, end: torch.Tensor, exact: torch.Tensor) -> None:
    """Raise ValueError where the end state of a form, ``end``, is not that of the real run, ``exact``."""
    size = float(exact.abs().max())
    error = float((end - exact).abs().max())
    if not math.isfinite(error) or error > 1e-3 * size:
        raise ValueError(
            f"{student.solver} does not combine states and outputs linearly (its end states are off by {error:.2g}), "
            "which a joint fit needs; fit it with fit='greedy'"
        )
