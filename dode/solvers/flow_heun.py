"""Heun's method in the time of flow matching."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, trapezoid_in_time


@solver(
    "flow-heun",
    order=2,
    evaluations=lambda steps: 2 * steps - 1,
    evaluations_above=lambda steps: 2 * steps,
    levels=lambda steps: steps,
    teacher="flow-heun",
    source="Heun 1900; in flow matching, Lipman et al. 2024, arXiv:2412.06264",
)
def flow_heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """``x'_t = x_t + (t' - t) (v + v') / 2``: Heun's method for ``dx_t/dt = v``, ``t = sigma / (1 + sigma)``.

    As ``FlowMatchHeunDiscreteScheduler`` of diffusers. The predictor, Euler's step in t, is that in sigma. The step to
    t = 0 is Euler's, so N steps cost 2N - 1 evaluations, and 2N where they end above 0.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        level = sigmas.new_tensor(sigma_next)
        denoised = denoise(x, sigmas.new_tensor(sigma))
        last = sigma_next == 0
        predicted = yield Proposal(euler(x, denoised, sigma, sigma_next), level, denoised, stage=not last)
        if last:
            break
        denoised_next = denoise(predicted, level)
        tensors = (x, denoised, predicted, denoised_next)
        x = yield Proposal(combine(tensors, trapezoid_in_time(sigma, sigma_next)), level, denoised_next)
