"""Heun's second-order method of EDM."""

from itertools import pairwise

from dode.solvers.base import Proposal, solver


@solver("heun", order=2, evaluations=lambda steps: 2 * steps - 1, teacher="heun")
def heun(denoise, x, sigmas):
    """Heun's method, Karras et al. 2022 (arXiv 2206.00364), Algorithm 1 (without churn).

    Predictor ``p = x + h d`` with ``h = sigma' - sigma``, ``d = (x - D) / sigma``; corrector ``x' = x + h (d + d') /
    2`` with ``d'`` at ``(p, sigma')``. The step to sigma = 0 is Euler's, so N steps cost 2N - 1 evaluations.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        euler = x + (sigma_next - sigma) * slope
        if sigma_next == 0:
            x = yield Proposal(euler, sigma_next, denoised)
            continue
        predicted = yield Proposal(euler, sigma_next, denoised, stage=True)
        denoised = denoise(predicted, sigma_next)
        slope_next = (predicted - denoised) / sigma_next
        x = yield Proposal(x + (sigma_next - sigma) / 2 * (slope + slope_next), sigma_next, denoised)
