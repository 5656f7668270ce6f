"""PLMS, the pseudo-numerical method that starts with a step of Heun's instead of Runge and Kutta's."""

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, multistep, trapezoid
from dode.solvers.ipndm import ADAMS_BASHFORTH


@solver(
    "plms",
    order=2,
    evaluations=lambda steps: steps + (steps > 1),
    evaluations_above=lambda steps: steps + 1,
    levels=lambda steps: steps,
    source="Liu et al. 2022, arXiv:2202.09778; its start that of Rombach et al. 2022, arXiv:2112.10752, their code",
)
def plms(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """``x' = x + h sum_j w_j eps_{k-j}`` with Adams-Bashforth weights for equal steps, after one step of Heun's method.

    The scheduler of Stable Diffusion 1 (PNDM of diffusers with ``skip_prk_steps``): the first step costs two
    evaluations, ``x' = x + h (eps + eps') / 2`` with eps' at its Euler step's end, then orders 2, 3, 4. So N steps cost
    N + 1 evaluations; of one step to 0, Euler's, 1. Denoising outputs: in the first step the evaluations, then the
    effective noise estimate. From pure noise (``PURE_NOISE``) the first step averages the slopes in the time of flow
    matching, as ``heun`` does.
    """
    sigma, sigma_next = sigmas[0], sigmas[1]
    denoised = denoise(x, sigma)
    last = sigma_next == 0
    predicted = yield Proposal(euler(x, denoised, sigma, sigma_next), sigma_next, denoised, stage=not last)
    if last:
        return
    denoised_next = denoise(predicted, sigma_next)
    weights = trapezoid(sigma, sigma_next)
    difference = combine((x, denoised), (1, -1))
    x = yield Proposal(combine((x, denoised, predicted, denoised_next), weights), sigma_next, denoised_next)

    def adams_bashforth(levels, sigma_next, left):
        return ADAMS_BASHFORTH[len(levels)]

    if len(sigmas) > 2:
        history = [(float(sigma), difference)]
        yield from multistep(denoise, x, sigmas[1:], adams_bashforth, length=4, noise=True, history=history)
