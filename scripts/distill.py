"""Fit a cell's solver to its teacher's states, or to the end states of the fine solution."""

from dode.benchmark import execution, fit_jobs, jobs, learning_jobs, scripting, software
from dode.distillation import fit_checks, fitting, greedy


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    cell = jobs.of_cell(params.cell, inputs.model, execution.of_job(snakemake), inputs)
    own, followed = fit_jobs.FittingSet(cell, params.teacher), inputs.get("teacher") or inputs.get("ends")
    made = {"cell": cell.made, "distill": {**params.teacher, **params.fit}, "code": {"distill": params.code}}
    if followed:
        made["teacher"] = fit_jobs.read_made(followed)
        made["code"]["teacher"] = made["teacher"].pop("code")
    states = fit_jobs.read_states(followed, cell.device) if followed else iter(())
    how = dict(params.fit)
    name = how.pop("fit")
    with learning_jobs.checkpoint(snakemake.output[0], made) as checkpoint:
        if name not in fit_checks.FITS:
            fit = learning_jobs.fit(name, own, list(states), how["options"], checkpoint)
        elif name == "joint":
            _, ends = next(states)
            to = (own.denoise, own.latents, cell.sigmas, ends)
            fit = fitting.fit_jointly(cell.solver, *to, **how, clip=cell.clip, checkpoint=checkpoint)
        else:
            how["refine"] = how.pop("iterations", 0)
            fit = greedy.fit_to(cell.solver, own.denoise, own.latents, cell.sigmas, own.pairing(), states, **how)
        fit_jobs.write_fit(snakemake.output[0], fit, {**made, **software.environment(cell.device)})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
