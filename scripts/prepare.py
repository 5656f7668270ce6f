"""Prepare what a cell's solver needs: statistics of the model, a small network, another network."""

from dode.benchmark import execution, fit_jobs, jobs, learning_jobs, preparing, scripting, software


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    cell = jobs.of_cell(params.cell, inputs.model, execution.of_job(snakemake), inputs)
    made = {"cell": cell.made, "code": {"prepare": params.code}}
    if inputs.get("ends"):
        made["ends"] = fit_jobs.read_made(inputs.ends)
    with learning_jobs.checkpoint(snakemake.output[0], made) as checkpoint:
        tensors = preparing.prepare(cell, inputs.get("ends"), checkpoint)
        facts = {**made, **software.environment(cell.device)}
        preparing.write_prepared(snakemake.output[0], tensors, checkpoint.meter, facts)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
