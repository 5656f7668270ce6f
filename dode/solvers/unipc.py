"""UniPC, the unified predictor-corrector."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, log_step


@solver(
    "unipc",
    order=lambda order, **_: order + 1,
    choices={"order": (1, 2, 3), "variant": ("bh1", "bh2")},
    source="Zhao et al. 2023, arXiv:2302.04867, Alg. 1 and 2",
)
def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 3, variant: str = "bh2") -> Proposals:
    """UniPC-p on the denoised image (Zhao et al. 2023, arXiv 2302.04867, Alg. 1-2, App. E: data prediction).

    From the corrected state c_k the predictor UniP-p proposes x_{k+1}; the evaluation D_{k+1} there corrects it,
    UniC-p: ``c_{k+1} = (sigma' / sigma) c_k - e D_k - B (sum_i rho_i (D_i - D_k) / r_i + rho (D_{k+1} - D_k))`` and
    serves the next prediction too, so a step costs one evaluation. ``e = exp(-h) - 1``, ``h = log(sigma / sigma')``,
    ``B = -h`` (bh1) or e (bh2); rho solves the order conditions. Lower orders over the first steps and, where fewer
    steps are left, over the last: the step to sigma = 0 is Euler's. UniPC-p has order of accuracy p + 1.

    The correction of a distilled run moves c along with x. The denoising output is the effective image of the
    prediction, with which Euler's step from c_k makes it.
    """
    levels: deque[float] = deque(maxlen=order + 1)
    outputs: deque[Tensor] = deque(maxlen=order + 1)
    ahead: list[float] = []
    left = len(sigmas) - 1 if sigmas[-1] == 0 else math.inf
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = denoise(x, sigmas.new_tensor(sigma))
        levels.appendleft(sigma)
        outputs.appendleft(denoised)
        shift = [0.0]  # c - x on the outputs: both start at the same c, so that it drops out
        if ahead:
            _, newest, *behind = corrector(list(levels), len(ahead), variant)
            shift = [newest, *(after - before for after, before in zip(behind, ahead, strict=True))]
        used, ratio = int(min(order, len(levels), left)), sigma_next / sigma
        ahead = predictor(list(levels)[:used], sigma_next, variant)
        effective = [0.0, *(weight / (1 - ratio) for weight in ahead)]
        unused = [0.0] * (len(outputs) - len(shift))
        proposed = [ratio, *(ratio * weight for weight in shift), *unused, 1 - ratio]
        output, x_next = combine((x, *outputs), effective, proposed)
        left -= 1
        x = yield Proposal(x_next, sigmas.new_tensor(sigma_next), output)


def _conditions(steps, h, variant):
    """Matrix and right-hand side of the order conditions for nodes ``steps`` (in units of h), and B (Eq. 9)."""
    scale = -h if variant == "bh1" else math.expm1(-h)
    term, factorial, moments = math.expm1(-h) / -h - 1, 1, []
    for power in range(1, len(steps) + 1):
        moments.append(term * factorial / scale)
        factorial *= power + 1
        term = term / -h - 1 / factorial
    return np.vander(steps, increasing=True).T, np.array(moments), scale


def predictor(levels: Sequence[float], sigma_next: float, variant: str) -> list[float]:
    """UniP weights of the outputs at ``levels`` (newest first) in ``x' = (sigma' / sigma) c + sum_i w_i D_i``."""
    if sigma_next == 0:
        return [1.0]
    h = log_step(levels[0], sigma_next)
    nodes = [-log_step(level, levels[0]) / h for level in levels[1:]]
    matrix, moments, scale = _conditions(nodes, h, variant)
    # Of second order, the paper takes the limit h -> 0 of the coefficient.
    rhos = [0.5] if len(nodes) == 1 else np.linalg.solve(matrix, moments) if nodes else []
    differences = [-scale * rho / node for rho, node in zip(rhos, nodes, strict=True)]
    return [-math.expm1(-h) - sum(differences), *differences]


def corrector(levels: Sequence[float], order: int, variant: str) -> list[float]:
    """UniC weights: of the corrected state before, then of the outputs at ``levels`` (newest, where it ends, first)."""
    end, begin, *older = levels[: order + 1]
    h = log_step(begin, end)
    nodes = [-log_step(level, begin) / h for level in older]
    matrix, moments, scale = _conditions([*nodes, 1.0], h, variant)
    rhos = [0.5] if not nodes else np.linalg.solve(matrix, moments)
    *differences, newest = [-scale * rho / node for rho, node in zip(rhos, [*nodes, 1.0], strict=True)]
    return [end / begin, newest, -math.expm1(-h) - sum(differences) - newest, *differences]
