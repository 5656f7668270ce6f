"""What solver files share: fused weighted sums, the multistep loop, weights of extrapolation.

Every linear multistep method here is Euler's step with an *effective* output in place of the last one,
``x' = O + (sigma' / sigma) (x - O)``, where the effective noise estimate (or image) is a weighted sum of the last ones.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor

BLOCK = 131072  # elements; eight blocks of float64 stay in the last-level cache, and few calls have small costs
NODES = 128  # of the quadrature; enough for 1e-12 over the widest interval (a test compares with 512)

#: Of the linear VP SDE of Song et al. 2021 (arXiv 2011.13456, App. C).
BETA_MIN, BETA_D = 0.1, 19.9

#: The noise level that stands for infinity, where an image has the share 2^-24 in its state: that is 0 in float32.
PURE_NOISE = 2.0**24 - 1


#: ``weights(levels, sigma_next, left)`` of :func:`multistep`.
Weights: TypeAlias = Callable[[list[float], float, float], Sequence[float]]


def vp_time(sigma: ArrayLike, *, beta_min: float = BETA_MIN, beta_d: float = BETA_D) -> Any:
    """The time t of the linear VP SDE (Song et al. 2021, arXiv 2011.13456, App. B) at noise level sigma, float64.

    ``sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1``, hence ``t = (sqrt(beta_min^2 + 2 beta_d log(1 + sigma^2)) -
    beta_min) / beta_d``: t = 0 at sigma = 0, 1 at sigma = 152 with the defaults.
    """
    # The root's difference from beta_min, without cancellation where sigma is small.
    log = np.log1p(np.square(sigma))
    return 2 * log / (np.sqrt(beta_min**2 + 2 * beta_d * log) + beta_min)


def vp_sigma(time: ArrayLike, *, beta_min: float = BETA_MIN, beta_d: float = BETA_D) -> Any:
    """The noise level at the time t of the linear VP SDE, float64: the inverse of :func:`vp_time`."""
    return np.sqrt(np.expm1(beta_d * np.square(time) / 2 + beta_min * np.asarray(time)))


def combine(tensors: Sequence[Tensor], *rows: Sequence[float | Tensor], into: Iterable[Tensor | None] = ()) -> Any:
    """``sum_i row[i] tensors[i]`` for each row of weights, in one pass over memory.

    Args:
        tensors: of one shape and type.
        rows: weights of the tensors and, after those, of the results of the rows before; missing ones are 0, and a term
            with weight 0 is left out.
        into: for the first rows a contiguous tensor to overwrite, or None for a new one. It may be one of ``tensors``
            that no later row reads, and its own row only as the first term. Memory taken anew can cost more than the
            sums, so a solver overwrites what it has shown to nobody.

    Returns:
        A tensor per row (a single tensor for a single row).
    """
    import torch

    terms = [[(index, float(weight)) for index, weight in enumerate(row) if weight != 0] for row in rows]
    new = functools.partial(torch.empty_like, tensors[0], memory_format=torch.contiguous_format)
    results = [new() if given is None else given for _, given in zip(rows, chain(into, repeat(None)), strict=False)]
    whole = [*tensors, *results]
    blocks: Iterable[Sequence[Tensor]] = [whole]
    if tensors[0].device.type == "cpu" and tensors[0].numel() > BLOCK and sum(map(len, terms)) > 2:
        blocks = zip(*(tensor.reshape(-1).split(BLOCK) for tensor in whole), strict=True)
    for parts in blocks:
        for row, out in zip(terms, parts[len(tensors) :], strict=True):
            _weighted_sum(row, parts, out)
    return results[0] if len(rows) == 1 else results


def _weighted_sum(terms, parts, out):
    """In as few operations as there are: a first weight of 1, or one that another completes to 1, needs no product."""
    import torch

    if not terms:
        out.zero_()
        return
    (index, first), *others = terms
    fitting = [term for term in others if first == 1 or abs(first + term[1] - 1) < 1e-15]
    if fitting:
        other, second = fitting[0]
        others.remove(fitting[0])
        if first == 1:
            torch.add(parts[index], parts[other], alpha=second, out=out)
        else:
            torch.lerp(parts[index], parts[other], second, out=out)
    else:
        torch.mul(parts[index], first, out=out)
    for index, weight in others:
        out.add_(parts[index], alpha=weight)


def euler(x: Tensor, denoised: Tensor, sigma: float | Tensor, sigma_next: float | Tensor) -> Tensor:
    """``x' = D + (sigma' / sigma) (x - D)``; D itself where sigma' = 0."""
    ratio = float(sigma_next) / float(sigma)
    return combine((x, denoised), (ratio, 1 - ratio))


