"""Preparations of cells: the task, and the prepared file."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save_file

from dode import solvers, storage
from dode.benchmark import fit_jobs
from dode.benchmark.jobs import CellJob
from dode.benchmark.prepared import METADATA
from dode.distillation import learned
from dode.distillation.task import Checkpoint, Meter, Task


def prepare(job: CellJob, ends: str | None, own: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors that a cell's solver needs, by name; ``ends`` is the file of the end states to follow."""
    trajectory = job.trajectory
    chosen: Any = trajectory.prepare
    seed = chosen.get("seed", trajectory.seed)
    where: dict[str, Any] = {"indices": range(chosen["images"]), "stream": "fit", "seed": seed}
    task = Task(
        solver=solvers.create(trajectory.solver, **trajectory.options),
        denoise=job.denoise_for(**where),
        latents=job.latents(**where),
        sigmas=job.sigmas,
        ends=None if ends is None else next(fit_jobs.read_states(ends, job.device))[1],
        clip=job.clip,
        seed=seed,
        checkpoint=own,
    )
    return learned.preparations.get(trajectory.solver)(task, **chosen["options"])


def write_prepared(path: str, tensors: Mapping[str, torch.Tensor], meter: Meter, made: Mapping[str, Any]) -> None:
    """Write tensors as safetensors, with what they cost and what they were made from in the header."""
    said = {"cost": dataclasses.asdict(meter), "made": made, "numbers": sum(each.numel() for each in tensors.values())}
    with storage.atomic(path) as temporary:
        save_file(
            {name: each.detach().cpu().contiguous() for name, each in tensors.items()},
            temporary,
            metadata={METADATA: json.dumps(said)},  # one entry: several come in an order that changes
        )
