"""Score a cell without features: the distance of its end states to those of fine steps on the same noise."""

import numpy as np

from dode import storage
from dode.benchmark import score_records, scripting
from dode.metrics import distances, scores


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    metrics = {}
    if inputs.ends != inputs.reference_ends:
        pairs = (np.split(storage.read_array(inputs[kind]), params.seeds) for kind in ("ends", "reference_ends"))
        metrics = scores.trajectory([distances.squared_errors(*pair) for pair in zip(*pairs, strict=True)])
    made = storage.read_json(inputs.environments)
    found = score_records.record(params, made, metrics, images=made["samples"]["images"], device="cpu")
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
