"""Fit a cell's coefficients to its teacher's states."""

from dode import distillation, scripting
from dode.jobs import Run, read_states, write_fit


def main(snakemake):
    params = snakemake.params
    run = Run(params.run, snakemake.input.model, snakemake.config["execution"], snakemake.input)
    states = read_states(snakemake.input.teacher, run.device)
    fit = distillation.fit(
        run.solver, run.denoise, run.fit_latents(), run.sigmas, run.pairing(), states, **params.run["fit"]
    )
    write_fit(snakemake.output[0], fit, {"run": params.run})


if __name__ == "__main__":
    scripting.run(main, snakemake)
