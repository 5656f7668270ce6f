"""The scores and fits of many cells in one file."""

from dode import storage
from dode.benchmark import scripting
from dode.benchmark.prepared import read_header


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    fits = {name: storage.read_json(path) for name, path in zip(params.fitted, inputs.fits, strict=True)}
    scores = {name: storage.read_json(path) for name, path in zip(params.cells, inputs.scores, strict=True)}
    headers = {name: read_header(path) for name, path in zip(params.prepared, inputs.prepared, strict=True)}
    storage.write_json(snakemake.output[0], {"scores": scores, "fits": fits, "prepared": headers})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