def multistep(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    weights: Weights,
    *,
    length: int,
    noise: bool,
    history: Iterable[tuple[float, Tensor]] = (),
) -> Proposals:
    """The loop of a linear multistep method: a generator of proposals, one evaluation per step.

    Args:
        weights: ``weights(levels, sigma_next, left)`` gives the weights of the effective output, newest first, at most
            as many as ``levels``: the noise levels of the evaluations, newest first. ``left`` is the number of steps
            to sigma = 0, this one included, infinite where the grid does not end there. They sum to 1.
        length: how many outputs are kept.
        noise: whether the outputs are noise estimates ``(x - D) / sigma``, kept as ``x - D``, instead of images D.
        history: ``(sigma, x - D or D)`` of earlier evaluations, newest first.
    """
    past = deque(history, maxlen=length - 1)
    left = len(sigmas) - 1 if sigmas[-1] == 0 else math.inf
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = denoise(x, sigmas.new_tensor(sigma))
        if length == 1:
            x = yield Proposal(euler(x, denoised, sigma, sigma_next), sigmas.new_tensor(sigma_next), denoised)
            continue
        first, *others = weights([sigma, *(level for level, _ in past)], sigma_next, left)
        used, ratio = list(past)[: len(others)], sigma_next / sigma
        if noise:
            others = [-sigma / level * weight for weight, (level, _) in zip(others, used, strict=True)]
        effective = [1 - first if noise else 0, first, *others]
        ahead = [ratio, *[0] * (1 + len(used)), 1 - ratio]
        tensors = (x, denoised, *(older for _, older in used))
        difference = [[1, -1]] if noise else []
        oldest = past[-1][1] if len(past) == length - 1 else None  # a difference is nobody else's
        output, x_next, *kept = combine(tensors, effective, ahead, *difference, into=(None, None, oldest))
        past.appendleft((sigma, kept[0] if kept else denoised))
        left -= 1
        x = yield Proposal(x_next, sigmas.new_tensor(sigma_next), output)


def flow_time(sigma: Any) -> Any:
    """The time ``t = sigma / (1 + sigma)`` of flow matching, where ``x_t = (1 - t) x_0 + t n = x / (1 + sigma)``."""
    return sigma / (1 + sigma)


def flow_step(sigma: float, sigma_next: float) -> float:
    """``t' - t``, the step in the time of flow matching, negative."""
    return 1 / (1 + sigma) - 1 / (1 + sigma_next)


def middle_in_time(sigma: float, sigma_next: float) -> float:
    """The noise level at ``(t + t') / 2``."""
    return 2 / (1 / (1 + sigma) + 1 / (1 + sigma_next)) - 1


def velocity(sigma: float) -> tuple[float, float]:
    """Weights of x and D in the velocity of flow matching, ``v = dx_t / dt = (x_t - D) / t``."""
    return 1 / sigma, -(1 + sigma) / sigma


def trapezoid_in_time(sigma: float, sigma_next: float) -> list[float]:
    """Weights of ``x, D, p, D'`` in Heun's corrector in the time of flow matching, p the predicted state.

    ``x'_t = x_t + (t' - t) (v + v') / 2``, for the states ``x = (1 + sigma) x_t`` here.
    """
    half = (1 + sigma_next) * flow_step(sigma, sigma_next) / 2
    here, there = velocity(sigma), velocity(sigma_next)
    return [
        (1 + sigma_next) / (1 + sigma) + half * here[0],
        *(half * weight for weight in (here[1], *there)),
    ]


def trapezoid(sigma: Tensor, sigma_next: Tensor) -> list[float]:
    """Weights of ``x, D, p, D'`` in Heun's corrector ``x' = x + (sigma' - sigma) (eps + eps') / 2``, p predicted.

    In a step from pure noise (:data:`PURE_NOISE`), which is infinite, those of :func:`trapezoid_in_time`.
    """
    if sigma >= PURE_NOISE:
        return trapezoid_in_time(float(sigma), float(sigma_next))
    here, there = float((sigma_next - sigma) / sigma / 2), float((sigma_next - sigma) / sigma_next / 2)
    return [1 + here, -here, there, -there]


