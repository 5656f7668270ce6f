"""DPM-Solver: exponential integrators in half log-SNR on the noise estimate, singlestep and multistep."""

import math

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, difference_weights, euler, log_step, multistep, singlestep_spans


@solver(
    "dpm-solver",
    order=lambda order, **_: order,
    teacher="heun",
    spanning=True,
    choices={"order": (2, 3), "stages": ("log-snr", "grid")},
    source="Lu et al. 2022, arXiv:2206.00927, Alg. 1 and 2",
)
def dpm_solver(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 3, stages: str = "log-snr") -> Proposals:
    """DPM-Solver-2 and -3, singlestep (Lu et al. 2022, arXiv 2206.00927, Alg. 1 and 2), for any number of evaluations.

    A solver step of order p covers p intervals of the grid and costs p evaluations, so a grid of K intervals costs K;
    the orders of the steps are those of ``singlestep_spans``. With ``h = log(sigma / sigma')``, ``E(z) = exp(z) - 1``
    and inner levels ``sigma_i = sigma exp(-r_i h)``:

    - 1: ``x' = x + (sigma' - sigma) eps``
    - 2: ``x' = x + (sigma' - sigma) eps - sigma' E(h) / (2 r_1) (eps_1 - eps)``
    - 3: ``x_2 = x + (sigma_2 - sigma) eps - (r_2 / r_1) sigma_2 (E(r_2 h) / (r_2 h) - 1) (eps_1 - eps)``,
      ``x' = x + (sigma' - sigma) eps - sigma' (E(h) / h - 1) / r_2 (eps_2 - eps)``

    ``stages``: where the inner levels are, ``"log-snr"``: r_1 = 1/2 for order 2, 1/3 and r_2 = 2/3 for order 3, the
    paper's; ``"grid"``: at the levels of the grid (the released D-ODE code; below third order unless r_2 = 2/3).
    The denoising output is each evaluation.
    """
    levels = sigmas.tolist()
    for begin, end in singlestep_spans(order, levels):
        sigma, sigma_next, span = levels[begin], levels[end], end - begin
        denoised = denoise(x, sigmas.new_tensor(sigma))
        if span == 1:
            x = yield Proposal(euler(x, denoised, sigma, sigma_next), sigmas.new_tensor(sigma_next), denoised)
            continue
        h = log_step(sigma, sigma_next)
        ratios = [index / span for index in range(1, span)]
        if stages == "grid":
            ratios = [log_step(sigma, levels[begin + index]) / h for index in range(1, span)]
        start, inner = (x, denoised, sigma), sigma * math.exp(-ratios[0] * h)
        x = yield Proposal(euler(*start, inner), sigmas.new_tensor(inner), denoised, stage=True)
        if span == 3:
            denoised = denoise(x, sigmas.new_tensor(inner))
            step, (first, second) = ratios[1] * h, ratios
            end_level = sigma * math.exp(-step)
            weight = -(second / first) * end_level * (math.expm1(step) / step - 1)
            x_next = _with_slope(start, (x, denoised, inner), end_level - sigma, weight)
            inner = end_level
            x = yield Proposal(x_next, sigmas.new_tensor(inner), denoised, stage=True)
            weight = -sigma_next * (math.expm1(h) / h - 1) / second
        else:
            weight = -sigma_next * math.expm1(h) / (2 * ratios[0])
        denoised = denoise(x, sigmas.new_tensor(inner))
        x_next = _with_slope(start, (x, denoised, inner), sigma_next - sigma, weight)
        x = yield Proposal(x_next, sigmas.new_tensor(sigma_next), denoised)


def _with_slope(start, inner, width, weight):
    """``x + width eps + weight (eps_i - eps)``, each eps from ``(x, denoised, sigma)`` at the start and inside."""
    (x, denoised, sigma), (x_inner, denoised_inner, sigma_inner) = start, inner
    here, there = (width - weight) / sigma, weight / sigma_inner
    return combine((x, denoised, x_inner, denoised_inner), (1 + here, -here, there, -there))


@solver(
    "dpm-solver-multistep",
    order=2,
    choices={"order": (2, 3)},
    source="Lu et al. 2022, arXiv:2211.01095, its multistep form with noise prediction",
)
def dpm_solver_multistep(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 3) -> Proposals:
    """Multistep DPM-Solver on the noise estimate (Lu et al. 2022, arXiv 2211.01095, App. B, with eps for D).

    With ``h = log(sigma / sigma')`` and the backward differences ``D_1``, ``D_2`` of eps in log-SNR, order 2:
    ``x' = x + (sigma' - sigma) (eps + D_1 / 2)``; order 3: ``x' = x + (sigma' - sigma) eps - sigma' (E(h) / h - 1) D_1
    - sigma' ((E(h) - h) / h^2 - 1/2) D_2``, ``E(h) = exp(h) - 1``. One evaluation per step; order 1, 2, 3 over the
    first steps, and over the last ones no more than the number of steps left, so that the step to sigma = 0 is
    Euler's. The denoising output is the effective noise estimate.
    """

    def weights(levels, sigma_next, left):
        levels = levels[: min(order, left)]
        if len(levels) == 1:
            return [1]
        h = log_step(levels[0], sigma_next)
        total = math.expm1(h)
        moments = [1 / 2, None] if len(levels) == 2 else [(total / h - 1) / total, ((total - h) / h**2 - 0.5) / total]
        return difference_weights(levels, h, moments)

    return multistep(denoise, x, sigmas, weights, length=order, noise=True)
