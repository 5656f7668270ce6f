"""The fine solution that few-step solvers are fitted to, where nothing else is given."""

from typing import Any

import numpy as np
import torch

from dode import grids, sampling, solvers
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Levels, checked
from dode.solvers.base import Denoise
from dode.solvers.formulas import PURE_NOISE

DETAILS = 0.002  # EDM's lowest level: what a model that states none is taken to know
STEPS = 40  # by Heun's method: 79 evaluations
BEGIN = 1000.0  # where it begins below pure noise, if the model does not say its own highest level


def fine_ends(denoise: Denoise, latents: torch.Tensor, sigmas: Levels) -> torch.Tensor:
    """The end states of the fine solution from the first of ``sigmas`` to the last: Heun's method on EDM's levels.

    That is 79 evaluations to 0, and 78 where the last level is above 0. From pure noise a first step of two more goes
    to the model's highest other level, for EDM's levels are dense below and not from infinity on.
    """
    facts, levels = ModelFacts.of(denoise), checked(sigmas)
    first, pure = float(levels[0]), bool(levels[0] >= PURE_NOISE)
    if pure:
        first = facts.sigma_max or BEGIN
    lowest, above = float(levels[levels > 0][-1]), bool(levels[-1] > 0)
    if not above:
        # A grid of few levels ends with a long step to 0, which the fine solution must not make.
        lowest = min(lowest, DETAILS) if facts.sigma_min is None else facts.sigma_min
    fine: Any = grids.grids.create("karras", steps=STEPS, sigma_max=first, sigma_min=lowest)
    if above:
        fine = np.asarray(fine)[:-1]
    if pure:
        fine = np.append(float(levels[0]), np.asarray(fine))
    if facts.round_sigma is not None:
        fine = np.unique(facts.round_sigma(np.asarray(fine)))[::-1].copy()
    return sampling.sample(solvers.create("heun"), denoise, latents, fine)
