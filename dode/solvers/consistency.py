"""Multistep consistency sampling, of models that are consistency functions and of those that are made into one."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.further_noise import further_noise

SAMPLING: Any = {"order": 0, "teacher": "heun", "stochastic": True, "network": "consistency"}


@solver("consistency", source="Song et al. 2023, arXiv:2303.01469, Alg. 1", **SAMPLING)
def consistency(denoise: Denoise, x: Tensor, sigmas: Tensor, *, sigma_min: float | None = None) -> Proposals:
    """``x' = f(x; sigma) + sqrt(sigma'^2 - sigma_min^2) z`` (Song et al. 2023, arXiv 2303.01469, Alg. 1).

    f, the model, is a consistency function (``preconditioning: {name: consistency}`` in its card): it gives the end of
    the trajectory through x, whose noise level is ``sigma_min``: by default the model's lowest, or where that is not
    known the last of ``sigmas``. z is unit normal and follows from the image's start noise
    (:func:`dode.solvers.further_noise.further_noise`). No noise is added in the last step, wherever it ends. One
    evaluation per interval; it follows no trajectory of the differential equation.
    """
    noise, steps, lowest = further_noise(x), len(sigmas) - 1, sigmas[-1] if sigma_min is None else sigma_min
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, sigma)
        added = (sigma_next**2 - lowest**2).clamp(min=0).sqrt()
        x = denoised if added == 0 or step == steps - 1 else denoised + added * noise(step)
        x = yield Proposal(x, sigma_next, denoised)


@solver(
    "consistency-distillation",
    prepare="student.safetensors",
    source="Song et al. 2023, arXiv:2303.01469, Alg. 2",
    **SAMPLING,
)
def consistency_distillation(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, prepared: str | Path | None = None, sigma_min: float | None = None
) -> Proposals:
    """:func:`consistency` with a network that consistency distillation has made of the model's."""
    return consistency(denoise, x, sigmas, sigma_min=sigma_min)


@solver(
    "ect",
    prepare="student.safetensors",
    source="Geng et al. 2024, arXiv:2406.14548, Sec. 3",
    **SAMPLING,
)
def ect(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, prepared: str | Path | None = None, sigma_min: float | None = None
) -> Proposals:
    """:func:`consistency` with a network that easy consistency tuning has made of the model's."""
    return consistency(denoise, x, sigmas, sigma_min=sigma_min)
