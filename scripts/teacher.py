"""Teacher trajectory of a cell's fitting set: its states at the noise levels that the student is held against."""

from dode.benchmark import scripting, software
from dode.benchmark.jobs import run_of, write_states
from dode.distillation import teacher


def main(snakemake):
    params = snakemake.params
    run = run_of(params.run, snakemake.input.model, scripting.execution(snakemake), snakemake.input)
    states = teacher.trajectory(run.pairing(), run.fit_denoise(), run.fit_latents())
    write_states(snakemake.output[0], states, software.environment(run.device))


if __name__ == "__main__":
    scripting.run(main, snakemake)
