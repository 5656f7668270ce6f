"""The form of Bespoke Non-Stationary solvers: every state any combination of the noise and the velocities so far."""

from __future__ import annotations

import torch
from torch import Tensor

from dode.distillation.backprop.runs import known
from dode.distillation.backprop.training import Parameters
from dode.distillation.linear_form import LinearForm, level_of
from dode.grids.facts import ModelFacts
from dode.sampling import Student


class BespokeNonStationary(Parameters):
    """``x_{i+1} = a_i x_0 + sum_{j<=i} b_ij u_j`` (Shaul et al. 2024, arXiv 2403.01329, Eq. 10).

    On the path of flow matching, ``z = x / (1 + sigma) = (1 - t) x_0 + t n`` with ``t = sigma / (1 + sigma)``, to which
    the paper's change of scheduler takes any model, and whose velocities ``u = (z - D) / t`` are of the size of images.
    z here: per state its a and b, then the logits ``log sigma_i`` of all told times but the first, which is given.

    Args:
        form: of the solver where the training begins.
        facts: of the model.
        first, last: levels of the grid's begin and of its end state.
    """

    def __init__(self, form: LinearForm, facts: ModelFacts, first: float, last: float):
        self.facts, self.last, self.nfe = facts, last, len(form.told)
        self.size, self.first_told = form.coefficients[0, 0], form.told[:1]
        self.first = level_of(float(self.size), first, facts)
        self.rows, self.columns = torch.tril_indices(self.nfe, self.nfe + 1, 1)
        in_velocities = form.coefficients @ torch.linalg.inv(self._velocities(form))
        scale = torch.cat([1 + form.told[1:], torch.tensor([1 + last], dtype=torch.float64)])
        states = in_velocities[1:] / scale[:, None]
        self.start = torch.cat([states[self.rows, self.columns], form.told[1:].log()])

    def _velocities(self, form):
        """Noise and velocities as combinations of noise and outputs, (K + 1, K + 1)."""
        unit, told = torch.eye(self.nfe + 1, dtype=torch.float64), form.told[:, None]
        return torch.cat([unit[:1], (form.coefficients[:-1] - (1 + told) * unit[1:]) / told])

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        numbers, logits = z[: len(self.rows)], z[len(self.rows) :]
        told = torch.cat([self.first_told, logits.exp()])
        combined = torch.zeros(self.nfe, self.nfe + 1, dtype=torch.float64)
        combined = combined.index_put((self.rows, self.columns), numbers)
        scale = torch.cat([1 + told[1:], torch.tensor([1 + self.last], dtype=torch.float64)])
        unit = torch.eye(self.nfe + 1, dtype=torch.float64)
        rows, basis = [unit[0] * self.size], [unit[0]]
        for index in range(self.nfe):
            basis.append((rows[-1] - (1 + told[index]) * unit[index + 1]) / told[index])
            rows.append(scale[index] * (combined[index, : index + 2] @ torch.stack(basis)))
        return LinearForm(torch.stack(rows), told)

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        return known(self.form(z.detach()), self.facts).student(self.first, self.last)
