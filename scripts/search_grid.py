"""Search a cell's grid among the levels of another one, on images of the fitting noise that no fit sees."""

from dode import grids, storage
from dode.benchmark import scripting, software
from dode.benchmark.jobs import Run
from dode.distillation import search


def main(snakemake):
    options, execution = snakemake.params.search, scripting.execution(snakemake)
    run = Run(snakemake.params.run, snakemake.input.model, execution, snakemake.input)
    over = options["over"]
    candidates = grids.for_model(run.denoise, over["name"], options["candidates"] - 1, **over.get("options", {}))
    indices, where = range(options["images"]), {"stream": "fit", "block": 1}
    found = search.search(
        run.denoise_for(indices, **where),
        run.latents(indices, **where),
        candidates,
        run.steps,
        teacher=options["teacher"],
        coefficient=options["coefficient"],
        batch_size=execution["batch_size"],
    )
    made = {"run": run.run, **software.environment(run.device)}
    storage.write_json(snakemake.output[0], {"sigmas": found.tolist(), **made})


if __name__ == "__main__":
    scripting.run(main, snakemake)
