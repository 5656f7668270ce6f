"""Search a cell's grid among the levels of another one, on images of the fitting noise that no fit sees."""

from dode import grids, storage
from dode.benchmark import execution, jobs, scripting, software
from dode.distillation import search


def main(snakemake):
    options, settings = snakemake.params.search, execution.of_job(snakemake)
    cell = jobs.of_cell(snakemake.params.cell, snakemake.input.model, settings, snakemake.input)
    over = options["over"]
    own = {**over.get("options", {}), "end": options["end"]}
    candidates = grids.for_model(cell.denoise, over["name"], options["candidates"] - 1, **own)
    indices, where = range(options["images"]), {"stream": "fit", "block": 1}
    found = search.search(
        cell.denoise_for(indices, **where),
        cell.latents(indices, **where),
        candidates,
        cell.steps,
        teacher=options["teacher"],
        coefficient=options["coefficient"],
        batch_size=settings["batch_size"],
    )
    made = {"cell": cell.made, **software.environment(cell.device)}
    storage.write_json(snakemake.output[0], {"sigmas": found.tolist(), **made})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
