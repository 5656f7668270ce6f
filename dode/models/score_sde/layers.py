"""What the networks of score_sde_pytorch have in common, with the names of its checkpoints."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6  # of all group normalisations
UNUSED = "sigmas"  # a table of noise levels that the repository's own samplers read


class Numbered(nn.Module):
    """A network whose parts are ``all_modules.<n>``, in the order in which they are used."""

    def load_state_dict(self, state_dict: Mapping[str, Any], **options: Any) -> Any:  # type: ignore[override]
        """As torch's, without a checkpoint's ``sigmas``."""
        return super().load_state_dict({name: state_dict[name] for name in state_dict if name != UNUSED}, **options)


def sines(angles: Tensor) -> Tensor:
    """Sines, then cosines."""
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Nin(nn.Module):
    """``x W + b`` of each pixel: (B, pixels, n) to (B, pixels, m), or (B, n, H, W) to (B, m, H, W)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.W = nn.Parameter(torch.randn(inputs, outputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b if x.ndim == 3 else functional.conv2d(x, self.W.T[:, :, None, None], self.b)


class Attention(nn.Module):
    """``(x + P softmax(q^T k / sqrt(C)) v) s`` over all pixels, one head.

    Args:
        width: C.
        norm: before it.
        scale: s.
    """

    def __init__(self, width: int, norm: nn.GroupNorm, scale: float):
        super().__init__()
        self.GroupNorm_0, self.scale = norm, scale
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (Nin(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        q, k, v = (part(h).unsqueeze(1) for part in (self.NIN_0, self.NIN_1, self.NIN_2))
        h = self.NIN_3(functional.scaled_dot_product_attention(q, k, v).squeeze(1))
        return (x + h.transpose(1, 2).unflatten(2, x.shape[2:])) * self.scale


def after_middle_attention(modules: nn.ModuleList, before: int) -> nn.Module:
    """The module in the middle: it follows the attention there, which comes after those of the way down, ``before``."""
    attention = [place for place, part in enumerate(modules) if isinstance(part, Attention)]
    return modules[attention[before] + 1]
