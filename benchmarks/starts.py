"""What starting jobs costs: a configuration run with a Python for each job, and with jobs forked from one process.

Prints a Markdown table of wall-clock and CPU seconds of the whole run, Snakemake's own process and the planning
included, and compares all scores. Linux alone. See benchmarks/README.md.
"""

import argparse
import contextlib
import ctypes
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ADOPTS_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl


def run(config, cores, forked, folder):
    """(wall-clock seconds, CPU seconds, jobs) of a run in an empty folder, with all processes that it left behind."""
    ctypes.CDLL(None).prctl(ADOPTS_ORPHANS, 1)
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["execution"] = {**settings.get("execution", {}), "forked_jobs": forked}
    own = Path(folder) / "run.yaml"
    own.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(own)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    seconds = time.monotonic() - begun
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = sum(1 for path in Path(folder, "results").rglob("*.log"))
    return seconds, used.ru_utime + used.ru_stime, jobs


def scores(folder):
    """Every file of scores below a folder, by its path."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("score.json"))}


def main():
    """Command-line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "config.yaml", help="default: config.yaml")
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    found, made = {}, {}
    for forked in (False, True):
        with (
            tempfile.TemporaryDirectory() as folder,
            multiprocessing.get_context("spawn").Pool(1) as pool,  # what it has waited for is that of one run
        ):
            found[forked] = pool.apply(run, (arguments.config.absolute(), arguments.cores, forked, folder))
            made[forked] = scores(folder)
    print("| | wall-clock s | CPU s | jobs |")
    print("| --- | ---: | ---: | ---: |")
    for forked, name in ((False, "a Python each"), (True, "forked")):
        seconds, used, jobs = found[forked]
        print(f"| {name} | {seconds:.0f} | {used:.0f} | {jobs} |")
    ratios = [found[False][i] / found[True][i] for i in (0, 1)]
    print(f"| ratio | {ratios[0]:.1f} | {ratios[1]:.1f} | |")
    same = "the same" if made[False] == made[True] else "not the same"
    print(f"\nScores of the two runs: {same} ({len(made[True])} files).")


if __name__ == "__main__":
    main()
