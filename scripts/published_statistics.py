"""Published statistics of reference images, checked, in the form that scores are made with."""

import functools

from dode import scripting, storage
from dode.metrics import features, statistics_files


def main(snakemake):
    params, execution = snakemake.params, scripting.execution(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=scripting.device(execution["device"]))
    stream = functools.partial(features.stream, extract, batch_size=execution["batch_size"])
    mu, sigma, kept = statistics_files.published(snakemake.input.statistics, stream, params.image_shape)
    with storage.atomic(snakemake.output[0]) as path:
        statistics_files.write(path, mu=mu, sigma=sigma, features=kept, card=params.card)


if __name__ == "__main__":
    scripting.run(main, snakemake)
