"""Small pictures of many cells for the page: their first samples, and the way there."""

from dode import storage
from dode.benchmark import scripting
from dode.images import trajectories
from dode.report.fine_solution import Fine
from dode.report.page import thumbnails


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    fine, found = Fine(*trajectories.read(inputs.fine)), {}
    for name, ends, states in zip(params.cells, inputs.ends, inputs.states, strict=True):
        samples = thumbnails.sprite(storage.read_array(ends), params.most)
        found[name] = {"samples": samples, "trajectory": thumbnails.trajectory(*trajectories.read(states), fine)}
    storage.write_json(snakemake.output[0], found)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
