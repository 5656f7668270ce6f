"""Heun's second-order method of EDM."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, trapezoid


@solver(
    "heun",
    order=2,
    evaluations=lambda steps: 2 * steps - 1,
    evaluations_above=lambda steps: 2 * steps,
    levels=lambda steps: steps,
    teacher="heun",
    source="Karras et al. 2022, arXiv:2206.00364, Alg. 1",
)
def heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """Heun's method, Karras et al. 2022 (arXiv 2206.00364), Algorithm 1 (without churn).

    Predictor ``p = x + h d`` with ``h = sigma' - sigma``, ``d = (x - D) / sigma``; corrector ``x' = x + h (d + d') /
    2`` with ``d'`` at ``(p, sigma')``. The step to sigma = 0 is Euler's, so N steps cost 2N - 1 evaluations,
    and 2N where they end above 0. In a step from pure noise (``PURE_NOISE``), where h is infinite, the slopes that are
    averaged are those in the time of flow matching, as in ``flow-heun``.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        last = sigma_next == 0
        predicted = yield Proposal(euler(x, denoised, sigma, sigma_next), sigma_next, denoised, stage=not last)
        if last:
            break
        denoised_next = denoise(predicted, sigma_next)
        weights = trapezoid(sigma, sigma_next)
        x = yield Proposal(combine((x, denoised, predicted, denoised_next), weights), sigma_next, denoised_next)
