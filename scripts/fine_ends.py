"""End states of a dataset's fine solution on a fitting set, at which joint fits aim."""

from dode import sampling
from dode.benchmark import execution, fit_jobs, jobs, scripting, software


def main(snakemake):
    params = snakemake.params
    cell = jobs.of_cell(params.cell, snakemake.input.model, execution.of_job(snakemake), snakemake.input)
    own = fit_jobs.FittingSet(cell, params.teacher)
    ends = cell.images(sampling.sample(cell.solver, own.denoise, own.latents, cell.sigmas))
    made = {**software.environment(cell.device), "code": params.code}
    fit_jobs.write_states(snakemake.output[0], [(float(cell.sigmas[-1]), ends)], made)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
