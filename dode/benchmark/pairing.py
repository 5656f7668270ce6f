"""A cell's pairing with its teacher, which jobs of teachers and of greedy and refined fits know alone."""

from typing import Any

from dode.benchmark.fit_jobs import FittingSet
from dode.distillation.teacher import Alignment, Local, align


def of(fitting_set: FittingSet) -> Alignment | Local:
    """The pairing of a cell with the states of its teacher."""
    job, own = fitting_set.job, fitting_set.teacher
    recipe = getattr(job, "pairing", None)  # of the authors, which has a teacher of its own
    if recipe is not None:
        return recipe(own.substeps)
    how: dict[str, Any] = {"substeps": own.substeps, "teacher": own.teacher}
    if own.alignment is not None:  # which a method of others has not
        how["alignment"] = own.alignment
    return align(job.solver, job.denoise, job.sigmas, **how)
