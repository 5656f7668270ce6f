"""The real images, so that a reader sees what the benchmark is about."""

from dode import data, scripting
from dode.report import figures


def main(snakemake):
    params = snakemake.params
    images, labels = data.load(params.source, params.image_shape)
    shown = None if labels is None else labels[: params.images]
    figures.real_images(images[: params.images], shown, snakemake.output, params.title)


if __name__ == "__main__":
    scripting.run(main, snakemake)
