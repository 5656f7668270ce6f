"""Put a cell's shards together."""

from dode import integrity, scripting, storage


def main(snakemake):
    for kind in ("images", "ends", "states"):
        storage.gather_arrays(snakemake.input[kind], snakemake.output[kind])
    found = [storage.read_json(path) for path in snakemake.input.environments]
    storage.write_json(snakemake.output.environments, [each for i, each in enumerate(found) if each not in found[:i]])
    for path in snakemake.input:  # Snakemake removes the shards, and does not know of these
        integrity.forget(path)


if __name__ == "__main__":
    scripting.run(main, snakemake)
