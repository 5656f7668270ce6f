"""The scores and fits of many cells in one file."""

from dode import storage
from dode.benchmark import scripting


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    fits = {name: storage.read_json(path) for name, path in zip(params.distilled, inputs.fits, strict=True)}
    scores = {name: storage.read_json(path) for name, path in zip(params.cells, inputs.scores, strict=True)}
    storage.write_json(snakemake.output[0], {"scores": scores, "fits": fits})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
