"""The form of EPD: steps along a weighted sum of slopes at points that are all reached from the step's beginning."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from dode.distillation.backprop.runs import known
from dode.distillation.backprop.training import Parameters
from dode.distillation.linear_form import LinearForm, level_of
from dode.grids.facts import ModelFacts
from dode.sampling import Student
from dode.solvers.ipndm import ADAMS_BASHFORTH


class ParallelDirections(Parameters):
    """``x' = x + (sigma' - sigma) sum_k w_k o_k d_k`` with ``d_k = (x_k - D(x_k; s_k tau_k)) / tau_k``.

    ``x_k = x + (tau_k - sigma) d`` for K levels ``tau_k = sigma'^r_k sigma^(1 - r_k)`` between those of the step, with
    the slope d at its beginning (Zhu et al. 2025, arXiv 2507.14797, Sec. 3.2); with ``order`` above 1, as in the
    plugin for iPNDM, d is the Adams-Bashforth sum of the slopes at the beginnings of the last steps. The weights w are
    a softmax, the shares r between 0 and 1, the factors o and s within ``scale_dir`` and ``scale_time`` of 1.

    z: for each step r, w, o and s of its K points before these functions, (N, 4, K), which begin as unit normals.

    Args:
        sigmas: levels, (N + 1,), all above 0.
        facts: of the model.
        points: K.
        analytic: whether the first slope is ``x / sqrt(1 + sigma^2)``, that of noise alone, and takes no evaluation.
        order: most slopes of a sum, 1 to 4.
        scale_dir, scale_time: how far the factors may be from 1.
        generator: of the beginning.
    """

    def __init__(
        self,
        sigmas: Tensor,
        facts: ModelFacts,
        *,
        points: int,
        analytic: bool,
        order: int,
        scale_dir: float,
        scale_time: float,
        generator: torch.Generator,
    ):
        self.sigmas, self.facts, self.points = sigmas, facts, points
        self.analytic, self.order, self.scales = analytic, order, (scale_dir, scale_time)
        self.start = torch.randn((len(sigmas) - 1) * 4 * points, generator=generator, dtype=torch.float64)

    def numbers(self, z: Tensor) -> tuple[Tensor, ...]:
        """r, w, o and s, (N, K) each."""
        shares, weights, *factors = z.view(-1, 4, self.points).unbind(1)
        scaled = (1 + scale * (2 * torch.sigmoid(own / 2) - 1) for own, scale in zip(factors, self.scales, strict=True))
        return torch.sigmoid(shares), torch.softmax(weights, dim=1), *scaled

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        steps = len(self.sigmas) - 1
        unit = torch.eye(steps * (self.points + 1) - self.analytic + 1, dtype=torch.float64)
        rows: list[Tensor] = []
        told: list[Tensor] = []

        def slope(x, sigma, level):
            rows.append(x)
            told.append(level)
            return (x - unit[len(rows)]) / sigma

        x, slopes = unit[0] * float(self.facts.prior_std(float(self.sigmas[0]))), []
        for step, (sigma, sigma_next) in enumerate(pairwise(self.sigmas)):
            begins_without = self.analytic and step == 0
            slopes.append(x / (1 + sigma**2).sqrt() if begins_without else slope(x, sigma, sigma))
            last = slopes[: -self.order - 1 : -1]
            ahead = sum(w * own for w, own in zip(ADAMS_BASHFORTH[len(last)], last, strict=True))
            found = torch.zeros_like(x)
            for share, weight, direction, time in zip(*(own[step] for own in self.numbers(z)), strict=True):
                middle = sigma_next**share * sigma ** (1 - share)
                found = found + weight * direction * slope(x + (middle - sigma) * ahead, middle, time * middle)
            x = x + (sigma_next - sigma) * found
        return LinearForm(torch.stack([*rows, x]), torch.stack(told))

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form = known(self.form(z.detach()), self.facts)
        first = level_of(float(form.coefficients[0, 0]), float(self.sigmas[0]), self.facts)
        return form.student(first, float(self.sigmas[-1]))
