"""Jobs of cells whose solver has a network of its own, which was trained in the place of the model's."""

from typing import Any

from dode import solvers
from dode.benchmark.jobs import CellJob
from dode.models import loading


class StudentJob(CellJob):
    """A cell of a student network; before that is there, of the model that it is made of.

    Arguments as of :class:`dode.benchmark.jobs.CellJob`.
    """

    def load(self, checkpoint: str, **how: Any) -> Any:
        """The student, which is not guided: it has learnt what guidance does."""
        weights = self.inputs.get("prepared_solver")
        if weights is None:
            return super().load(checkpoint, **how)
        own = self.trajectory
        denoise = loading.load(loading.retrained(own.model), weights, **how)
        kind = solvers.create(own.solver, **own.options).method.network
        return denoise.as_consistency_function() if kind == "consistency" else denoise
