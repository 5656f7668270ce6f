"""The page, one self-contained file."""

from dode import scripting, storage
from dode.report import page


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    floors = dict(zip(params.floors_of, inputs.floors, strict=True))
    found = page.data(params.cells, params.datasets, inputs.cells, floors, storage.read_json(inputs.provenance))
    thumbnails = {name: own for path in inputs.thumbnails for name, own in storage.read_json(path).items()}
    page.write(snakemake.output[0], found, thumbnails, params.config)


if __name__ == "__main__":
    scripting.run(main, snakemake)
