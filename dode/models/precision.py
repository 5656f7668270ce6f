"""The types that networks compute in: by the key ``precision`` of their cards, or in another way that is measured."""

import copy
import dataclasses
import importlib.util
import shutil
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Autocast(nn.Module):
    """A network whose products and convolutions are computed in a lower precision, while its weights keep theirs.

    For networks that have no method ``lower``, which puts the weights themselves into the lower precision.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network, dtype

    @property
    def bottleneck(self) -> nn.Module | None:
        """That of the network (:mod:`dode.solvers.bottleneck`)."""
        return getattr(self.network, "bottleneck", None)

    def forward(self, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """As the network; the output has x's dtype."""
        with torch.autocast(x.device.type, dtype=self.dtype):
            return self.network(x, *arguments, **options).to(x.dtype)


def raised(network: nn.Module) -> nn.Module:
    """A copy of a network, whatever :func:`lowered` or torch's compiler made of it, that computes in float32."""
    own: Any = getattr(network, "_orig_mod", network)
    own = copy.deepcopy(own.network if isinstance(own, Autocast) else own)
    lower = getattr(own, "lower", None)
    return own if lower is None else lower(torch.float32)


def lowered(network: nn.Module, dtype: str) -> nn.Module:
    """The network computing in ``dtype``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.

    By its own method ``lower``, which lowers what its authors lowered, or by torch's autocast.
    """
    if dtype == "float32":
        return network
    own = getattr(network, "lower", None)
    return Autocast(network, getattr(torch, dtype)) if own is None else own(getattr(torch, dtype))


def allow_tf32(allowed: bool) -> None:
    """Whether this process may round float32 products to TensorFloat-32 (10 bits of mantissa) on GPUs that have it.

    torch itself allows it for convolutions and not for matrix products; here one setting says it for both.
    """
    precision = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]


DIGITS = {"float32": 23, "tf32": 10, "float16": 10, "bfloat16": 7}


@dataclasses.dataclass(frozen=True)
class Way:
    """How a network computes.

    Attributes:
        dtype: of its products and convolutions, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        tf32: whether float32 products may be rounded (:func:`allow_tf32`).
        channels_last, compile: as of :func:`dode.models.loading.with_weights`.
    """

    dtype: str = "float32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "Way":
        """What a card says."""
        own = card.get("precision", {})
        return cls(own.get("dtype", "float32"), own.get("tf32", False))

    @property
    def kind(self) -> str:
        """The type of its products, a key of :data:`DIGITS`."""
        return "tf32" if self.tf32 and self.dtype == "float32" else self.dtype

    @property
    def digits(self) -> int:
        """Binary digits that a product is rounded to, without the first."""
        return DIGITS[self.kind]

    @property
    def name(self) -> str:
        """Such as ``"tf32"`` or ``"bfloat16, channels last, compiled"``."""
        return ", ".join([self.kind, *["channels last"] * self.channels_last, *["compiled"] * self.compile])


def cheaper(way: Way, device: torch.device) -> list[Way]:
    """The types below that of ``way``, and its own, in both layouts, as far as the device has them; ``way`` itself left
    out, nothing compiled.

    A half precision has none below it. A CPU has no TF32, and its float16 is no faster than float32.
    """
    kinds = {(way.dtype, way.tf32)}
    if way.dtype == "float32":
        if device.type != "cuda":
            kinds.add(("bfloat16", False))
        else:
            kinds.add(("float16", False))
            if torch.cuda.is_bf16_supported(including_emulation=False):
                kinds |= {("bfloat16", False), ("float32", True)}  # the same generation brought both
    found = [Way(dtype, tf32, layout) for dtype, tf32 in sorted(kinds) for layout in (False, True)]
    return [each for each in found if each != way]


def compiler_fault(device: torch.device) -> str | None:
    """Why torch cannot compile for a device here, in words; None where it can."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    compilers = ("cc", "gcc", "clang") if device.type == "cuda" else ("g++",)
    return None if any(map(shutil.which, compilers)) else f"there is no compiler ({' or '.join(compilers)})"