def log_step(sigma: float, sigma_next: float) -> float:
    """``h = log(sigma / sigma')``, the step in half log-SNR, positive."""
    return math.log(sigma / sigma_next)


@functools.cache
def _nodes():
    return np.polynomial.legendre.leggauss(NODES)


def lagrange_weights(levels: Sequence[float], sigma_next: float, variable: Callable[[np.ndarray], Any]) -> list[float]:
    """Weights of noise estimates integrated as a polynomial in ``u = variable(sigma)`` through the last levels.

    ``w_j = int_sigma^sigma' prod_{k != j} (u - u_k) / (u_j - u_k) dsigma / (sigma' - sigma)``, by Gauss-Legendre
    quadrature in log sigma, where dsigma = sigma dlog sigma and every variable in use is smooth. They sum to 1.
    """
    sigma = levels[0]
    low = math.log(max(sigma_next, 1e-14 * sigma))  # what is below adds 1e-14 of the integral
    nodes, masses = _nodes()
    logs = (math.log(sigma) - low) / 2 * nodes + (math.log(sigma) + low) / 2
    at = np.exp(logs)
    u, known = variable(at), variable(np.array(levels))
    weights = [
        np.sum(masses * at * math.prod((u - other) / (own - other) for k, other in enumerate(known) if k != j))
        for j, own in enumerate(known)
    ]
    return list(np.array(weights) / np.sum(weights))


def polynomial_weights(levels: Sequence[float], sigma_next: float) -> list[float]:
    """:func:`lagrange_weights` for ``u = sigma``, exactly: variable-step Adams-Bashforth weights."""
    start, h = levels[0], sigma_next - levels[0]
    points = (np.array(levels) - start) / h
    powers = np.arange(len(points))
    moments = 1 / (powers + 1)
    return list(np.linalg.solve(np.vander(points, increasing=True).T, moments))


def singlestep_spans(order: int, levels: Sequence[float]) -> list[tuple[int, int]]:
    """``(begin, end)`` of each solver step on a grid of K intervals: indices of levels, ``order`` intervals a step.

    The order schedule of singlestep DPM-Solver (Lu et al. 2022, arXiv 2206.00927, Sec. 3.4): order 2: 2, 2, ..., and 1
    last where K is odd; order 3: 3, 3, ..., and at the end 2, 1 where K is divisible by 3, else 1 or 2. A last step of
    order 2 to sigma = 0, where its inner level would be 0 too, is two of order 1. A first step from pure noise, where
    log-SNR is infinite, is of order 1, and the schedule is that of the others.

    >>> singlestep_spans(3, [5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    [(0, 3), (3, 4), (4, 5)]
    """
    if levels[0] >= PURE_NOISE and len(levels) > 2:
        return [(0, 1), *((begin + 1, end + 1) for begin, end in singlestep_spans(order, levels[1:]))]
    count = len(levels) - 1
    if order == 2:
        spans = [2] * (count // 2) + [1] * (count % 2)
    else:
        spans = [3] * (count // 3 - (count % 3 == 0)) + {0: [2, 1], 1: [1], 2: [2]}[count % 3]
    if spans[-1] == 2 and levels[-1] == 0:
        spans[-1:] = [1, 1]
    ends = np.cumsum([0, *spans]).tolist()
    return list(pairwise(ends))


def difference_weights(levels: Sequence[float], h: float, moments: Sequence[float]) -> list[float]:
    """Weights of ``O_0 + m_1 D_1 + m_2 D_2`` on the outputs O, newest first, 2 or 3 of them.

    ``D_1``, ``D_2``: derivatives of O by the step in units of h, from backward differences: with the widths ``r_0 h``,
    ``r_1 h`` of the last intervals in log-SNR, ``d_0 = (O_0 - O_1) / r_0``, ``d_1 = (O_1 - O_2) / r_1``; for two levels
    ``D_1 = d_0``, for three ``D_1 = d_0 + r_0 / (r_0 + r_1) (d_0 - d_1)``, ``D_2 = (d_0 - d_1) / (r_0 + r_1)``.
    """
    widths = [log_step(older, newer) / h for newer, older in pairwise(levels)]
    first, second = moments
    if len(levels) == 2:
        return [1 + first / widths[0], -first / widths[0]]
    total = sum(widths)
    newest = (first * (1 + widths[0] / total) + second / total) / widths[0]
    oldest = (first * widths[0] / total + second / total) / widths[1]
    return [1 + newest, -newest - oldest, oldest]
