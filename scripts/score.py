"""Score a cell: FID and KID against the real images, self-FID and trajectory error against the fine-step samples."""

import numpy as np

from dode import scripting, storage
from dode.metrics import distances, features, statistics_files


def main(snakemake):
    params, execution = snakemake.params, scripting.execution(snakemake)
    extract = features.create(params.card, snakemake.input.features, device=scripting.device(execution["device"]))
    real, real_features = statistics_files.read(snakemake.input.real, params.card)

    def blocks(path):
        """The images of each seed, or what was kept of them."""
        return np.split(storage.read_array(path), params.seeds)

    generated = [
        distances.Statistics.of(features.stream(extract, images, execution["batch_size"], "features"))
        for images in blocks(snakemake.input.images)
    ]
    scores = {"fid": [distances.fid(block.moments, real) for block in generated]}
    if real_features is not None:
        scores["kid"] = [distances.kid(real_features, block.features, **params.kid) for block in generated]
    if params.seeds > 1:
        with np.load(snakemake.input.reference, allow_pickle=False) as arrays:
            statistics_files.check_extractor(snakemake.input.reference, arrays, params.card)
            # Against the next seed's fine-step samples: never on the same noise.
            others = [(seed + 1) % params.seeds for seed in range(params.seeds)]
            fine = [(arrays[f"{other}/mu"], arrays[f"{other}/sigma"]) for other in others]
        scores["self_fid"] = [distances.fid(block.moments, other) for block, other in zip(generated, fine, strict=True)]
    if snakemake.input.ends != snakemake.input.reference_ends:
        pairs = zip(blocks(snakemake.input.ends), blocks(snakemake.input.reference_ends), strict=True)
        scores["trajectory_rmse"] = [distances.rmse(end, fine) for end, fine in pairs]
    storage.write_json(snakemake.output[0], {"metrics": scores})


if __name__ == "__main__":
    scripting.run(main, snakemake)
