"""Fit a cell's solver to its teacher's states, or to the end states of the fine solution."""

import importlib

from dode.benchmark import execution, fit_jobs, jobs, learning_jobs, scripting, software
from dode.benchmark.parameters import FIT_MODULES, METHODS


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    cell = jobs.of_cell(params.cell, inputs.model, execution.of_job(snakemake), inputs)
    own, followed = fit_jobs.FittingSet(cell, params.teacher), inputs.get("teacher") or inputs.get("ends")
    made = {"cell": cell.made, "distill": {**params.teacher, **params.fit}, "code": {"distill": params.code}}
    if followed:
        made["teacher"] = fit_jobs.read_made(followed)
        made["code"]["teacher"] = made["teacher"].pop("code")
    states = fit_jobs.read_states(followed, cell.device) if followed else iter(())
    kind = importlib.import_module(FIT_MODULES.get(params.fit["fit"], METHODS))
    with learning_jobs.checkpoint(snakemake.output[0], made) as checkpoint:
        fit = kind.fit(own, states, params.fit, checkpoint)
        fit_jobs.write_fit(snakemake.output[0], fit, {**made, **software.environment(cell.device)})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
