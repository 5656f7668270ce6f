"""The tensor that a grid function returns."""

import torch


class Grid(torch.Tensor):
    """Noise levels (steps + 1,), float64, that remember their family; any operation on them gives a plain tensor.

    Attributes:
        variable: the :class:`dode.grids.Variable` in which the grid is uniform.
        remake: ``remake(steps=n)`` makes the grid of the same family with n steps.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def of(levels, variable, remake):
        """A grid from an array of levels."""
        grid = torch.as_tensor(levels, dtype=torch.float64).as_subclass(Grid)
        grid.variable, grid.remake = variable, remake
        return grid


def checked(sigmas):
    """Float64 tensor of a usable grid on the CPU: 1-d, at least two levels, finite, descending, not negative."""
    levels = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu").as_subclass(torch.Tensor)
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(
            f"sigmas must be a 1-d sequence of at least two noise levels, not of shape {tuple(levels.shape)}"
        )
    if not bool(levels.isfinite().all()) or bool((levels.diff() >= 0).any()) or levels[-1] < 0:
        raise ValueError("sigmas must be finite, strictly descending and not negative")
    return levels
