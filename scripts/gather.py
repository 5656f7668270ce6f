"""Put a cell's shards together."""

from dode import scripting, storage


def main(snakemake):
    storage.gather_arrays(snakemake.input.images, snakemake.output.images)
    storage.gather_arrays(snakemake.input.ends, snakemake.output.ends)


if __name__ == "__main__":
    scripting.run(main, snakemake)
