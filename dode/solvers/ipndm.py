"""Adams-Bashforth methods on the noise estimate: iPNDM, and its variable-step form."""

from dode.solvers.base import Denoise, Proposals, Tensor, solver
from dode.solvers.formulas import multistep, polynomial_weights

# Adams-Bashforth weights for equal steps, newest first, by order.
ADAMS_BASHFORTH = {
    1: (1,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@solver(
    "ipndm",
    order=lambda order: order,
    choices={"order": (1, 2, 3, 4)},
    source="Zhang & Chen 2023, arXiv:2204.13902; after Liu et al. 2022, arXiv:2202.09778",
)
def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 4) -> Proposals:
    """``x' = x + h sum_j w_j eps_{k-j}`` with Adams-Bashforth weights w for equal steps, whatever the steps are.

    Improved PNDM (Zhang & Chen 2023, arXiv 2204.13902, Sec. 3; after Liu et al. 2022, arXiv 2202.09778): order 1, 2, 3,
    ... over the first steps instead of a Runge-Kutta start. One evaluation per step; the denoising output is the
    effective noise estimate ``sum_j w_j eps_{k-j}``. On unequal steps orders above 2 are of second order in the number
    of steps.
    """

    def weights(levels, sigma_next, left):
        return ADAMS_BASHFORTH[len(levels)]

    return multistep(denoise, x, sigmas, weights, length=order, noise=True)


@solver(
    "ipndm_v",
    order=lambda order: order,
    choices={"order": (1, 2, 3, 4)},
    source="Zhang & Chen 2023, arXiv:2204.13902, there rho-AB",
)
def ipndm_v(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 4) -> Proposals:
    """``x' = x + int_sigma^sigma' P(s) ds``, P the polynomial in sigma through the last noise estimates.

    Adams-Bashforth with the true steps (Zhang & Chen 2023, arXiv 2204.13902, there rho-AB in sigma = rho; the name is
    that of the variable-step iPNDM of Zhou et al. 2024, arXiv 2312.00094). Equal to :func:`ipndm` on equal steps. One
    evaluation a step; order 1, 2, ... over the first steps; the denoising output is the effective noise estimate.
    """

    def weights(levels, sigma_next, left):
        return polynomial_weights(levels, sigma_next)

    return multistep(denoise, x, sigmas, weights, length=order, noise=True)
