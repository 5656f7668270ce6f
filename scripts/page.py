"""The page, one self-contained file."""

from dode import storage
from dode.benchmark import scripting
from dode.report.page import page


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    halves = dict(zip(params.halves_of, inputs.halves, strict=True))
    provenance = storage.read_json(inputs.provenance)
    found = page.data(params.cells, params.datasets, inputs.cells, halves, provenance, inputs.precisions)
    thumbnails = {name: own for path in inputs.thumbnails for name, own in storage.read_json(path).items()}
    page.write(snakemake.output[0], found, thumbnails, params.config)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
