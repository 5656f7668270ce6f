"""The form of S4S: a linear multistep method on images whose weights are free at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from dode import solvers
from dode.distillation.backprop.levels import FreeLevels, offsets
from dode.distillation.backprop.runs import known
from dode.distillation.backprop.training import Parameters
from dode.distillation.linear_form import LinearForm, linear_form
from dode.grids.facts import ModelFacts
from dode.sampling import Student

WITHIN = 0.5  # of the smallest step, to which told levels keep


class Multistep(Parameters):
    """``x_{n+1} = (sigma'/sigma) x_n + (1 - sigma'/sigma) sum_j c_jn D(x_j; told_j)``, j the last ``order`` steps.

    (Frankel et al. 2025, arXiv 2502.17423, App. C.1, as Oganov et al. 2025, arXiv 2510.17699, restate it in Table 1.)
    The weights begin as those of DPM-Solver++ (3M). z: for each step its weights, newest first, then theta of the
    levels (:class:`FreeLevels`) and the told levels' deltas.

    Args:
        sigmas: the levels where it begins, (N + 1,).
        facts: of the model.
        order: outputs that a step combines.
        lowest: bound of levels on a grid that ends at 0.
        alternations: how often levels and weights are trained in turn, levels first; 0 for weights alone.
    """

    def __init__(self, sigmas: Tensor, facts: ModelFacts, *, order: int, lowest: float, alternations: int):
        self.facts, self.alternations, steps = facts, alternations, len(sigmas) - 1
        to_zero = float(sigmas[-1]) == 0
        lowest = lowest if to_zero else float(sigmas[-1])
        self.levels = FreeLevels(float(sigmas[0]), lowest, steps, to_zero=to_zero, like=sigmas)
        self.sigmas = self.levels.sigmas(self.levels.start) if alternations else sigmas
        counts = [min(step, order) for step in range(1, steps + 1)]
        self.sizes = [*counts, steps, steps - 1]
        self.start = torch.cat([*self._weights(counts), self.levels.start, torch.zeros(steps - 1, dtype=torch.float64)])
        self.of_weights = torch.arange(len(self.start)) < sum(counts)

    def _weights(self, counts):
        """Those of DPM-Solver++, which is told what it is here: zero in the place of outputs that it does not use."""
        solver = solvers.create("dpm-solver++", variant="3M")
        form = linear_form(Student(solver, self.sigmas), self.facts).coefficients
        for step, count in enumerate(counts):
            ratio = self.sigmas[step + 1] / self.sigmas[step]
            effective = (form[step + 1] - ratio * form[step]) / (1 - ratio)
            yield effective[step + 2 - count : step + 2].flip(0)

    def trained(self, share: float) -> Tensor:
        """The weights, or in turn with them the levels."""
        turn = int(share * 2 * self.alternations)
        return ~self.of_weights if self.alternations and turn % 2 == 0 else self.of_weights

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        *weights, theta, deltas = z.split(self.sizes)
        sigmas = self.levels.sigmas(theta) if self.alternations else self.sigmas
        unit = torch.eye(len(weights) + 1, dtype=torch.float64)
        rows, x = [], unit[0] * float(self.facts.prior_std(float(sigmas[0].detach())))
        for step, weight in enumerate(weights):
            rows.append(x)
            ratio = sigmas[step + 1] / sigmas[step]
            x = ratio * x + (1 - ratio) * sum(w * unit[step + 1 - lag] for lag, w in enumerate(weight))
        return LinearForm(torch.stack([*rows, x]), offsets(sigmas[:-1], deltas, WITHIN))

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form, last = self.form(z.detach()), self.sigmas[-1]
        return known(form, self.facts).student(float(self.sigmas[0]), float(last))
