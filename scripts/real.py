"""Features of the real images, and the distance between their random halves: the floor of every score."""

import numpy as np

from dode import data, scripting, storage
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, execution = snakemake.params, scripting.execution(snakemake)
    images, _ = data.load(params.source, params.image_shape)
    extract = features.create(params.card, snakemake.input.features, device=scripting.device(execution["device"]))
    stream = features.stream(extract, images, execution["batch_size"], "real images")
    vectors = np.concatenate([batch.astype(np.float32) for batch in stream])

    def statistics(rows):
        """Of some rows, in parts, so that they are in double precision a part at a time."""
        parts = np.array_split(rows, max(1, len(rows) // 1000))
        return distances.Statistics.of(vectors[part].astype(np.float64) for part in parts)

    whole = statistics(np.arange(len(vectors)))
    with storage.atomic(snakemake.output.statistics) as path:
        moments = {"mu": whole.mean, "sigma": whole.covariance, "features": whole.features}
        statistics_files.write(path, card=params.card, **moments)
    floor = {"fid": [], "kid": []}
    for seed in range(params.halvings):
        order = np.random.default_rng(seed).permutation(len(vectors))
        first, second = (statistics(half) for half in np.array_split(order, 2))
        floor["fid"].append(distances.fid(first.moments, second.moments))
        floor["kid"].append(distances.kid(first.features, second.features, **params.kid, seed=seed))
    storage.write_json(snakemake.output.floor, {"floor": floor, "images": len(images) // 2})


if __name__ == "__main__":
    scripting.run(main, snakemake)
