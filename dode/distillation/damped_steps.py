"""The steps of Levenberg-Marquardt (Levenberg 1944; Marquardt 1963), which two fits take: refined and joint.

Both minimise the squared error of end states; they differ in what they vary, in what they count, and in when they end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def normal_equations(parts: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """``J^T J``, (count, count), and ``J^T r``, (count,), summed up over parts (J, r) of the residuals, on the CPU.

    So that no Jacobian of all residuals is ever in memory.
    """
    gram = torch.zeros(count, count, dtype=torch.float64)
    gradient = torch.zeros(count, dtype=torch.float64)
    for jacobian, residual in parts:
        gram += (jacobian.T @ jacobian).cpu()
        gradient += (jacobian.T @ residual).cpu()
    return gram, gradient


@dataclasses.dataclass(frozen=True)
class Damping:
    """How steps ``-(J^T J + damping diag(J^T J))^-1 J^T r`` are damped.

    Attributes:
        first: the damping at first; eased after a step that lowers the error, stiffened after one that does not.
        stiffest, least: its bounds.
        flat: what moves the residuals by less than this share of the largest diagonal entry is damped like this share.
        smallest: diagonal entry that is damped, so that there is a step where nothing moves them.
    """

    first: float
    stiffest: float
    flat: float
    least: float = 0.0
    smallest: float = 0.0

    EASED, STIFFENED = 0.2, 5.0

    def step(self, gram: Tensor, gradient: Tensor, damping: float) -> Tensor | None:
        """The step; None where the equations cannot be solved."""
        diagonal = gram.diagonal()
        diagonal = diagonal.clamp(min=max(self.flat * float(diagonal.max()), self.smallest))
        step, failed = torch.linalg.solve_ex(gram + damping * torch.diag(diagonal), -gradient)
        return None if bool(failed) or not bool(step.isfinite().all()) else step

    def lower(
        self, error: float, damping: float, step: Callable[[float], Tensor | None], attempt: Callable[[Tensor], float]
    ) -> tuple[Tensor, float, float] | None:
        """What the first step leads to that lowers the error, of more and more damped ones; None where none does.

        Args:
            error: where the step begins.
            damping: of the first step.
            step: from a damping to what is tried, or None.
            attempt: from what is tried to its error.

        Returns:
            What was tried, its error, and the damping to go on with.
        """
        while damping <= self.stiffest:
            tried = step(damping)
            found = math.inf if tried is None else attempt(tried)
            if tried is not None and found < error:
                return tried, found, max(damping * self.EASED, self.least)
            damping *= self.STIFFENED
        return None
