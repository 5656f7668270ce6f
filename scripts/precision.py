"""Choose the precision of a part of a dataset's cells by measuring what it does to their scores."""

import dataclasses

from dode import storage
from dode.benchmark import execution, measuring, scripting, software


def main(snakemake):
    measured, output = snakemake.params.measured, snakemake.output
    job = measuring.Measuring(measured, dict(snakemake.input.items()), execution.of_job(snakemake))
    chosen, every = job.chosen()
    facts = {"measured": measured, "code": snakemake.params.code, **software.environment(job.device)}
    storage.write_json(output.table, {"ways": job.table(chosen, every), **facts})
    storage.write_json(output.choice, {kind: dataclasses.asdict(way) for kind, way in chosen.items()})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
