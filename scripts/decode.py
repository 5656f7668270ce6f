"""Decode the latents of a cell's samples, and of those of which the end state is kept."""

import numpy as np

from dode import storage
from dode.benchmark import devices, execution, pipeline_ends, pipeline_jobs, scripting
from dode.images import pixels


def main(snakemake):
    params, settings = snakemake.params, execution.of_job(snakemake)
    device = devices.device(settings["device"])
    decoder = pipeline_jobs.part(snakemake.input.model, "decoder", params.decoding["dtype"], device)
    for kind, dtype, kept in (("images", np.uint8, pixels.to_bytes), ("ends", np.float32, np.asarray)):
        latents = storage.read_array(snakemake.input[kind])
        with storage.growing_array(snakemake.output[kind], (len(latents), *params.image_shape), dtype) as append:
            for images in pipeline_ends.decoded(decoder, latents, settings["batch_size"]):
                append(kept(images))


if __name__ == "__main__":
    scripting.execute(main, snakemake)
