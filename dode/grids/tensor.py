"""The tensor that a grid function returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from dode.grids.variables import Variable

#: Noise levels as they may be given.
Levels: TypeAlias = torch.Tensor | np.ndarray | Sequence[float]


class Grid(torch.Tensor):
    """Noise levels (steps + 1,), float64, that remember their family; any operation on them gives a plain tensor.

    Attributes:
        variable: the :class:`dode.grids.Variable` in which the grid is uniform.
        remake: ``remake(steps=n)`` makes the grid of the same family with n steps, all of them by the network.
        afs: whether a solver's first evaluation on it is analytic (:meth:`dode.solvers.base.Solver.with_afs`).
    """

    variable: Variable
    remake: Callable[..., Grid] | None
    afs: bool

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def of(levels: Levels, variable: Variable, remake: Callable[..., Grid] | None, afs: bool = False) -> Grid:
        """A grid from an array of levels."""
        grid = torch.as_tensor(levels, dtype=torch.float64).as_subclass(Grid)
        grid.variable, grid.remake, grid.afs = variable, remake, afs
        return grid

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Grid.of, (self.tolist(), self.variable, self.remake, self.afs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Grid:
        return Grid.of(self.tolist(), self.variable, self.remake, self.afs)


def checked(sigmas: Levels) -> torch.Tensor:
    """Float64 tensor of a usable grid on the CPU: 1-d, at least two levels, finite, descending, not negative."""
    try:
        levels = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu").as_subclass(torch.Tensor)
    except (TypeError, RuntimeError):  # torch's, of what is no number
        raise ValueError(f"sigmas must be noise levels, numbers, not {str(sigmas)[:60]!r}") from None
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(
            f"sigmas must be a 1-d sequence of at least two noise levels, not of shape {tuple(levels.shape)}"
        )
    if not bool(levels.isfinite().all()) or bool((levels.diff() >= 0).any()) or levels[-1] < 0:
        raise ValueError("sigmas must be finite, strictly descending and not negative")
    return levels
