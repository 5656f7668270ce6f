"""The real images, so that a reader sees what the benchmark is about."""

from dode.benchmark import scripting
from dode.images import data
from dode.report.figures import images as pictures


def main(snakemake):
    params = snakemake.params
    images, labels = data.load(params.images["source"], params.images["image_shape"])
    shown = None if labels is None else labels[: params.shown]
    pictures.real_images(images[: params.shown], shown, snakemake.output, params.title)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
