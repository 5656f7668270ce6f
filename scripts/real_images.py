"""The real images, so that a reader sees what the benchmark is about."""

from dode import data, scripting
from dode.report import figures


def main(snakemake):
    images, labels = data.sources.create(snakemake.params.data)
    count = snakemake.params.images
    figures.real_images(images[:count], labels[:count], snakemake.output, snakemake.params.title)


if __name__ == "__main__":
    scripting.run(main, snakemake)
