"""Joint fits of cells, which aim at the end states of the fine solution."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dode.benchmark.fit_jobs import FittingSet
from dode.distillation import fitted, joint
from dode.distillation.task import Checkpoint


def fit(
    own: FittingSet, states: Iterator[tuple[float, torch.Tensor]], chosen: Mapping[str, Any], checkpoint: Checkpoint
) -> fitted.Fit:
    """A cell's fit.

    Args:
        own: its fitting set.
        states: the end states.
        chosen: a :class:`dode.benchmark.parameters.Fit`, as ``params`` have it.
        checkpoint: where an interrupted fit goes on.
    """
    job, how = own.job, {key: value for key, value in chosen.items() if key != "fit"}
    _, ends = next(states)
    to = (own.denoise, own.latents, job.sigmas, ends)
    return joint.fit_jointly(job.solver, *to, **how, clip=job.clip, checkpoint=checkpoint)
