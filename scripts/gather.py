"""Put a cell's shards together."""

import contextlib
from pathlib import Path

from dode import storage
from dode.benchmark import scripting


def main(snakemake):
    for kind in ("images", "ends", "states"):
        storage.gather_arrays(snakemake.input[kind], snakemake.output[kind])
    found = [storage.read_json(path) for path in snakemake.input.environments]
    storage.write_json(snakemake.output.environments, [each for i, each in enumerate(found) if each not in found[:i]])
    remove_others(snakemake.input)


def remove_others(shards):
    """Remove what else lies beside the shards, which Snakemake removes as temporary files of the present number.

    It knows neither their records (:mod:`dode.benchmark.integrity`) nor shards of another number, which a run that died
    has left. Nobody is writing there: all jobs that do have ended by now, and a directory has one run at a time.
    """
    shards = {Path(path) for path in shards}
    for folder in {path.parent for path in shards}:
        for path in set(folder.iterdir()) - shards:
            with contextlib.suppress(OSError):  # an NFS keeps what another machine had open for a while
                path.unlink()


if __name__ == "__main__":
    scripting.run(main, snakemake)
