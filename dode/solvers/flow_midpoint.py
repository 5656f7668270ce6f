"""The midpoint method in the time of flow matching."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, flow_step, middle_in_time, velocity


@solver(
    "flow-midpoint",
    order=2,
    evaluations=lambda steps: 2 * steps - 1,
    evaluations_above=lambda steps: 2 * steps,
    teacher="flow-heun",
    source="Runge 1895; in flow matching, Lipman et al. 2024, arXiv:2412.06264",
)
def flow_midpoint(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """``x'_t = x_t + (t' - t) v(x_m, t_m)`` with ``x_m`` by Euler's step to ``t_m = (t + t') / 2``.

    The midpoint method for ``dx_t/dt = v``, ``t = sigma / (1 + sigma)``. The step to t = 0, whose midpoint may be below
    the levels that the network was trained on, is Euler's, so N steps cost 2N - 1 evaluations, and 2N where they end
    above 0.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = denoise(x, sigmas.new_tensor(sigma))
        if sigma_next == 0:
            yield Proposal(euler(x, denoised, sigma, sigma_next), sigmas.new_tensor(sigma_next), denoised)
            break
        middle = middle_in_time(sigma, sigma_next)
        state = yield Proposal(euler(x, denoised, sigma, middle), sigmas.new_tensor(middle), denoised, stage=True)
        denoised = denoise(state, sigmas.new_tensor(middle))
        step = (1 + sigma_next) * flow_step(sigma, sigma_next)
        weights = ((1 + sigma_next) / (1 + sigma), *(step * weight for weight in velocity(middle)))
        x = yield Proposal(combine((x, state, denoised), weights), sigmas.new_tensor(sigma_next), denoised)
