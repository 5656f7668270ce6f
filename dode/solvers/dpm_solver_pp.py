"""DPM-Solver++: exponential integrators in half log-SNR on the denoised image."""

import math

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import difference_weights, euler, log_step, multistep, singlestep_spans

ORDERS = {"2S": 2, "2M": 2, "3M": 3, "3M-full": 3}


@solver(
    "dpm-solver++",
    order=2,
    teacher=lambda variant: "heun" if variant == "2S" else None,
    spanning=lambda variant: variant == "2S",
    choices={"variant": tuple(ORDERS)},
    source="Lu et al. 2022, arXiv:2211.01095, Alg. 1 and 2",
)
def dpm_solver_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, *, variant: str = "2M") -> Proposals:
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095): 2S (Alg. 1), 2M (Alg. 2), 3M (the authors' code).

    With ``h = log(sigma / sigma')``, ``e = exp(-h) - 1``: the first order is Euler's step
    ``x' = (sigma' / sigma) x - e D``, and

    - 2S adds ``-e (D_1 - D)``, with D_1 at the level halfway in log-SNR; a step covers two intervals of the grid;
    - 2M adds ``-e D_1 / 2``, 3M ``(e / h + 1) D_1 - ((e + h) / h^2 - 1/2) D_2``, with backward differences of the last
      two or three outputs; lower orders over the first steps and, where fewer steps are left, over the last;
    - 3M-full is 3M to the end, lower orders over the first steps alone, that of order 2 with ``(e / h + 1) D_1``:
      ``dpmpp_3m_sde`` of k-diffusion without noise.

    One evaluation per interval; the step to sigma = 0 is Euler's. The denoising output is the evaluation for 2S, the
    effective image for the others.
    """
    if variant == "2S":
        return _singlestep(denoise, x, sigmas)
    order, full = ORDERS[variant], variant == "3M-full"

    def weights(levels, sigma_next, left):
        levels = levels[:order] if full else levels[: min(order, left)]
        if len(levels) == 1 or sigma_next == 0:
            return [1]
        h = log_step(levels[0], sigma_next)
        total = math.expm1(-h)
        moments = [-(total / h + 1) / total, ((total + h) / h**2 - 0.5) / total]
        return difference_weights(levels, h, [1 / 2, None] if len(levels) == 2 and not full else moments)

    return multistep(denoise, x, sigmas, weights, length=order, noise=False)


def _singlestep(denoise, x, sigmas):
    levels = sigmas.tolist()
    for begin, end in singlestep_spans(2, levels):
        sigma, sigma_next = levels[begin], levels[end]
        denoised = denoise(x, sigmas.new_tensor(sigma))
        inner = sigma_next if end - begin == 1 else math.sqrt(sigma * sigma_next)
        halfway = Proposal(euler(x, denoised, sigma, inner), sigmas.new_tensor(inner), denoised, end - begin == 2)
        start, x = x, (yield halfway)
        if end - begin == 2:
            denoised = denoise(x, sigmas.new_tensor(inner))
            x = yield Proposal(euler(start, denoised, sigma, sigma_next), sigmas.new_tensor(sigma_next), denoised)
