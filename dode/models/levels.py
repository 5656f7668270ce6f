"""Arithmetic on a noise level that is a number, or a tensor where it differs by image or gradients flow to it.

A level that all images share and nobody differentiates is a Python float, and coefficients that follow from it are
computed once. Any other is a float64 tensor, 0-d or (B, 1, 1, 1), and so are its coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Level: TypeAlias = float | Tensor


def level_of(sigma: Any, x: Tensor) -> Level:
    """The level in the form in which it is computed with.

    Args:
        sigma: a number or a tensor of one, or a tensor (B, 1, 1, 1).
        x: the states (B, C, H, W) that it is of.

    Raises:
        ValueError: for a tensor of another shape.
    """
    if not isinstance(sigma, Tensor) or (sigma.numel() == 1 and not (sigma.requires_grad and torch.is_grad_enabled())):
        return float(sigma)
    if sigma.numel() == 1:
        return sigma.reshape(()).to(x.device, torch.float64)
    if sigma.shape != (len(x), *[1] * (x.ndim - 1)):
        raise ValueError(
            f"sigma must be a 0-d tensor, or of shape {(len(x), *[1] * (x.ndim - 1))} for states of shape "
            f"{tuple(x.shape)}, not {tuple(sigma.shape)}"
        )
    return sigma.to(x.device, torch.float64)


def sqrt(level: Any) -> Any:
    """The square root."""
    return level.sqrt() if isinstance(level, Tensor) else math.sqrt(level)


def log(level: Any) -> Any:
    """The natural logarithm."""
    return level.log() if isinstance(level, Tensor) else math.log(level)


def add(x: Tensor, other: Tensor, factor: Level) -> Tensor:
    """``x + factor other``, of x's type."""
    if isinstance(factor, Tensor):
        return (x + factor * other).to(x.dtype)
    return torch.add(x, other, alpha=factor)


def add_to(x: Tensor, other: Tensor, factor: Level) -> Tensor:
    """:func:`add`, into x's own memory where no gradient may need it."""
    return add(x, other, factor) if isinstance(factor, Tensor) or x.requires_grad else x.add_(other, alpha=factor)


def mapped(level: Level, function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Any:
    """A function of NumPy at a level; ``slope`` is its derivative, along which gradients flow."""
    if not isinstance(level, Tensor):
        return function(level)
    at = level.detach().cpu().numpy()
    values = torch.as_tensor(np.asarray(function(at)), dtype=level.dtype).to(level.device)
    if not level.requires_grad:
        return values
    slopes = torch.as_tensor(np.asarray(slope(at)), dtype=level.dtype).to(level.device)
    return values + slopes * (level - level.detach())


def condition(value: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What a network is told of a level, 0-d where images share it, else (B,)."""
    if isinstance(value, Tensor):
        return value.reshape(-1 if value.ndim else ()).to(device, dtype)
    return torch.tensor(value, dtype=dtype, device=device)
