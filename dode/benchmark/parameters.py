"""The parameters that decide a cell's results, as they stand in ``params`` of its rules and in its files."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Card = dict[str, Any]
#: The module with the jobs of cells on the grid of a recipe of the authors, which is imported for them alone.
RECIPES = "dode.benchmark.recipe_jobs"
#: The module with the jobs of cells of a pipeline, likewise.
PIPELINES = "dode.benchmark.pipeline_jobs"
#: The module with the jobs of cells whose solver has a network of its own, likewise.
STUDENTS = "dode.benchmark.student_jobs"
#: The modules with the fits of each kind, of which a job imports its own, and the one with those of others' methods.
FIT_MODULES = {
    "joint": "dode.benchmark.joint_fits",
    **dict.fromkeys(("greedy", "refined"), "dode.benchmark.stepwise_fits"),
}
METHODS = "dode.benchmark.method_fits"


class Parameters:
    """What turns into a dictionary for ``params``: keys without a value are left out, so that a new one changes
    none."""

    def params(self) -> dict[str, Any]:
        """The values by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) is not None
        }


#: Keys of ``guidance`` that name the card of another network.
GUIDING = ("classifier", "guide")


@dataclasses.dataclass(frozen=True)
class Trajectory(Parameters):
    """What decides how a cell gets from noise to images.

    Attributes:
        model: the part of its model's card that decides what the network computes.
        solver, options, grid, nfe: as in the configuration.
        seed: of all noise.
        labels, guidance: how the classes of the images are drawn and how they guide; None for a model without classes.
            A network that guides is there with its card.
        prepare: how what the solver needs is prepared, with all options and of a pipeline the digest of its images'
            prompts; None for one that needs nothing.
        searched_on: of a searched grid of a pipeline, the digest of the prompts of the images that it is searched on.
        precision: which of the measured choices the network runs in (:mod:`dode.benchmark.precisions`), or that choice
            itself, in what is written; None where the card decides.
    """

    model: Card
    solver: str
    options: dict[str, Any]
    grid: dict[str, Any]
    nfe: int
    seed: int
    labels: Literal["uniform", "balanced"] | None = None
    guidance: dict[str, Any] | None = None
    prepare: dict[str, Any] | None = None
    searched_on: str | None = None
    precision: str | dict[str, Any] | None = None


def resolved(trajectory: Mapping[str, Any], choices: str | Path | None) -> dict[str, Any]:
    """The parameters of a :class:`Trajectory` with the precision itself in the place of its name.

    Args:
        trajectory: as ``params`` have it.
        choices: the file of choices by name, ``choice.json``; None where the card decides.
    """
    if not isinstance(trajectory.get("precision"), str):
        return dict(trajectory)
    assert choices is not None
    found = json.loads(Path(choices).read_text(encoding="utf-8"))
    return {**trajectory, "precision": found[trajectory["precision"]]}


@dataclasses.dataclass(frozen=True)
class Teacher(Parameters):
    """Whom a fitted cell follows, on which fitting set: keys ``distill`` of the configuration.

    A fit that follows the dataset's fine solution, such as a joint one, has ``images`` and ``seed`` alone, and of a
    pipeline ``prompts``, the digest of those of the fitting images.
    """

    images: int
    seed: int | None = None
    prompts: str | None = None
    alignment: Literal["aligned", "local", "released"] | None = None
    substeps: int | None = None
    teacher: str | None = None


@dataclasses.dataclass(frozen=True)
class Fit(Parameters):
    """What is fitted: keys ``distill`` of the configuration."""

    fit: str
    directions: int | dict[str, Any] | None = None
    stages: bool | None = None
    iterations: int | None = None
    family: str | None = None
    budget: int | None = None
    options: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Samples(Parameters):
    """Which images of a cell are made: ``images`` of each of ``seeds``; of how many the end state is kept.

    ``encoded`` is what those of a pipeline are conditioned on: digests of the prompts (``prompts``) and of the negative
    prompt, and how both are encoded.
    """

    images: int
    seeds: int
    trajectory_images: int
    encoded: dict[str, Any] | None = None
