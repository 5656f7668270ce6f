"""Sample one shard of a cell's images, and keep the first end states of each seed unquantised."""

import numpy as np
from tqdm import tqdm

from dode import pixels, sampling, scripting, shards, storage
from dode.jobs import read_lambdas, run_of


def main(snakemake):
    params, wildcards, execution = snakemake.params, snakemake.wildcards, scripting.execution(snakemake)
    run = run_of(params.run, snakemake.input.model, execution, snakemake.input)
    lambdas, directions = read_lambdas(snakemake.input.lambdas) if snakemake.input.get("lambdas") else (None, None)
    plan = shards.Plan(params.run["images"], params.run["seeds"], params.run["trajectory_images"])
    work = plan.batches(int(wildcards.shard), int(wildcards.shards), execution["batch_size"])
    images = (sum(len(indices) for _, indices in work), *run.shape)
    ends = (sum(plan.kept(indices) for _, indices in work), *run.shape)
    with (
        storage.growing_array(snakemake.output.images, images, np.uint8) as append_images,
        storage.growing_array(snakemake.output.ends, ends, np.float32) as append_ends,
    ):
        for block, indices in tqdm(work, desc="batches", mininterval=5):
            latents = run.latents(indices, block=block)
            denoise, fitted = run.denoise_for(indices, block=block), {"lambdas": lambdas, "directions": directions}
            x = run.images(sampling.sample(run.solver, denoise, latents, run.sigmas, **fitted)).cpu()
            append_images(pixels.to_bytes(x))
            append_ends(x[: plan.kept(indices)].float().numpy())


if __name__ == "__main__":
    scripting.run(main, snakemake)
