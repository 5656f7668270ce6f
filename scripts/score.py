"""Score a cell: against the real images, against fine-step samples of other noise and of the same."""

import numpy as np

from dode import storage
from dode.benchmark import devices, execution, score_records, scripting
from dode.metrics import distances, features, scores, statistics_files


def main(snakemake):
    params, settings = snakemake.params, execution.of_job(snakemake)
    scoring, card = params.scoring, params.scoring["card"]
    device = devices.device(settings["device"])
    extract = features.create(card, snakemake.input.features, device=device)
    real = statistics_files.read(snakemake.input.real, card) if snakemake.input.real else None

    def blocks(path):
        """The images of each seed, or what was kept of them."""
        return np.split(storage.read_array(path), params.seeds)

    generated = [
        distances.Statistics.of(features.stream(extract, images, settings["batch_size"], "features"))
        for images in blocks(snakemake.input.images)
    ]
    metrics = {} if real is None else scores.against_real(generated, real, scoring)
    own = snakemake.input.ends == snakemake.input.reference_ends
    fine = statistics_files.read_blocks(snakemake.input.reference, card, [block.count for block in generated])
    gaussians = [distances.Gaussian.of_moments(*block.moments) for block in fine]
    if params.seeds > 1:
        # Against the next seed's fine-step samples: never on the same noise. Two sets of them are one pair, not two.
        pairs = 1 if own and params.seeds == 2 else params.seeds
        metrics["self_fid"] = scores.frechet(generated[:pairs], (gaussians[1:] + gaussians[:1])[:pairs])
    if not own:
        metrics["paired_fid"] = scores.frechet(generated, gaussians, fine[0].features)
        pairs = zip(blocks(snakemake.input.ends), blocks(snakemake.input.reference_ends), strict=True)
        metrics |= scores.trajectory([distances.squared_errors(*pair) for pair in pairs])
    made = storage.read_json(snakemake.input.environments)
    found = score_records.record(
        params,
        made,
        metrics,
        images=generated[0].count,
        device=device,
        reference=None if real is None else statistics_files.identity(snakemake.input.real, real),
        extractor=statistics_files.extractor_of(card),
        biased=scores.biased(generated, None if real is None else real.images),
    )
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
