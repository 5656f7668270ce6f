"""Put a cell's shards together."""

import contextlib
import shutil
from pathlib import Path

from dode import storage
from dode.benchmark import parameters, records, scripting

SHARDS = ("images", "ends", "states", "environments")


def main(snakemake):
    for kind in ("images", "ends", "states"):
        storage.gather_arrays(snakemake.input[kind], snakemake.output[kind])
    params, found = snakemake.params, [storage.read_json(path) for path in snakemake.input.environments]
    environments = [each["environment"] for place, each in enumerate(found) if each not in found[:place]]
    cell = parameters.resolved(params.cell, snakemake.input.get("precision"))
    made = {"cell": cell, "samples": params.samples, "code": params.code}
    made |= {key: found[0][key] for key in ("passes", "depth")}
    storage.write_json(snakemake.output.environments, {**made, "environments": environments})


def remove_others(shards):
    """Remove what else lies beside the shards, which Snakemake removes as temporary files of the present number.

    It knows neither their records nor shards of another number, which a run that died has left. Nobody is writing
    there: all jobs that do have ended by now, and a directory has one run at a time.
    """
    shards = {Path(path) for path in shards}
    for folder in {path.parent for path in shards}:
        shutil.rmtree(folder / records.FOLDER, ignore_errors=True)
        for path in set(folder.iterdir()) - shards:
            with contextlib.suppress(OSError):  # an NFS keeps what another machine had open for a while
                path.unlink()


if __name__ == "__main__":
    scripting.execute(main, snakemake)
    remove_others(path for kind in SHARDS for path in snakemake.input[kind])
