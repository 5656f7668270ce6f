"""Score a cell without features: the distance of its end states to those of fine steps on the same noise."""

import numpy as np

from dode import storage
from dode.benchmark import scripting
from dode.benchmark.software import environment
from dode.metrics import distances, scores


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    metrics = {}
    if inputs.ends != inputs.reference_ends:
        pairs = (np.split(storage.read_array(inputs[kind]), params.seeds) for kind in ("ends", "reference_ends"))
        metrics = scores.trajectory([distances.squared_errors(*pair) for pair in zip(*pairs, strict=True)])
    made = storage.read_json(inputs.environments)
    found = {
        "metrics": metrics,
        "images": made["samples"]["images"],
        "seeds": params.seeds,
        **{key: made[key] for key in ("passes", "depth")},
        "reference": None,
        "extractor": "{}",
        "biased": [],
        **environment("cpu"),
        "samples": made["environments"],
        "made": {
            **{key: made[key] for key in ("cell", "samples")},
            "scoring": params.scoring,
            "code": {**made["code"], "score": params.code},
        },
    }
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
