"""PNDM, the pseudo-numerical method with its Runge-Kutta start."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, multistep
from dode.solvers.ipndm import ADAMS_BASHFORTH

WARM_UP = 3  # steps of four evaluations before the four-step formula has its history


@solver(
    "pndm",
    order=4,
    evaluations=lambda steps: min(4 * steps - 3, steps + 3 * WARM_UP),
    evaluations_above=lambda steps: min(4 * steps, steps + 3 * WARM_UP),
    levels=lambda steps: min(2 * steps - 1, steps + WARM_UP),
    source="Liu et al. 2022, arXiv:2202.09778, Alg. 2",
)
def pndm(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """Three steps of pseudo Runge-Kutta, then fourth-order Adams-Bashforth on the noise estimate.

    F-PNDM (Liu et al. 2022, arXiv 2202.09778, Alg. 2, Eqs. 11-13), where the transfer part is a DDIM step, here Euler's
    in sigma. A Runge-Kutta step goes to the midpoint in sigma twice and to the end once, each time from its beginning,
    and then takes ``(eps_1 + 2 eps_2 + 2 eps_3 + eps_4) / 6``: four evaluations. The step to sigma = 0 is Euler's
    where it would be a Runge-Kutta step, so N steps cost N + 9 evaluations, 4N - 3 for N < 4 (4N where they end above
    0). Weights are those of equal steps, as in ``ipndm``. Denoising outputs: in the start the evaluations, then the
    effective noise estimate.
    """
    history: list[tuple[float, Tensor]] = []
    for sigma, sigma_next in pairwise(sigmas[: WARM_UP + 1]):
        if sigma_next == 0:
            denoised = denoise(x, sigma)
            yield Proposal(euler(x, denoised, sigma, sigma_next), sigma_next, denoised)
            return
        middle, h = (sigma + sigma_next) / 2, float(sigma_next - sigma)
        begin, at, differences = x, sigma, []
        for end in (middle, middle, sigma_next):
            denoised = denoise(x, at)
            difference, x_next = combine((x, denoised, begin), (1, -1), (0, 0, 1, (end - sigma) / at))
            differences.append(difference)
            x = yield Proposal(x_next, end, denoised, stage=True)
            at = end
        denoised = denoise(x, at)
        weights = [h / 6 / float(sigma), h / 3 / float(middle), h / 3 / float(middle), h / 6 / float(at)]
        x_next = combine((begin, *differences, x, denoised), (1, *weights, -weights[-1]))
        x = yield Proposal(x_next, sigma_next, denoised)
        history.insert(0, (float(sigma), differences[0]))

    def adams_bashforth(levels, sigma_next, left):
        return ADAMS_BASHFORTH[4]

    rest = sigmas[WARM_UP:]
    if len(rest) > 1:
        yield from multistep(denoise, x, rest, adams_bashforth, length=4, noise=True, history=history)
