"""Jobs of cells on the grid ``released``: the authors' recipe for their solver (:mod:`dode.distillation.released`)."""

from typing import Any

import torch

from dode import solvers
from dode.benchmark.jobs import CellJob
from dode.distillation import fit_checks, released
from dode.distillation.teacher import Alignment


class RecipeJob(CellJob):
    """A cell on the grid ``released``; arguments as of :class:`dode.benchmark.jobs.CellJob`."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.recipe, plain = self._recipe(1), self.denoise
        self.denoise, self.followed = self.recipe.bound(plain), self.recipe.bound_for_teacher(plain)

    def _recipe(self, scale: int) -> released.Recipe:
        own, facts = self.trajectory, self.denoise.facts
        order = fit_checks.recipe_order(facts.prediction, own.solver, own.options)
        return released.recipe(own.solver, order, facts, self.steps, scale)

    @property
    def solver(self) -> solvers.Solver:  # type: ignore[override]
        """The recipe's solver."""
        return self.recipe.student

    @property
    def sigmas(self) -> torch.Tensor:  # type: ignore[override]
        """The recipe's grid."""
        return self.recipe.sigmas

    def pairing(self, substeps: int) -> Alignment:
        """The recipe's pairing with a teacher of so many steps per evaluation."""
        return self._recipe(substeps).pairing

    def images(self, x: torch.Tensor) -> torch.Tensor:
        """The images that end states are: the recipe takes them in the model's own coordinates."""
        return x * self.recipe.to_images
