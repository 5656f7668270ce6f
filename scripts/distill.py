"""Fit a cell's coefficients to its teacher's states."""

from dode.benchmark import scripting, software
from dode.benchmark.jobs import read_made, read_states, run_of, write_fit
from dode.distillation import fitting


def main(snakemake):
    params = snakemake.params
    run = run_of(params.run, snakemake.input.model, scripting.execution(snakemake), snakemake.input)
    trajectory = snakemake.input.get("teacher")
    states = read_states(trajectory, run.device) if trajectory else ()
    fit = fitting.fit(
        run.solver, run.fit_denoise(), run.fit_latents(), run.sigmas, run.pairing(), states, **params.run["fit"]
    )
    made = {**software.environment(run.device), **({"teacher": read_made(trajectory)} if trajectory else {})}
    write_fit(snakemake.output[0], fit, {"run": params.run, **made})


if __name__ == "__main__":
    scripting.run(main, snakemake)
