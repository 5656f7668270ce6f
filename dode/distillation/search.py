"""The search for a grid: which levels of a fine grid a first-order solver should use.

After Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling" (arXiv 2405.11326, GITS):
all trajectories of a model have nearly the same shape, so the levels found on a few images suit the others.
"""

import numpy as np
import torch

from dode import calls, solvers
from dode.distillation.teacher import Alignment, trajectory, variable_of
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Grid, Levels, checked
from dode.models.denoiser import for_images
from dode.solvers.base import Denoise


def search(
    denoise: Denoise,
    latents: torch.Tensor,
    candidates: Levels,
    steps: int,
    *,
    teacher: str = "heun",
    coefficient: float = 1.0,
    batch_size: int | None = None,
) -> Grid:
    """The ``steps`` steps from the first to the last candidate level with the smallest accumulated cost.

    :func:`costs` says what a step from one candidate to another costs, :func:`path` which steps are the cheapest.

    Args:
        denoise: the model (:mod:`dode.models.denoiser`).
        latents: (B, C, H, W), unit normal; the search runs in their precision inside the network, float64 outside.
        candidates: noise levels, descending to 0 or above, e.g. ``dode.grids.karras(steps=60)``: 61 candidates.
        steps: number of steps, 1 to ``len(candidates) - 1``.
        teacher: name of the solver whose states at the candidates are the truth.
        coefficient: weight of all later steps' cost against an earlier one's.
        batch_size: images whose trajectories are held at once (default all): ``len(candidates)`` states of each.

    Returns:
        A :class:`dode.grids.tensor.Grid` of ``steps + 1`` candidates, the first and the last among them; a distillation
        refines it in the variable of ``candidates``.

    Raises:
        ValueError: for too many steps or a bad coefficient.

    >>> denoise = lambda x, sigma: x / (1 + sigma**2)                                # data: unit normal
    >>> latents = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    >>> search(denoise, latents, torch.tensor([10.0, 4.0, 2.0, 1.0, 0.0]), 2).tolist()
    [10.0, 1.0, 0.0]
    """
    levels = checked(candidates).numpy()
    chosen = path(costs(denoise, latents, levels, teacher=teacher, batch_size=batch_size), steps, coefficient)
    return Grid.of(levels[chosen], variable_of(candidates), None)


def costs(
    denoise: Denoise, latents: torch.Tensor, levels: Levels, *, teacher: str = "heun", batch_size: int | None = None
) -> np.ndarray:
    """The cost of one Euler step between any two levels, (n, n) float64; infinite where it does not go down.

    ``cost[i, j] = mean over images of |y_i + (sigma_j - sigma_i) (y_i - D(y_i; sigma_i)) / sigma_i - y_j|``, with the
    teacher's states ``y`` on the grid ``levels`` (n,) and the norm per element (root mean square over channels and
    pixels, in the units of the images). The teacher steps on all levels; n - 1 further evaluations give the slopes.
    """
    levels = [float(sigma) for sigma in levels]
    alignment = Alignment(
        solvers.create_teacher(teacher), torch.tensor(levels, dtype=torch.float64), tuple(levels[1:]), ()
    )
    total = np.zeros((len(levels), len(levels)))
    batch_size = batch_size or len(latents)
    for start, part in zip(range(0, len(latents), batch_size), latents.split(batch_size), strict=True):
        own = for_images(denoise, start, start + len(part))
        first = part.double() * ModelFacts.of(denoise).prior_std(alignment.sigmas[0])
        states = [first, *(state for _, state in trajectory(alignment, own, part))]
        for i, sigma in enumerate(levels[:-1]):
            denoised = calls.evaluate(own, states[i], alignment.sigmas[i], part.dtype, to=torch.float64)
            slope = (states[i] - denoised) / sigma
            for j in range(i + 1, len(levels)):
                miss = states[i] + (levels[j] - sigma) * slope - states[j]
                total[i, j] += float(miss.square().flatten(1).mean(dim=1).sqrt().sum())
    return np.where(np.triu(np.ones_like(total), 1) > 0, total / len(latents), np.inf)


def path(cost: np.ndarray, steps: int, coefficient: float = 1.0) -> np.ndarray:
    """Indices of the cheapest path with exactly ``steps`` steps from the first to the last level, (steps + 1,) ints.

    The cost of a path i_0 < i_1 < ... < i_N is ``sum_k coefficient^k cost[i_k, i_(k+1)]``: by dynamic programming from
    the end, ``V_1(i) = cost[i, last]`` and ``V_n(i) = min_j cost[i, j] + coefficient V_(n-1)(j)``. A coefficient above
    1 makes the errors of early steps cheap, because the flow contracts them until the end (the authors' code has 1.15).
    Of two equally cheap steps the shorter one is taken.
    """
    last = len(cost) - 1
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= last:
        raise ValueError(f"steps must be an integer from 1 to {last} for {last + 1} candidates, not {steps!r}")
    if not 0 < coefficient < np.inf:
        raise ValueError(f"coefficient must be a finite number above 0, not {coefficient!r}")
    value, choices = cost[:, last], []
    for _ in range(steps - 1):
        through = cost + coefficient * value
        choices.append(through.argmin(axis=1))
        value = through.min(axis=1)
    indices = [0]
    for choice in reversed(choices):
        indices.append(int(choice[indices[-1]]))
    return np.array([*indices, last])
