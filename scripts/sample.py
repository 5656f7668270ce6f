"""Sample one shard of a cell's images; keep the first end states of each seed unquantised, and the way of a few."""

import numpy as np
from tqdm import tqdm

from dode import sampling, storage
from dode.benchmark import scripting, software
from dode.benchmark.jobs import read_lambdas, run_of
from dode.images import pixels, shards, trajectories


def main(snakemake):
    params, wildcards, execution = snakemake.params, snakemake.wildcards, scripting.execution(snakemake)
    run = run_of(params.run, snakemake.input.model, execution, snakemake.input)
    lambdas, directions = read_lambdas(snakemake.input.lambdas) if snakemake.input.get("lambdas") else (None, None)
    plan = shards.Plan(params.run["images"], params.run["seeds"], params.run["trajectory_images"])
    work = plan.batches(int(wildcards.shard), int(wildcards.shards), execution["batch_size"])
    images = (sum(len(indices) for _, indices in work), *run.shape)
    ends = (sum(plan.kept(indices) for _, indices in work), *run.shape)
    recorders = []
    with (
        storage.growing_array(snakemake.output.images, images, np.uint8) as append_images,
        storage.growing_array(snakemake.output.ends, ends, np.float32) as append_ends,
    ):
        for block, indices in tqdm(work, desc="batches", mininterval=5):
            latents = run.latents(indices, block=block)
            denoise, fitted = run.denoise_for(indices, block=block), {"lambdas": lambdas, "directions": directions}
            watch = None
            if plan.recorded(block, indices) or not recorders:  # a shard without any has the noise levels all the same
                watch = trajectories.Recorder(plan.recorded(block, indices))
                recorders.append(watch)
            x = sampling.sample(run.solver, denoise, latents, run.sigmas, **fitted, watch=watch)
            x = run.images(x).cpu()
            append_images(pixels.to_bytes(x))
            append_ends(x[: plan.kept(indices)].float().numpy())
    rows = [recorder.rows() for recorder in recorders]
    storage.write_array(snakemake.output.states, np.concatenate(rows))
    storage.write_json(snakemake.output.environment, software.environment(run.device))


if __name__ == "__main__":
    scripting.run(main, snakemake)
