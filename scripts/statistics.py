"""Feature statistics of each seed of the fine-step samples: what self-FID compares with."""

import numpy as np

from dode import scripting, storage
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, execution = snakemake.params, scripting.execution(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=scripting.device(execution["device"]))
    arrays = {"extractor": statistics_files.extractor_of(params.card)}
    for seed, images in enumerate(np.split(storage.read_array(snakemake.input.images), params.seeds)):
        statistics = distances.Statistics.of(features.stream(extract, images, execution["batch_size"], "features"))
        arrays |= {f"{seed}/mu": statistics.mean, f"{seed}/sigma": statistics.covariance}
    with storage.atomic(snakemake.output[0]) as path:
        np.savez(path, **arrays)


if __name__ == "__main__":
    scripting.run(main, snakemake)
