"""Greedy and refined fits of cells, which follow a teacher's states from one evaluation to the next."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dode.benchmark import pairing
from dode.benchmark.fit_jobs import FittingSet
from dode.distillation import fitted, greedy
from dode.distillation.task import Checkpoint


def fit(
    own: FittingSet, states: Iterator[tuple[float, torch.Tensor]], chosen: Mapping[str, Any], checkpoint: Checkpoint
) -> fitted.Fit:
    """A cell's fit; arguments as of :func:`dode.benchmark.joint_fits.fit`.

    ``states`` are the teacher's, and none where it begins at the student's. A fit takes seconds, so that one that was
    interrupted begins anew.
    """
    del checkpoint
    how = {key: value for key, value in chosen.items() if key not in ("fit", "iterations")}
    to = (own.denoise, own.latents, own.job.sigmas, pairing.of(own), states)
    return greedy.fit_to(own.job.solver, *to, **how, refine=chosen.get("iterations", 0))
