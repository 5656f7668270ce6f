"""Gradient estimation, Euler's method with an extrapolated noise estimate."""

from dode.solvers.base import Denoise, Proposals, Tensor, solver
from dode.solvers.formulas import multistep


@solver("gradient-estimation", order=1, source="Permenter & Yuan 2024, arXiv:2306.04848, Alg. 2")
def gradient_estimation(denoise: Denoise, x: Tensor, sigmas: Tensor, *, gamma: float = 2.0) -> Proposals:
    """``x' = x + h (gamma eps_k + (1 - gamma) eps_{k-1})``; Euler's step first, and to sigma = 0.

    Permenter & Yuan 2024, arXiv 2306.04848, Alg. 2: they take ``gamma`` = 2, where the second-order method for equal
    steps, ``ipndm``, has 1.5; 1 is Euler's. One evaluation a step; the denoising output is the effective noise
    estimate.
    """

    def weights(levels, sigma_next, left):
        return [1] if len(levels) == 1 or sigma_next == 0 else [gamma, 1 - gamma]

    return multistep(denoise, x, sigmas, weights, length=2, noise=True)
