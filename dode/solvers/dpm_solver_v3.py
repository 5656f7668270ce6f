"""DPM-Solver-v3, exponential integrators around a linear model of the network that was measured on it."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import euler


@solver(
    "dpm-solver-v3",
    order=lambda order, **_: min(order, 2),  # the last step is of first order
    teacher="heun",
    choices={"order": (1, 2, 3), "corrector": (True, False), "pseudo_predictor": (False, True)},
    prepare="dpm-solver-v3.safetensors",
    source="Zheng et al. 2023, arXiv:2310.13268, Alg. 1 and 2",
)
def dpm_solver_v3(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    order: int = 3,
    corrector: bool = True,
    pseudo_predictor: bool = False,
    prepared: str | Path | None = None,
) -> Proposals:
    """DPM-Solver-v3 (Zheng et al. 2023, arXiv 2310.13268), multistep with a pseudo-order corrector.

    With ``lambda = -log sigma`` and ``f = sigma eps - l x``, of which ``f' = s f + b`` is the best linear law (l, s, b
    depend on lambda and pixel; ``prepared`` is the file of them, dode/distillation/preparations/dpm_solver_v3.py), a
    step from lambda_0 to lambda is ``x' = exp(-L) (x - I_0 g - C - sum_n I_n g^(n))`` with ``L = int l``, ``S = int
    s``, ``I_n = int exp(L + S) (u - lambda_0)^n / n! du``, ``B = int exp(-S) b``, ``C = int exp(L + S) B`` and the
    derivatives of ``g = exp(-S) f - B`` at lambda_0 from the last outputs, as many as ``order``. The corrector makes
    the step again with the output at its end too, one order higher, by divided differences ("pseudo-order") that
    ``pseudo_predictor`` takes for the predictor as well; f at the end is kept. Lower orders over the first steps and
    the last; the step to sigma = 0 is Euler's. A step costs one evaluation; the denoising output is the effective image
    of the prediction. Levels are moved to the nearest of the statistics, of which both ends are the grid's.

    Without a file, ``l = 1, s = b = 0``: the method is then DPM-Solver++ with that corrector.
    """
    law: Any = _Degenerate() if prepared is None else _read(str(prepared), x)
    levels = law.snapped(sigmas.tolist())
    steps, to_zero = len(levels) - 1, levels[-1] == 0
    nodes: list[Any] = []  # lambda and f of the last outputs, newest first
    corrected, proposed, last_order = x, x, 0
    for index in range(steps):
        sigma, sigma_next = levels[index], levels[index + 1]
        denoised = denoise(x, sigmas.new_tensor(sigma))
        here = -math.log(sigma)
        nodes.insert(0, (here, law.f(x, denoised, here)))
        state = corrected if index else x
        if corrector and last_order >= 1:
            state = law.step(state, nodes[1:], here, last_order + 1, nodes[0], pseudo=True) + (x - proposed)
        elif index:
            state = x
        last_order = min(index + 1, order, steps - index)
        del nodes[order + 1 :]
        if to_zero and index == steps - 1:
            x_next = euler(x, denoised, sigma, 0.0)
        else:
            x_next = law.step(state, nodes, -math.log(sigma_next), last_order, None, pseudo=pseudo_predictor)
        ratio = sigma_next / sigma
        output = denoised if sigma_next == 0 else (x_next - ratio * x) / (1 - ratio)
        corrected, proposed = state, x_next
        x = yield Proposal(x_next, sigmas.new_tensor(sigma_next), output)


class _Law:
    """Steps of the method; subclasses have the law of the network."""

    def step(self, x, nodes, end, order, ahead, *, pseudo):
        """The state at lambda = ``end`` from x at ``nodes[0]``; ``ahead``: the output there, for the corrector."""
        begin = nodes[0][0]
        used = [nodes[0], *([] if ahead is None else [ahead]), *nodes[1:]][:order]
        decay, integrals, constant = self.integrals(begin, end, len(used))
        values = [self.g(begin, place, f) for place, f in used]
        slopes = (_divided if pseudo else _derivatives)([place for place, _ in used], values)
        total = x - integrals[0] * values[0] - constant
        for integral, slope in zip(integrals[1:], slopes, strict=True):
            total = total - integral * slope
        return decay * total


class _Degenerate(_Law):
    """l = 1, s = b = 0 everywhere."""

    def snapped(self, levels):
        return levels

    def f(self, x, denoised, place):
        return -denoised

    def g(self, begin, place, f):
        return f

    def integrals(self, begin, end, count):
        h = end - begin
        # int_0^h exp(u) u^n / n! du, from below: exp(h) h^n / n! minus the one before.
        found = [math.expm1(h)]
        for power in range(1, count):
            found.append(math.exp(h) * h**power / math.factorial(power) - found[-1])
        return math.exp(-h), found, 0.0


class _Measured(_Law):
    """Statistics at N + 1 equidistant lambdas; integrals by the trapezoidal rule between them."""

    def __init__(self, places, l, s, b):  # noqa: E741 - the paper's name
        import torch

        self.places, self.l = places, l
        steps = places.diff().view(-1, *[1] * (l.ndim - 1))

        def summed(values):
            rest = torch.cumsum(steps * (values[1:] + values[:-1]) / 2, dim=0)
            return torch.cat([torch.zeros_like(rest[:1]), rest])

        self.L, self.S, self.b = summed(l), summed(s), b

    def index(self, place):
        return int((self.places - place).abs().argmin())

    def snapped(self, levels):
        found = [self.index(-math.log(level)) for level in levels if level > 0]
        if any(after <= before for before, after in pairwise(found)):
            raise ValueError(
                f"solver 'dpm-solver-v3': its {len(self.places)} prepared noise levels are too few for steps as short "
                f"as those of {levels}; prepare more, or make fewer steps"
            )
        return [math.exp(-float(self.places[index])) for index in found] + [0.0] * (levels[-1] == 0)

    def f(self, x, denoised, place):
        return (x - denoised) - self.l[self.index(place)] * x

    def _between(self, begin, end):
        """Indices, the sums of s and the integral of exp(-S) b from ``begin`` on, both ways."""
        import torch

        first, last = sorted((self.index(begin), self.index(end)))
        part, origin = slice(first, last + 1), self.S[self.index(begin)]
        sums = self.S[part] - origin
        steps = self.places[part].diff().view(-1, *[1] * (self.l.ndim - 1))
        weighted = torch.exp(-sums) * self.b[part]
        rest = torch.cumsum(steps * (weighted[1:] + weighted[:-1]) / 2, dim=0)
        return part, sums, torch.cat([torch.zeros_like(weighted[:1]), rest]), steps

    def g(self, begin, place, f):
        import torch

        _, sums, constants, _ = self._between(begin, place)
        backwards = place < begin
        shift = constants[-1] * (-1 if backwards else 1)
        return torch.exp(-sums[0 if backwards else -1]) * f - shift

    def integrals(self, begin, end, count):
        import torch

        part, sums, constants, steps = self._between(begin, end)
        exponents = self.L[part] - self.L[part.start] + sums
        away = (self.places[part] - self.places[part.start]).view(-1, *[1] * (self.l.ndim - 1))

        def integral(factor):
            values = torch.exp(exponents) * factor
            return (steps * (values[1:] + values[:-1]) / 2).sum(dim=0)

        found = [integral(away**power / math.factorial(power)) for power in range(count)]
        return torch.exp(self.L[part.start] - self.L[part.stop - 1]), found, integral(constants)


def _derivatives(places, values):
    """Derivatives at the first place of the polynomial through the others too."""
    import numpy as np

    count = len(places) - 1
    matrix = np.array([[(place - places[0]) ** power for power in range(1, count + 1)] for place in places[1:]])
    rows = np.linalg.inv(matrix) if count else []
    return [
        math.factorial(power) * sum(weight * (value - values[0]) for weight, value in zip(row, values[1:], strict=True))
        for power, row in enumerate(rows, 1)
    ]


def _divided(places, values):
    """Divided differences from the first place on, times the factorial."""
    found, row = [], list(values)
    for power in range(1, len(places)):
        row = [
            (one - other) / (places[index] - places[index + power]) for index, (one, other) in enumerate(pairwise(row))
        ]
        found.append(math.factorial(power) * row[0])
    return found


def _read(path, x):
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    shape = tuple(tensors["l"].shape[1:])
    if x[0].numel() == 1:  # a run on one pixel, which is made for the levels alone
        shape = (1, 1, 1)
        for key in ("l", "s", "b"):
            tensors[key] = tensors[key].mean(dim=(1, 2, 3), keepdim=True)
    if shape != tuple(x.shape[1:]):
        raise ValueError(f"solver 'dpm-solver-v3': {path} is of images {shape}, not of {tuple(x.shape[1:])}")
    places = tensors["log_snr"].to(torch.float64)
    return _Measured(places, *(tensors[key].to(x) for key in ("l", "s", "b")))
