"""DEIS, exponential integrators with polynomial extrapolation in time."""

import numpy as np

from dode.solvers.base import Denoise, Proposals, Tensor, solver
from dode.solvers.formulas import lagrange_weights, multistep, vp_time

VARIABLES = {"time": vp_time, "log-sigma": np.log}


@solver(
    "deis",
    order=lambda order, **_: order + 1,
    choices={"order": (1, 2, 3), "variable": tuple(VARIABLES)},
    source="Zhang & Chen 2023, arXiv:2204.13902, Eq. 15",
)
def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 3, variable: str = "time") -> Proposals:
    """``x' = x + int_sigma^sigma' P(u(s)) ds``, P the polynomial of degree ``order`` through the last noise estimates.

    DEIS-tAB (Zhang & Chen 2023, arXiv 2204.13902, Eq. 15), written for ``x / alpha``, where the integrating factor is
    1. ``variable``: the u in which P is a polynomial, ``"time"`` of the linear VP SDE (the paper's, whatever the model)
    or ``"log-sigma"``. The degree is what the paper calls the order: the order of accuracy is one more. One evaluation
    a step, degree 0, 1, 2, ... over the first steps; in log-sigma the step to sigma = 0 is Euler's. The denoising
    output is the effective noise estimate.
    """

    def weights(levels, sigma_next, left):
        singular = variable == "log-sigma" and sigma_next == 0
        return lagrange_weights(levels[:1] if singular else levels, sigma_next, VARIABLES[variable])

    return multistep(denoise, x, sigmas, weights, length=order + 1, noise=True)
