"""Sample one shard of a cell's images; keep the first end states of each seed unquantised, and the way of a few."""

import numpy as np
from tqdm import tqdm

from dode import storage
from dode.benchmark import execution, jobs, parameters, scripting, software
from dode.images import shards, trajectories


def main(snakemake):
    params, wildcards, settings = snakemake.params, snakemake.wildcards, execution.of_job(snakemake)
    cell = jobs.of_cell(params.cell, snakemake.input.model, settings, snakemake.input)
    student = jobs.read_student(cell, snakemake.input.get("lambdas"))
    own = parameters.Samples(**params.samples)
    plan = shards.Plan(own.images, own.seeds, own.trajectory_images)
    work = plan.batches(int(wildcards.shard), int(wildcards.shards), settings["batch_size"])
    images = (sum(len(indices) for _, indices in work), *cell.shape)
    ends = (sum(plan.kept(indices) for _, indices in work), *cell.shape)
    recorders = []
    with (
        storage.growing_array(snakemake.output.images, images, cell.kind) as append_images,
        storage.growing_array(snakemake.output.ends, ends, np.float32) as append_ends,
    ):
        for block, indices in tqdm(work, desc="batches", mininterval=5):
            latents, denoise = cell.latents(indices, block=block), cell.denoise_for(indices, block=block)
            watch = None
            if plan.recorded(block, indices) or not recorders:  # a shard without any has the noise levels all the same
                watch = trajectories.Recorder(plan.recorded(block, indices))
                recorders.append(watch)
            x = cell.images(student.sample(denoise, latents, watch=watch)).cpu()
            append_images(cell.kept(x))
            append_ends(x[: plan.kept(indices)].float().numpy())
    rows = [recorder.rows() for recorder in recorders]
    storage.write_array(snakemake.output.states, np.concatenate(rows))
    made = {"passes": cell.passes(student), "depth": student.depth, "environment": software.environment(cell.device)}
    storage.write_json(snakemake.output.environment, made)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
