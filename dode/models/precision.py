"""The types that networks compute in, by the key ``precision`` of their cards."""

import copy
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
