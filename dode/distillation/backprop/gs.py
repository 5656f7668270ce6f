"""The form of the Generalized Solver: DPM-Solver++ (3M) with a correction to every coefficient and time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dode.distillation.backprop.runs import known
from dode.distillation.linear_form import LinearForm
from dode.grids.facts import ModelFacts
from dode.sampling import Student
from dode.solvers.formulas import vp_sigma, vp_time

LAST_TIME = 1e-3  # t_eps of the authors' configurations
INSET = 1e-5  # of the shares of stick-breaking, which so are never 0 or 1
EARLIEST = 1e-6  # a told time is no smaller


class VPTime:
    """The time of a VP SDE that runs over given levels (Karras et al. 2022, arXiv 2206.00364, App. C.1).

    ``sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1`` with ``sigma(1)`` the highest level and ``sigma(last)`` the
    lowest.

    Attributes:
        last: 0.001, or the linear SDE's time of the lowest level where that is later.
    """

    def __init__(self, highest: float, lowest: float):
        lowest = max(lowest, float(vp_sigma(LAST_TIME)))
        self.last = max(LAST_TIME, float(vp_time(lowest)))
        slope, whole = math.log1p(lowest**2) / self.last, math.log1p(highest**2)
        self.beta_d = 2 * (whole - slope) / (1 - self.last)
        self.beta_min = whole - self.beta_d / 2

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time above 0."""
        return torch.expm1(self.beta_d * time**2 / 2 + self.beta_min * time).sqrt()

    def of(self, level: float) -> float:
        """The time of a level."""
        exponent = math.log1p(level**2)
        return 2 * exponent / (math.sqrt(self.beta_min**2 + 2 * self.beta_d * exponent) + self.beta_min)


class GeneralizedSolver:
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
        self.nfe, self.facts, self.time = nfe, facts, VPTime(highest, lowest)
        self.sizes = [nfe - 1, nfe, *(step for step in range(1, nfe + 1) for _ in range(2))]
        left = torch.linspace(1, 0, nfe + 1, dtype=torch.float64)[:-1]  # of the stick, for times that are uniform
        shares = left[1:] / left[:-1]
        self.start = torch.zeros(sum(self.sizes), dtype=torch.float64)
        self.start[: nfe - 1] = ((shares - INSET) / (1 - 2 * INSET)).logit()

    def trained(self, share: float) -> None:
        """All numbers are, always."""

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
        unit = torch.eye(self.nfe + 1, dtype=torch.float64)
        states, rows, outputs = [unit[0]], [unit[0] * self.facts.prior_std(told[0])], []
        for step in range(self.nfe):
            if step:
                rows.append(states[-1] / alpha_told[step])
            seen = (1 - ratios[step]) * states[-1] + ratios[step] * alpha_told[step] * unit[step + 1]
            outputs.append(seen / alpha[step])
            of_outputs, of_states = corrections[2 * step : 2 * step + 2]
            x = _multistep(states[-1], outputs, sigma[: step + 2], alpha[step + 1], of_outputs)
            states.append(x + sum(a * earlier for a, earlier in zip(of_states, reversed(states), strict=True)))
        return LinearForm(torch.stack([*rows, states[-1]]), told)

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form = self.form(z.detach())
        return known(form, self.facts).student(float(form.told[0]), float(self.time.sigma(torch.tensor(self.time.last))))


def _multistep(x, outputs, sigma, alpha, corrections):
    """A step of DPM-Solver++ of order 3, or lower at first, with corrections to its terms and to older outputs.

    With ``h = log(sigma / sigma')``: ``x' = a x - alpha' phi_1 v - alpha' phi_1 / 2 D1`` at second order, ``a x - alpha'
    phi_1 v + alpha' phi_2 D1 - alpha' phi_3 D2`` at third (Lu et al. 2022, arXiv 2211.01095, in the authors' code).
    """
    levels = sigma.log()
    h = levels[-2] - levels[-1]
    phi_1 = torch.expm1(-h)
    std = sigma * (1 + sigma**2).rsqrt()
    x = std[-1] / std[-2] * x - (alpha * phi_1 + corrections[0]) * outputs[-1]
    if len(outputs) == 1:
        return x
    r_0 = (levels[-3] - levels[-2]) / h
    first = (outputs[-1] - outputs[-2]) / r_0
    if len(outputs) == 2:
        return x - (alpha * phi_1 / 2 + corrections[1]) * first
    r_1 = (levels[-4] - levels[-3]) / h
    second = first - (outputs[-2] - outputs[-3]) / r_1
    phi_2 = phi_1 / h + 1
    phi_3 = phi_2 / h - 0.5
    x = x + (alpha * phi_2 + corrections[1]) * (first + r_0 / (r_0 + r_1) * second)
    x = x - (alpha * phi_3 + corrections[2]) * second / (r_0 + r_1)
    return x + sum(c * output for c, output in zip(corrections[3:], outputs[-4::-1], strict=True))
