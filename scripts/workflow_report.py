"""Snakemake's report of the finished benchmark, one self-contained file."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dode import storage
from dode.benchmark import scripting
from dode.fetching import places


def main(snakemake):
    with tempfile.TemporaryDirectory() as folder, storage.atomic(snakemake.output[0]) as page:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(snakemake.config), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(places.workflow() / "Snakefile")]
        command += ["--configfile", str(config), "--report", str(page), "--", *snakemake.input]
        subprocess.run(command, check=True, stdout=sys.stderr, stderr=sys.stderr)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
