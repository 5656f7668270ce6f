"""Non-stationary solvers: every state is a free linear combination of the noise and all outputs so far.

Every linear solver is of this form, plain or distilled: :func:`dode.distillation.linear_form.linear_form` gives its
coefficients. It is not in the registry, as its coefficients are fitted (:mod:`dode.distillation.joint`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from dode.solvers.base import Denoise, Method, Proposal, Proposals, Solver, Tensor
from dode.solvers.formulas import combine

NAME = "non-stationary"
SOURCE = "Shaul et al. 2024, arXiv:2403.01329, Eq. 10"

#: Row i are the coefficients of state i on the unit normal noise and the outputs ``D_0, ..., D_{i-1}``.
Coefficients = Sequence[Sequence[float]]


def non_stationary(denoise: Denoise, x: Tensor, sigmas: Tensor, *, coefficients: Coefficients) -> Proposals:
    """``x_i = c_i0 n + sum_{j<i} c_i,j+1 D_j``, for i = 1, ..., K (Shaul et al. 2024, arXiv 2403.01329, Eq. 10).

    ``n = x / c_00`` is the unit normal noise. One evaluation per step; the levels of ``sigmas`` after the first are
    those that the network is told and nothing else, as the coefficients are free.
    """
    rows = [list(row) for row in coefficients]
    basis = [x / rows[0][0]]
    for row, (sigma, sigma_next) in zip(rows[1:], pairwise(sigmas), strict=True):
        denoised = denoise(x, sigma)
        basis.append(denoised)
        x = yield Proposal(combine(basis, row[: len(basis)]), sigma_next, denoised)


def depth(steps: int, *, coefficients: Coefficients) -> int:
    """How many evaluations must wait for one another: those of states that need no other's output can be made at once.

    >>> depth(3, coefficients=[[1.0], [1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.5, 0.5]])
    2
    """
    depths: list[int] = []
    for row in coefficients[:-1]:
        depths.append(1 + max((own for own, weight in zip(depths, row[1:], strict=False) if weight), default=0))
    return max(depths)


class NonStationary(Solver):
    """The solver with the given coefficients, for K evaluations: K + 1 rows, row i of at least i + 1 numbers."""

    def __init__(self, coefficients: Coefficients):
        method = Method(
            name=NAME,
            function=non_stationary,
            order=lambda coefficients: 1,
            evaluations=lambda steps, coefficients: steps,
            evaluations_above=lambda steps, coefficients: steps,
            depth=depth,
            teacher=lambda coefficients: "heun",
            source=SOURCE,
        )
        super().__init__(method, {"coefficients": [list(map(float, row)) for row in coefficients]})

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return NonStationary, (self.options["coefficients"],)

    def __repr__(self) -> str:
        return f"non-stationary solver of {len(self.options['coefficients']) - 1} evaluations"
