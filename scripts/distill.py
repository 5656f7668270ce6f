"""Fit a cell's coefficients to its teacher's states."""

from dode.benchmark import execution, fit_jobs, jobs, scripting, software
from dode.distillation import fitting


def main(snakemake):
    params = snakemake.params
    cell = jobs.of_cell(params.cell, snakemake.input.model, execution.of_job(snakemake), snakemake.input)
    own, trajectory = fit_jobs.FittingSet(cell, params.teacher), snakemake.input.get("teacher")
    states = fit_jobs.read_states(trajectory, cell.device) if trajectory else ()
    fit = fitting.fit_to(cell.solver, own.denoise, own.latents, cell.sigmas, own.pairing(), states, **params.fit)
    made = {"cell": params.cell, "distill": {**params.teacher, **params.fit}, "code": {"distill": params.code}}
    if trajectory:
        made["teacher"] = fit_jobs.read_made(trajectory)
        made["code"]["teacher"] = made["teacher"].pop("code")
    fit_jobs.write_fit(snakemake.output[0], fit, {**made, **software.environment(cell.device)})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
