"""Teacher trajectory of a cell's fitting set: its states at the noise levels that the student is held against."""

from dode.benchmark import execution, fit_jobs, jobs, pairing, scripting, software
from dode.distillation import teacher


def main(snakemake):
    params = snakemake.params
    cell = jobs.of_cell(params.cell, snakemake.input.model, execution.of_job(snakemake), snakemake.input)
    fitting_set = fit_jobs.FittingSet(cell, params.teacher)
    states = teacher.trajectory(pairing.of(fitting_set), fitting_set.followed, fitting_set.latents)
    made = {**software.environment(cell.device), "code": params.code}
    fit_jobs.write_states(snakemake.output[0], states, made)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
