"""dode: few-step diffusion sampling with distilled ODE solvers (Kim, Tang & Yu, CVPR 2024, arXiv 2309.16421).

>>> import torch, dode
>>> solver = dode.solvers.create("heun")
>>> sigmas = dode.grids.karras(steps=10, sigma_min=0.002, sigma_max=80.0, rho=7.0)
>>> denoise = lambda x, sigma: x / (1 + sigma**2)                # your model: (B, C, H, W), 0-d sigma -> clean estimate
>>> latents = torch.randn(100, 3, 4, 4, generator=torch.Generator().manual_seed(0))
>>> fit = dode.distill(solver, denoise, latents, sigmas, budget=50_000)
>>> dode.sample(solver, denoise, latents[:8], sigmas, lambdas=fit).shape
torch.Size([8, 3, 4, 4])

Names are imported on first use, so that the workflow can read its configuration without torch.
"""

from typing import Any

from dode import registry

_WHERE = {
    "sample": "dode.sampling",
    "distill": "dode.distillation.fitting",
    "distill_pipeline": "dode.pipelines.fit",
    "load": "dode.portable",
    **{name: f"=dode.{name}" for name in ("directions", "grids", "models", "solvers")},
    "data": "=dode.images.data",
    **{name: f"=dode.distillation.{name}" for name in ("released", "search", "teacher")},
}
__all__ = ["__version__", *_WHERE]

_getattr = registry.attributes(__name__, _WHERE)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _getattr(name)
    # Not a constant here: this file is part of every digest of code.
    import importlib.metadata

    return importlib.metadata.version("dode")
