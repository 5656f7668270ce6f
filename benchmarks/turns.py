"""What Snakemake's scheduler costs while jobs run: a flat workflow as it is, and with dode.benchmark.turns.

Prints a Markdown table of the CPU seconds of the scheduler's process and of the looks that it took at all jobs. See
benchmarks/README.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKFLOW = """
import atexit, json, time, sys
sys.path.insert(0, {root!r})
from snakemake.scheduling.job_scheduler import JobScheduler
from dode.benchmark import turns

if workflow.is_main_process:
    looks, select = [], JobScheduler.job_selector
    JobScheduler.job_selector = lambda *arguments: (looks.append(1), select(*arguments))[1]
    if {patched}:
        turns.look_again_where_held_back(JobScheduler)
    atexit.register(lambda: json.dump([time.process_time(), len(looks)], open("cost.json", "w")))

rule all:
    input: expand("out/{{i}}", i=range({jobs}))

rule one:
    output: "out/{{i}}"
    shell: "sleep {seconds}; touch {{output}}"
"""


def cost(jobs, seconds, patched):
    """(CPU seconds of Snakemake's own process, looks at the ready jobs) of a run on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        text = WORKFLOW.format(root=str(ROOT), patched=patched, jobs=jobs, seconds=seconds)
        (Path(folder) / "Snakefile").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return json.loads((Path(folder) / "cost.json").read_text(encoding="utf-8"))


def main():
    """Command-line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--seconds", type=float, default=0.5, help="that a job waits (default: .5)")
    arguments = parser.parse_args()
    print("| jobs | CPU s, as it is | looks | CPU s, mended | looks | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for jobs in arguments.jobs:
        (plain, looks), (mended, fewer) = (cost(jobs, arguments.seconds, patched) for patched in (False, True))
        print(f"| {jobs} | {plain:.1f} | {looks} | {mended:.1f} | {fewer} | {plain / mended:.1f} |", flush=True)


if __name__ == "__main__":
    main()
