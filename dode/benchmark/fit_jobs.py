"""What the scripts of teacher and fit do besides: the fitting set, and the files of both."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dode import storage
from dode.benchmark.jobs import CellJob
from dode.benchmark.parameters import Teacher
from dode.directions import Directions
from dode.distillation import fitted
from dode.solvers.base import Denoise
from dode.solvers.non_stationary import NonStationary


class FittingSet:
    """The noise that a cell is fitted on.

    Args:
        job: of the cell.
        teacher: whom it follows, as ``params`` have it.
    """

    def __init__(self, job: CellJob, teacher: Mapping[str, Any]):
        self.job, self.teacher = job, Teacher(**teacher)
        self.seed = job.trajectory.seed if self.teacher.seed is None else self.teacher.seed
        self._where: dict[str, Any] = {"indices": range(self.teacher.images), "stream": "fit", "seed": self.seed}

    @property
    def denoise(self) -> Denoise:
        """The denoiser bound to the classes of the fitting set."""
        return self.job.denoise_for(**self._where)

    @property
    def followed(self) -> Denoise:
        """The same as the teacher calls it."""
        return self.job.denoise_for(**self._where, of_teacher=True)

    @property
    def latents(self) -> torch.Tensor:
        """The noise of the fitting set."""
        return self.job.latents(**self._where)


def write_states(path: str, states: Iterable[tuple[float, torch.Tensor]], made: Mapping[str, Any]) -> None:
    """Write ``(level, state)`` pairs as float32 safetensors, the levels and the dict ``made`` in the header."""
    levels: list[float] = []
    tensors: dict[str, torch.Tensor] = {}
    for level, state in states:
        tensors[str(len(levels))] = state.float().cpu().contiguous()
        levels.append(level)
    with storage.atomic(path) as temporary:
        # One entry: safetensors writes several in an order that changes from one process to the next.
        save_file(tensors, temporary, metadata={"states": json.dumps({"sigmas": levels, "made": made})})


def _header(file: Any) -> dict[str, Any]:
    return json.loads(file.metadata()["states"])


def read_made(path: str) -> dict[str, Any]:
    """The dict ``made`` that :func:`write_states` wrote."""
    with safe_open(path, framework="pt") as file:
        return _header(file)["made"]


def read_states(path: str, device: Any = "cpu") -> Iterator[tuple[float, torch.Tensor]]:
    """Generate the pairs that :func:`write_states` wrote; one state is in memory at a time."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        for index, level in enumerate(_header(file)["sigmas"]):
            yield level, file.get_tensor(str(index))


def _exact(values: Any) -> Any:
    """Numbers as a list of Python's own; torch would take a list of them for float32."""
    return torch.as_tensor(values, dtype=torch.float64).tolist()


def write_fit(path: str, fit: fitted.Fit, facts: Mapping[str, Any]) -> None:
    """A fit as JSON, with what is known of the cell; :func:`dode.benchmark.jobs.read_student` reads the student."""
    student = fit.student
    general = isinstance(student.solver, NonStationary)
    plain, directions = student.lambdas is None, cast(Directions, student.directions)
    values = {
        "family": fit.family,
        "lambdas": None if plain else _exact(student.lambdas),
        "directions": None if plain else directions.said(),
        "given": _exact(fit.given),
        "levels": _exact(student.sigmas),
        "told": None if student.told is None else _exact(student.told),
        "coefficients": student.solver.options["coefficients"] if general else None,
        "rungs": [{**vars(rung), "compared": rung.compared and rung.compared._asdict()} for rung in fit.rungs],
        "sigmas": fit.sigmas.tolist(),
        **({} if fit.cost is None else {"cost": vars(fit.cost)}),
        "rms_before": fit.rms_before.tolist(),
        "rms_after": fit.rms_after.tolist(),
        "refinement": None if fit.refinement is None else vars(fit.refinement),
    }
    storage.write_json(path, {**facts, **values})
