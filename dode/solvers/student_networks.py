"""DDIM with a network in the model's place that was trained for its few steps."""

from pathlib import Path
from typing import Any

from dode.solvers.base import Denoise, Proposals, Tensor, solver
from dode.solvers.ddim import ddim

STUDENT: Any = {"order": 1, "teacher": "heun", "prepare": "student.safetensors", "network": "own"}


@solver("progressive-distillation", source="Salimans & Ho 2022, arXiv:2202.00512, Alg. 2", **STUDENT)
def progressive_distillation(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, prepared: str | Path | None = None
) -> Proposals:
    """DDIM whose network has learnt two steps in one, as often as it takes (Salimans & Ho 2022, arXiv 2202.00512)."""
    return ddim(denoise, x, sigmas)


@solver("sfd", source="Zhou et al. 2024, arXiv:2409.19681, Alg. 1", **STUDENT)
def sfd(denoise: Denoise, x: Tensor, sigmas: Tensor, *, prepared: str | Path | None = None) -> Proposals:
    """DDIM whose network has learnt to land on a finer trajectory (Zhou et al. 2024, arXiv 2409.19681)."""
    return ddim(denoise, x, sigmas)
