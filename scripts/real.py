"""Features of the real images, and the distance between their random halves: the floor of every score."""

import numpy as np

from dode import data, scripting, storage
from dode.metrics import distances, features


def main(snakemake):
    params = snakemake.params
    images, _ = data.sources.create(params.data)
    extract = features.create(
        params.card, snakemake.input.features, device=scripting.device(snakemake.config["execution"]["device"])
    )
    vectors = np.concatenate(list(features.stream(extract, images, 500, "real images")))
    with storage.atomic(snakemake.output.statistics) as path:
        distances.Statistics.of([vectors]).save(path)
    floor = {"fid": [], "kid": []}
    for seed in range(params.halvings):
        order = np.random.default_rng(seed).permutation(len(vectors))
        first, second = (distances.Statistics.of([vectors[half]]) for half in np.array_split(order, 2))
        floor["fid"].append(distances.fid(first.moments, second.moments))
        floor["kid"].append(distances.kid(first.features, second.features, **params.kid, seed=seed))
    storage.write_json(snakemake.output.floor, {"floor": floor, "images": len(images) // 2})


if __name__ == "__main__":
    scripting.run(main, snakemake)
