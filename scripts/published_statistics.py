"""Published statistics of reference images, checked, in the form that scores are made with."""

import functools

from dode import storage
from dode.benchmark import devices, execution, scripting
from dode.metrics import features, statistics_files


def main(snakemake):
    params, settings = snakemake.params, execution.of_job(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=devices.device(settings["device"]))
    stream = functools.partial(features.stream, extract, batch_size=settings["batch_size"])
    found = statistics_files.published(snakemake.input.statistics, stream, params.image_shape)
    (mu, sigma), known = found.moments, {"features": found.features, "images": found.images}
    with storage.atomic(snakemake.output[0]) as path:
        statistics_files.write(path, mu=mu, sigma=sigma, card=params.card, **known)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
