"""Put a cell's shards together."""

from dode import integrity, scripting, storage


def main(snakemake):
    storage.gather_arrays(snakemake.input.images, snakemake.output.images)
    storage.gather_arrays(snakemake.input.ends, snakemake.output.ends)
    for path in snakemake.input:  # Snakemake removes the shards, and does not know of these
        integrity.forget(path)


if __name__ == "__main__":
    scripting.run(main, snakemake)
