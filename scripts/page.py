"""The page, one self-contained file."""

from dode import scripting, storage
from dode.report import page


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    floors = dict(zip(params.floors_of, inputs.floors, strict=True))
    found = page.data(params.cells, params.datasets, inputs.cells, floors, params.config["benchmark"])
    pictures = {name: own for path in inputs.pictures for name, own in storage.read_json(path).items()}
    page.write(snakemake.output[0], found, pictures, params.config)


if __name__ == "__main__":
    scripting.run(main, snakemake)
