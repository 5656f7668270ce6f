"""Features of the real images, and the distances between random halves of them."""

import numpy as np

from dode import storage
from dode.benchmark import devices, execution, scripting, software
from dode.images import data
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, settings = snakemake.params, execution.of_job(snakemake)
    images, _ = data.load(params.images["source"], params.images["image_shape"])
    if len(images) < 4:
        raise ValueError(f"{params.images['source']} has {len(images)} images; statistics of halves need at least 4")
    device = devices.device(settings["device"])
    extract = features.create(params.card, snakemake.input.features, device=device)
    stream = features.stream(extract, images, settings["batch_size"], "real images")
    whole = distances.Statistics(total=len(images))
    in_first = [_random_half(len(images), seed) for seed in range(params.halvings)]
    halves = [[distances.Statistics(total=rows.sum()) for rows in (chosen, ~chosen)] for chosen in in_first]
    done = 0
    for batch in stream:
        whole.add(batch)
        for pair, chosen in zip(halves, in_first, strict=True):
            rows = chosen[done : done + len(batch)]
            for half, part in zip(pair, (batch[rows], batch[~rows]), strict=True):
                if len(part):
                    half.add(part)
        done += len(batch)
    with storage.atomic(snakemake.output.statistics) as path:
        known = {"mu": whole.mean, "sigma": whole.covariance, "features": whole.features, "images": whole.count}
        statistics_files.write(path, card=params.card, **known)
    found = {"fid": [], "kid": []}
    for seed, (first, second) in enumerate(halves):
        found["fid"].append(distances.fid(first.moments, second.moments))
        found["kid"].append(distances.kid(first.features, second.features, **params.kid, seed=seed))
    known = {"halves": found, "images": len(images) // 2}
    storage.write_json(snakemake.output.halves, {**known, **software.environment(device)})


def _random_half(count, seed):
    """Which of ``count`` images are in the first half, so that no features must be kept to tell the halves apart."""
    chosen = np.zeros(count, bool)
    chosen[np.array_split(np.random.default_rng(seed).permutation(count), 2)[0]] = True
    return chosen


if __name__ == "__main__":
    scripting.execute(main, snakemake)
