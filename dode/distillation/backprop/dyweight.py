"""The form of DyWeight: free weights of the last slopes, and factors on the levels that the network is told."""

from __future__ import annotations

import torch
from torch import Tensor

from dode.distillation.backprop.runs import known
from dode.distillation.backprop.training import Parameters
from dode.distillation.linear_form import LinearForm, level_of
from dode.grids.facts import ModelFacts
from dode.sampling import Student
from dode.solvers.ipndm import ADAMS_BASHFORTH


class DyWeight(Parameters):
    """``x_{i+1} = x_i + (sigma_{i+1} - s_i) sum_j w_ij d_j``, ``d_j = (x_j - D(x_j; t_j s_j)) / s_j``.

    ``s_{i+1} = s_i + (sum_j w_ij) (sigma_{i+1} - s_i)`` is the level that the state is taken to have, as the weights
    need not sum to 1, and t_j is a factor on what the network is told (Zhao et al. 2026, arXiv 2603.11607, Sec. 4, and
    the authors' code). They begin as those of iPNDM, and as 1.

    z: w, for each step its last ``history`` slopes, newest first; then t.

    Args:
        sigmas: the levels, (N + 1,).
        facts: of the model.
        history: slopes of a step, 1 to 4.
        analytic: whether the first slope is ``x / sqrt(1 + sigma^2)``, that of noise alone, and takes no evaluation.
    """

    def __init__(self, sigmas: Tensor, facts: ModelFacts, *, history: int, analytic: bool):
        self.sigmas, self.facts, self.analytic = sigmas, facts, analytic
        counts = [min(step, history) for step in range(1, len(sigmas))]
        self.sizes = [*counts, len(counts) - analytic]
        weights = [torch.tensor(ADAMS_BASHFORTH[count], dtype=torch.float64) for count in counts]
        self.start = torch.cat([*weights, torch.ones(self.sizes[-1], dtype=torch.float64)])

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        *weights, factors = z.split(self.sizes)
        unit = torch.eye(len(factors) + 1, dtype=torch.float64)
        level, x = self.sigmas[0], unit[0] * float(self.facts.prior_std(float(self.sigmas[0])))
        rows: list[Tensor] = []
        slopes: list[Tensor] = []
        told: list[Tensor] = []
        for step, weight in enumerate(weights):
            if self.analytic and step == 0:
                slopes.append(x / (1 + level**2) ** 0.5)
            else:
                told.append((factors[len(told)] * level).abs())
                rows.append(x)
                slopes.append((x - unit[len(rows)]) / level)
            h = self.sigmas[step + 1] - level
            newest = slopes[: -len(weight) - 1 : -1]
            x = x + h * sum(w * slope for w, slope in zip(weight, newest, strict=True))
            level = level + weight.sum() * h
        return LinearForm(torch.stack([*rows, x]), torch.stack(told))

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form = known(self.form(z.detach()), self.facts)
        first = level_of(float(form.coefficients[0, 0]), float(self.sigmas[0]), self.facts)
        return form.student(first, float(self.sigmas[-1]))
