"""DDIM, the explicit Euler method in sigma."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import euler


@solver("ddim", order=1, teacher="heun", source="Song, Meng & Ermon 2021, arXiv:2010.02502")
def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """``x' = D + (sigma' / sigma) (x - D)``.

    Deterministic DDIM (Song, Meng & Ermon 2021, arXiv 2010.02502) written for ``x / alpha``: Euler's method for
    ``dx/dsigma = (x - D) / sigma`` (Karras et al. 2022, Sec. 3). One evaluation per step; exact in the step to 0.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        x = yield Proposal(euler(x, denoised, sigma, sigma_next), sigma_next, denoised)
