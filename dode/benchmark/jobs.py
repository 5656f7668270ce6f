"""What the scripts do with a cell: its model, its grid, its noise. One place for what they share."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dode import grids, solvers, storage
from dode.benchmark import devices
from dode.benchmark.parameters import GUIDING, PIPELINES, RECIPES, STUDENTS, Trajectory, resolved
from dode.directions import Directions
from dode.distillation.fit_checks import moves_levels
from dode.grids.tensor import Levels
from dode.images import noise, pixels
from dode.models import loading, precision
from dode.models.conditions import Conditions
from dode.sampling import Student
from dode.solvers.base import Denoise
from dode.solvers.non_stationary import NonStationary


class CellJob:
    """A cell's solver on its grid and model, as a job has them.

    :attr:`made` has its parameters as they are written with what it makes.

    The solver and the grid are made when first asked for, so that the rule that prepares them has such a job too.

    Args:
        trajectory: what decides the cell's trajectory.
        checkpoint: path of its model's weights.
        execution: the settings ``execution`` for its dataset.
        inputs: the files of :meth:`dode.benchmark.files.Files.prepared` by name (a rule's ``snakemake.input``).

    Raises:
        ValueError: where its precision was chosen on another machine, and this one cannot do it.
    """

    kind: Any = np.uint8
    clip = True  # what of an end state is seen in an image, which a fit may aim at alone

    def __init__(
        self,
        trajectory: Trajectory,
        checkpoint: str,
        execution: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
    ):
        self.inputs = {} if inputs is None else inputs
        self.device = devices.device(execution["device"])
        how = {key: execution.get(key, False) for key in ("channels_last", "compile")}
        self.trajectory, self.made = trajectory, trajectory.params()
        if trajectory.precision is not None:  # what was measured goes before what the card says
            self.made = resolved(trajectory.params(), self.inputs.get("precision"))
            way = precision.Way(**self.made["precision"])
            how = {key: getattr(way, key) for key in how}
            if way.compile and (fault := precision.compiler_fault(self.device)):
                raise ValueError(
                    f"the network was measured to run compiled, but {fault} on this machine; install it, or delete "
                    f"{self.inputs.get('precision')} to measure here and make the results again"
                )
            lowered = {"dtype": way.dtype, "tf32": way.tf32}
            self.trajectory = dataclasses.replace(trajectory, model={**trajectory.model, "precision": lowered})
        precision.allow_tf32(self.trajectory.model.get("precision", {}).get("tf32", False))
        self.denoise = self.load(checkpoint, device=self.device, batch_size=execution["batch_size"], **how)
        self.followed = self.denoise  # what the teacher calls

    def load(self, checkpoint: str, **how: Any) -> Any:
        """The denoiser, guided, of the file of weights; ``how`` as of :func:`dode.models.loading.load`."""
        own = self.trajectory
        others: Any = {key: self.inputs.get(key) for key in GUIDING}
        return loading.load(own.model, checkpoint, guidance=own.guidance, **others, **how)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the states of an image, (C, H, W)."""
        return tuple(self.trajectory.model["image_shape"])

    def kept(self, x: torch.Tensor) -> np.ndarray:
        """What is kept of the images that end states are, of the type :attr:`kind`."""
        return pixels.to_bytes(x)

    def _prepared(self, name: str) -> dict[str, str]:
        path = self.inputs.get(name)
        return {} if path is None else {"prepared": path}

    @property
    def steps(self) -> int:
        """Number of grid intervals."""
        own = self.trajectory
        return grids.intervals(solvers.create(own.solver, **own.options), own.nfe, own.grid["options"])

    @functools.cached_property
    def solver(self) -> solvers.Solver:
        """The cell's solver."""
        own = self.trajectory
        made = solvers.create(own.solver, **own.options, **self._prepared("prepared_solver"))
        return grids.placed(made, own.grid["options"])

    @functools.cached_property
    def sigmas(self) -> torch.Tensor:
        """The cell's grid."""
        grid = self.trajectory.grid
        options = {**grid["options"], **self._prepared("prepared_grid")}
        return grids.for_model(self.denoise, grid["name"], self.steps, **options)

    def images(self, x: torch.Tensor) -> torch.Tensor:
        """The images that end states are."""
        return x

    def passes(self, student: Student) -> int:
        """How often a network runs on an image as a student samples it; guidance may be within an interval alone."""
        if student.solver.per_image:  # of which nobody knows how many are within an interval of guidance
            _, within = getattr(self.denoise, "interval", None) or (0.0, 1.0)
            return student.nfe * self.denoise.passes(within)
        levels = student.evaluated_levels() if student.told is None else np.asarray(student.told).tolist()
        return sum(self.denoise.passes(sigma) for sigma in levels)

    def latents(self, indices: Sequence[int], **where: Any) -> torch.Tensor:
        """The noise of images (:func:`dode.images.noise.latents`) on the job's device."""
        return noise.latents(indices, self.shape, **{"seed": self.trajectory.seed, **where}).to(self.device)

    def denoise_for(self, indices: Sequence[int], *, of_teacher: bool = False, **where: Any) -> Denoise:
        """The denoiser bound to what images are conditioned on (:meth:`conditions`); the plain one without.

        ``of_teacher``: the one that the teacher calls, which is another in some of the authors' recipes.
        """
        denoise, conditions = self.followed if of_teacher else self.denoise, self.conditions(indices, **where)
        return denoise if conditions is None else denoise.conditioned(conditions)

    def conditions(self, indices: Sequence[int], **where: Any) -> torch.Tensor | Conditions | None:
        """The classes of images (:func:`dode.images.noise.labels`), None without; those of fitting set and samples
        are drawn in the same manner."""
        own = self.trajectory
        if "classes" not in own.model:
            return None
        drawn = {"draw": own.labels, "seed": own.seed, **where}
        return noise.labels(indices, own.model["classes"], **drawn)


def of_cell(trajectory: Mapping[str, Any], *others: Any) -> CellJob:
    """The :class:`CellJob` of a cell, of the kind that its grid, its model or its solver asks for.

    Arguments as of that, the first as ``params`` have it.
    """
    own = Trajectory(**trajectory)
    if grids.grids.get(own.grid["name"]).recipe:
        return importlib.import_module(RECIPES).RecipeJob(own, *others)
    if "pipeline" in own.model:
        return importlib.import_module(PIPELINES).PipelineJob(own, *others)
    if solvers.create(own.solver, **own.options).method.network:
        return importlib.import_module(STUDENTS).StudentJob(own, *others)
    return CellJob(own, *others)


def read_student(job: CellJob, path: str | None) -> Student:
    """What a cell samples with: its own solver on its grid, or what was fitted (:func:`fit_jobs.write_fit`).

    Raises:
        ValueError: where that makes another number of evaluations than the cell is of.
    """
    own = Student(job.solver, job.sigmas)
    found = own if path is None else fitted(own.solver, own.sigmas, storage.read_json(path))
    if found.nfe != job.trajectory.nfe:
        made = "the cell's solver" if path is None else f"the solver of {path}"
        raise ValueError(f"{made} makes {found.nfe} evaluations, but the cell is of NFE {job.trajectory.nfe}")
    return found


def fitted(solver: solvers.Solver, sigmas: Levels, values: Mapping[str, Any]) -> Student:
    """The student of a fit's file, whose cell has this solver and these levels.

    The levels of a fit that moved none are taken from the cell, whose recipe may not be a registered grid.
    """
    if values["coefficients"] is not None:
        return Student(NonStationary(values["coefficients"]), values["levels"], told=values["told"])
    moved = moves_levels(values["family"])
    lambdas = values["lambdas"]
    return Student(
        solver,
        torch.tensor(values["levels"], dtype=torch.float64) if moved else sigmas,
        None if lambdas is None else torch.tensor(lambdas, dtype=torch.float64),
        None if lambdas is None else Directions(**values["directions"]),
        values["told"],
    )
