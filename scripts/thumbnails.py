"""Small pictures of many cells for the page: first samples, and the way there."""

from dode import scripting, storage
from dode.report import thumbnails


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    found = {
        name: {"samples": thumbnails.sprite(storage.read_array(path), params.most)}
        for name, path in zip(params.cells, inputs.ends, strict=True)
    }
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.run(main, snakemake)
