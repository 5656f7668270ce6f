"""The form of the Generalized Solver: DPM-Solver++ (3M) with a correction to every coefficient and time."""

from __future__ import annotations

import torch
from torch import Tensor

from dode.distillation.backprop.levels import time_between
from dode.distillation.backprop.runs import known
from dode.distillation.backprop.training import Parameters
from dode.distillation.linear_form import LinearForm
from dode.grids.facts import ModelFacts
from dode.sampling import Student

INSET = 1e-5  # of the shares of stick-breaking, which so are never 0 or 1
EARLIEST = 1e-6  # a told time is no smaller


class GeneralizedSolver(Parameters):
    """``x_{n+1} = sum_{j<=n} a_jn x_j + sum_{j<=n} c_jn v_j`` (Oganov et al. 2025, arXiv 2510.17699, Eq. 20, Alg. 1).

    In VP coordinates. ``v_j`` is the image that the noise estimate at the told time ``t_j + xi_j`` makes of ``x_j`` at
    its own time. Coefficients are those of DPM-Solver++ (3M) at the times, plus corrections. The times break a stick:
    the share ``1 - sigmoid(theta)`` of what is left above, from the last time upwards (the authors' code; the paper's
    Eq. 14 breaks it downwards).

    z: theta (K - 1), xi (K), and of each step the corrections to its outputs and to its states, newest first.

    Args:
        nfe: number K of evaluations and of steps.
        facts: of the model.
        highest, lowest: levels between which it runs; it ends at the lowest, or at the level of t = 0.001 above that.
    """

    def __init__(self, nfe: int, facts: ModelFacts, highest: float, lowest: float):
        self.nfe, self.facts, self.time = nfe, facts, time_between(highest, lowest)
        self.sizes = [nfe - 1, nfe, *(step for step in range(1, nfe + 1) for _ in range(2))]
        left = torch.linspace(1, 0, nfe + 1, dtype=torch.float64)[:-1]  # of the stick, for times that are uniform
        shares = left[1:] / left[:-1]
        self.start = torch.zeros(sum(self.sizes), dtype=torch.float64)
        self.start[: nfe - 1] = ((shares - INSET) / (1 - 2 * INSET)).logit()

    def times(self, theta: Tensor) -> Tensor:
        """From 1 down to the last, (K + 1,)."""
        shares = INSET + (1 - 2 * INSET) * theta.sigmoid()
        inner = (1 - shares.cumprod(0)).flip(0)
        return self.time.last + (1 - self.time.last) * torch.cat([inner.new_ones(1), inner, inner.new_zeros(1)])

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        theta, xi, *corrections = z.split(self.sizes)
        times = self.times(theta)
        sigma, told = self.time.sigma(times), self.time.sigma((times[:-1] + xi).clamp(min=EARLIEST))
        alpha, alpha_told = (1 + sigma**2).rsqrt(), (1 + told**2).rsqrt()
        ratios = sigma[:-1] * alpha[:-1] / (told * alpha_told)  # of the noise's standard deviations
        of_state, of_output = (1 - ratios) / alpha[:-1], ratios * alpha_told / alpha[:-1]
        unit = torch.eye(self.nfe + 1, dtype=torch.float64)
        rows, outputs = [unit[0] * self.facts.prior_std(told[0])], []
        states = [rows[0] * alpha_told[0]]
        for step, (ratio, weights) in enumerate(self._multistep(sigma, alpha, corrections[::2])):
            if step:
                rows.append(states[-1] / alpha_told[step])
            outputs.append(of_state[step] * states[-1] + of_output[step] * unit[step + 1])
            newest = corrections[2 * step + 1].flip(0) @ torch.stack(states)
            states.append(ratio * states[-1] + newest - weights.flip(0) @ torch.stack(outputs))
        return LinearForm(torch.stack([*rows, states[-1]]), told)

    @staticmethod
    def _multistep(sigma, alpha, corrections):
        """Of each step the factor on the state, and the weights that outputs, newest first, are taken away with.

        DPM-Solver++ of order 3, lower at first, with corrections to its terms and to older outputs. With ``h =
        log(sigma / sigma')`` it has ``x' = a x - alpha' phi_1 v - alpha' phi_1 / 2 D1`` at second order and ``a x -
        alpha' phi_1 v + alpha' phi_2 D1 - alpha' phi_3 D2`` at third (Lu et al. 2022, arXiv 2211.01095, in their code).
        """
        h = -sigma.log().diff()
        std, alpha = sigma * alpha, alpha[1:]
        phi_1 = torch.expm1(-h)
        phi_2 = phi_1 / h + 1
        terms = torch.stack([alpha * phi_1, -alpha * phi_2, alpha * (phi_2 / h - 0.5)], 1)
        last, before = h[1:-1] / h[2:], h[:-2] / h[2:]  # r_0 and r_1 from the third step on
        both = last + before
        for step, ratio in enumerate(std[1:] / std[:-1]):
            own = corrections[step]
            if step == 0:
                yield ratio, terms[0, :1] + own
            elif step == 1:
                slope = (terms[1, 0] / 2 + own[1]) * h[1] / h[0]
                yield ratio, torch.stack([terms[1, 0] + own[0] + slope, -slope])
            else:
                r_0, r_1, r = last[step - 2], before[step - 2], both[step - 2]
                first, second = terms[step, 1] - own[1], terms[step, 2] + own[2]
                # D1 and D2 are combinations of the two backward differences.
                newer = (first * (1 + r_0 / r) + second / r) / r_0
                older = (first * r_0 / r + second / r) / r_1
                recent = torch.stack([terms[step, 0] + own[0] + newer, -newer - older, older])
                yield ratio, torch.cat([recent, -own[3:]])

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form, last = self.form(z.detach()), self.time.sigma(torch.tensor(self.time.last, dtype=torch.float64))
        return known(form, self.facts).student(float(form.told[0]), float(last))
