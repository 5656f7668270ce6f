"""The exact toy: a Gaussian mixture with a denoiser in closed form, on which every solver's error can be measured.

Five equal components in 16 dimensions (images (1, 4, 4)), means ``RandomState(0).randn(5, 16) * 0.8``, standard
deviation 0.25. ``D(x; sigma) = M + (s^2 / v) (x - M)``, ``v = s^2 + sigma^2``, ``M`` the posterior mean of the means.
"""

import functools

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dode.models.levels import level_of

SPREAD = 0.25
MEANS = torch.from_numpy(np.random.RandomState(0).randn(5, 16) * 0.8)
_HALF_SQUARES = MEANS.square().sum(1) / 2


def posterior_mean(x: Tensor, sigma: float | Tensor) -> Tensor:
    """M of the module's docstring for flat states (B, 16) at one noise level, or at one each, (B, 1)."""
    variance = SPREAD**2 + sigma**2
    # -|x - m|^2 / 2 without |x|^2, which all means have.
    weights = torch.softmax((x @ MEANS.T - _HALF_SQUARES) / variance, dim=1)
    return weights @ MEANS


def denoise(x: Tensor, sigma: float | Tensor) -> Tensor:
    """The exact denoiser, x (B, 1, 4, 4), sigma 0-d or (B, 1, 1, 1); gradients flow to both."""
    flat = x.double().flatten(1)
    level = level_of(sigma, x)
    level = level.reshape(-1, 1) if isinstance(level, Tensor) else level
    mean = posterior_mean(flat, level)
    shrink = SPREAD**2 / (SPREAD**2 + level**2)
    return (mean + shrink * (flat - mean)).view(x.shape).to(x.dtype)


def latents(count: int, seed: int) -> Tensor:
    """Unit normal, (count, 1, 4, 4) float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 1, 4, 4)))


@functools.lru_cache(maxsize=16)
def _exact(count, seed, sigma_max, scale):
    start = latents(count, seed).flatten(1).numpy() * scale

    def slope(sigma, flat):
        x = torch.from_numpy(flat).view(-1, 16)
        return (sigma * (x - posterior_mean(x, sigma)) / (SPREAD**2 + sigma**2)).flatten().numpy()

    solution = solve_ivp(slope, (sigma_max, 0.0), start.ravel(), method="DOP853", rtol=1e-10, atol=1e-10)
    return torch.from_numpy(solution.y[:, -1]).view(-1, 1, 4, 4)


def exact(count: int, seed: int, sigma_max: float = 80.0, scale: float | None = None) -> Tensor:
    """End states of the ODE from ``scale * latents(count, seed)`` at ``sigma_max`` (scale: sigma_max by default)."""
    return _exact(count, seed, sigma_max, sigma_max if scale is None else scale)


def rmse(x: Tensor, reference: Tensor) -> float:
    """Root-mean-square error per element."""
    return float((x - reference).square().mean().sqrt())
