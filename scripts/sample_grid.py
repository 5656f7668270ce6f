"""Samples of every solver side by side on the same noise."""

from dode import storage
from dode.benchmark import scripting
from dode.images import pixels
from dode.report.figures import images


def main(snakemake):
    params = snakemake.params
    rows = [
        (label, pixels.to_bytes(storage.read_array(path)[: params.images]))
        for label, path in zip(params.labels, snakemake.input, strict=True)
    ]
    images.sample_grid(rows, snakemake.output, params.title)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
