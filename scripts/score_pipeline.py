"""Complete the scores of a pipeline's cell: by what is particular to latents, and to images of prompts."""

import numpy as np

from dode import storage
from dode.benchmark import scripting, software
from dode.metrics import similarity


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    found = storage.read_json(inputs.scores)
    if inputs.ends != inputs.reference_ends:
        pairs = (np.split(storage.read_array(inputs[kind]), params.seeds) for kind in ("ends", "reference_ends"))
        found["metrics"] |= similarity.of_decoded(zip(*pairs, strict=True))
        found["metrics"]["trajectory_rmse"]["of"] = "latents"
        del found["metrics"]["trajectory_psnr"]  # it is of images, whose range is known
    by_prompts = [storage.read_json(path) for path in inputs.prompt_scores]
    for each in by_prompts:
        found["metrics"] |= each["metrics"]
    found["prompt_scores"] = [each["made"] for each in by_prompts]
    found["software"] |= software.versions(["scikit-image"])
    found["made"]["code"] |= params.code
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
