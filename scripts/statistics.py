"""Feature statistics of each seed of the fine-step samples: what self-FID compares with."""

import numpy as np

from dode import storage
from dode.benchmark import devices, scripting
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, execution = snakemake.params, scripting.execution(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=devices.device(execution["device"]))
    blocks = [
        distances.Statistics.of(features.stream(extract, images, execution["batch_size"], "features")).moments
        for images in np.split(storage.read_array(snakemake.input.images), params.seeds)
    ]
    with storage.atomic(snakemake.output[0]) as path:
        statistics_files.write_blocks(path, blocks, params.card)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
