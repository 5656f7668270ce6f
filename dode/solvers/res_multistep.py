"""RES, exponential Adams-Bashforth methods on the denoised image."""

import math

from dode.solvers.base import Denoise, Proposals, Tensor, solver
from dode.solvers.formulas import difference_weights, log_step, multistep


@solver(
    "res-multistep",
    order=lambda order: order,
    choices={"order": (2, 3)},
    source="Zhang et al. 2023, arXiv:2308.02157, its multistep form",
)
def res_multistep(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 2) -> Proposals:
    """``x' = (sigma' / sigma) x + int_0^h exp(u - h) P(u) du``, P the polynomial in log-SNR through the last images.

    The refined exponential solver (Zhang et al. 2023, arXiv 2308.02157), ``h = log(sigma / sigma')``. Of order 2, with
    backward difference D_1 of the last two outputs, ``- e D + (e / h + 1) D_1``, ``e = exp(-h) - 1``: that is
    ``res_multistep`` of ComfyUI, DPM-Solver++ (2M) of ``solver_type="heun"`` in diffusers, and ``dpmpp_2m_sde`` of
    k-diffusion with that type and no noise. Order 3 adds ``-2 ((e + h) / h^2 - 1/2) D_2``, twice what
    ``dpm-solver++`` 3M does. ``deis`` in ``log-sigma`` is the same on the noise estimate. One evaluation a step; order
    1, 2, ... over the first steps; the step to sigma = 0 is Euler's. The denoising output is the effective image.
    """

    def weights(levels, sigma_next, left):
        if len(levels) == 1 or sigma_next == 0:
            return [1]
        h = log_step(levels[0], sigma_next)
        total = math.expm1(-h)
        moments = [-(total / h + 1) / total, 2 * ((total + h) / h**2 - 0.5) / total]
        return difference_weights(levels, h, moments)

    return multistep(denoise, x, sigmas, weights, length=order, noise=False)
