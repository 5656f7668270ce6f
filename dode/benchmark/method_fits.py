"""Fits of cells by methods of others."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dode.benchmark.fit_jobs import FittingSet
from dode.distillation import by_method, fitted, learned
from dode.distillation.task import Checkpoint


def fit(
    own: FittingSet, states: Iterator[tuple[float, torch.Tensor]], chosen: Mapping[str, Any], checkpoint: Checkpoint
) -> fitted.Fit:
    """A cell's fit; arguments as of :func:`dode.benchmark.joint_fits.fit`.

    ``states`` are the end states or the teacher's, and none for a method that follows nothing.
    """
    job, name, found = own.job, chosen["fit"], list(states)
    ends = learned.fits.get(name).follows == "ends"
    followed = {"ends": found[0][1], "clip": job.clip} if ends else {"states": found}
    how: dict[str, Any] = {"options": chosen["options"], "checkpoint": checkpoint, "seed": own.seed, **followed}
    return by_method.fit_by_method(name, job.solver, own.denoise, own.latents, job.sigmas, **how)
