"""Calls of a network that is not ours: what it may write to is its own, and what it returns is copied and checked."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dode.solvers.base import Denoise

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HELP = {
    torch.float16: "float16 has no numbers above 65504: bfloat16 or float32 helps",
    torch.bfloat16: "it computes in bfloat16: float32 may help",
}
# Noise whose root mean square is further from 1 than by this factor, and than by chance, was scaled.
SCALED, CHANCE = 1.5, 6.0


class NonFiniteError(FloatingPointError):
    """A state, or what a network returned, is NaN or infinite."""


def noise(latents: Any) -> Tensor:
    """Latents as a tensor; those of NumPy are taken, in their own precision.

    Raises:
        ValueError: for integers and other types that are no noise, and for what has no axis of images.
    """
    found = _of_array(latents)
    if not isinstance(found, Tensor):
        raise ValueError(f"latents must be a tensor or an array of floating-point numbers, not {_what(latents)}")
    if found.dtype not in FLOATS or found.layout is not torch.strided:
        raise ValueError(
            f"latents must be of float16, bfloat16, float32 or float64, not {_what(latents)}: unit-normal noise has "
            "fractions, and images come back in its type"
        )
    if found.ndim < 2:
        raise ValueError(f"latents must be of shape (B, C, H, W), one entry per image, not {tuple(found.shape)}")
    return found


def check_unit(latents: Tensor, name: str = "latents", unit: float = 1.0) -> None:
    """Raise ValueError for noise that is not finite, or that has another standard deviation than ``unit``.

    All zeros pass: whatever they are multiplied by, they mean the same.
    """
    count = latents.numel()
    if not count:
        return
    size = float(torch.linalg.vector_norm(latents, dtype=torch.float64)) / count**0.5
    if not math.isfinite(size):
        raise ValueError(f"{name}: they contain NaN or infinity")
    # The logarithm of the root mean square of n unit normals has a standard error of 1 / sqrt(2 n).
    if size and abs(math.log(size / unit)) > math.log(SCALED) + CHANCE / (2 * count) ** 0.5:
        raise ValueError(
            f"{name}: their standard deviation must be {unit:.4g}, not {size:.4g}: unit-normal noise is needed, "
            + ("which is multiplied by the first noise level here" if name == "latents" else "times init_noise_sigma")
        )


def tensor(output: Any, like: Tensor) -> Tensor:
    """What a network returned, as a tensor on the device of ``like``.

    A tuple, list or mapping of a single tensor stands for it, such as an output object of diffusers; an array of NumPy
    becomes a tensor.

    Raises:
        ValueError: for everything else.
    """
    found = output
    if isinstance(found, Mapping):
        found = tuple(value for value in found.values() if value is not None)
    if isinstance(found, tuple | list) and len(found) == 1:
        found = found[0]
    found = _of_array(found)
    if not isinstance(found, Tensor) or found.dtype not in FLOATS:
        raise ValueError(f"the network must return one floating-point tensor, not {_what(output)}")
    return found if found.device == like.device else found.to(like.device)


def _of_array(value):
    """An array of NumPy as a tensor where torch has its type and nothing of it is masked, else as it is."""
    if not isinstance(value, np.ndarray) or np.ma.is_masked(value):
        return value
    try:  # a copy has torch's order of bytes, no negative strides, and may be written to
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    except TypeError:
        return value


def _what(value):
    """A value of a wrong kind in words."""
    name = type(value).__name__
    if isinstance(value, np.ndarray | Tensor):
        name = f"sparse {name}" if isinstance(value, Tensor) and value.layout is not torch.strided else name
        return f"{name} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"{name} with {', '.join(map(repr, value)) or 'nothing'}"
    return f"{name} of {len(value)}" if isinstance(value, tuple | list) else name


def evaluate(denoise: Denoise, x: Tensor, sigma: Tensor, dtype: torch.dtype, to: torch.dtype | None = None) -> Tensor:
    """``denoise(x, sigma)`` with nothing shared between the caller and the network.

    A network may work in place, and return the same buffer at each call, as compiled graphs do.

    Args:
        denoise, x, sigma: as of :func:`dode.sample`.
        dtype: in which the network is called.
        to: of the result; by default the network's own.

    Raises:
        ValueError: for a result that is no tensor of x's shape.
    """
    output = tensor(denoise(x.to(dtype, copy=True), sigma.clone()), x)
    if output.shape != x.shape:
        raise ValueError(f"denoise returned shape {tuple(output.shape)} for states of shape {tuple(x.shape)}")
    return output.to(to or output.dtype, copy=True)


def finite(output: Tensor) -> bool:
    """Whether a tensor (B, ...) has neither NaN nor infinity, in one pass over memory where it has not."""
    # A sum of finite numbers as large as the largest may overflow.
    return math.isfinite(float(output.sum(dtype=torch.float64))) or bool(output.isfinite().all())


def breakdown(output: Tensor, x: Tensor, where: str, dtypes: Iterable[Any] = ()) -> NonFiniteError:
    """The error for a network's output that is not :func:`finite`.

    Args:
        output: (B, ...).
        x: what the network was given, which tells whether it was the first to break down.
        where: the evaluation in words.
        dtypes: types that the network computes in; of half precision it is said what helps.
    """
    broken = ~output.isfinite().flatten(1).all(dim=1)
    count = f"NaN or infinity for {int(broken.sum())} of {len(output)} images at {where}"
    if not finite(x):
        return NonFiniteError(f"the network was given {count}: the solver's own state had broken down before")
    return NonFiniteError(
        "; ".join([f"the network returned {count}", *[HELP[each] for each in dtypes if each in HELP][:1]])
    )


def dtypes(denoise: Any) -> list[torch.dtype]:
    """The types that a denoiser's network says it computes in."""
    network = getattr(getattr(denoise, "model", denoise), "network", denoise)
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else ()
    own = [getattr(network, "dtype", None), *(parameter.dtype for parameter in parameters)]
    return sorted({dtype for dtype in own if dtype in HELP}, key=str)
