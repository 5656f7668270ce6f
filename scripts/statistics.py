"""Feature statistics of each seed of the fine-step samples: what paired FID and self-FID compare with."""

import numpy as np

from dode import storage
from dode.benchmark import devices, execution, scripting
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, settings = snakemake.params, execution.of_job(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=devices.device(settings["device"]))
    blocks = [
        distances.Statistics.of(features.stream(extract, images, settings["batch_size"], "features"))
        for images in np.split(storage.read_array(snakemake.input.images), params.seeds)
    ]
    with storage.atomic(snakemake.output[0]) as path:
        statistics_files.write_blocks(path, blocks, params.card)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
