"""What the graph of jobs costs: dry runs of the workflow against dry runs of a flat one with as many jobs.

Prints a Markdown table of CPU seconds and memory, and the seconds that a job needs to read the Snakefile. See
benchmarks/README.md.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FLAT = """
rule all:
    input: expand("out/{{i}}", i=range({jobs}))

rule one:
    output: "out/{{i}}"
    params: value=lambda wildcards: int(wildcards.i)
    resources: mem_mb=1000, runtime=10
    shell: "touch {{output}}"
"""


def multiplied(config, times):
    """The configuration with each solver ``times`` times, under other ids."""
    found = copy.deepcopy(config)
    found["solvers"] = [
        {**entry, "id": f"{entry['id']}-{copy_}", "label": f"{entry.get('label', entry['id'])} {copy_}"}
        for copy_ in range(times)
        for entry in config["solvers"]
    ]
    return found


def measured(command, folder):
    """(CPU seconds, peak megabytes, standard output) of a command."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{text[-3000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def dry_run(folder, *arguments):
    """:func:`measured` of a dry run."""
    return measured([sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", *arguments], folder)


def jobs_of(text):
    """The total of a dry run's table of jobs."""
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("total"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "paper.yaml")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10], help="how often each solver is there")
    options = parser.parse_args()
    config = yaml.safe_load(options.config.read_text())
    print("| jobs | workflow, CPU s | flat, CPU s | ratio | workflow, MB | flat, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for times in options.times:
            path = folder / f"times{times}.yaml"
            path.write_text(yaml.safe_dump(multiplied(config, times)))
            seconds, memory, text = dry_run(ROOT, "--configfile", str(path))
            jobs = jobs_of(text)
            (folder / "Snakefile").write_text(FLAT.format(jobs=jobs - 1))
            flat_seconds, flat_memory, _ = dry_run(folder, "--cores", "1")
            print(
                f"| {jobs:,} | {seconds:.1f} | {flat_seconds:.1f} | {seconds / flat_seconds:.2f} | {memory:.0f} | "
                f"{flat_memory:.0f} |",
                flush=True,
            )
    parse(config)


PARSE = """
import sys, time
import yaml
config = yaml.safe_load(open(sys.argv[1]))
begun = time.perf_counter()
from dode import runs, scripting, storage
from dode.cells import Benchmark
from dode.workloads import Workloads
Workloads(Benchmark(config, sys.argv[2]))
print(time.perf_counter() - begun, "torch" in sys.modules)
"""


def parse(config):
    """What a job of the cluster spends on the configuration before its own work."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-c", PARSE, path, ROOT]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, torch = found.stdout.split()
    print(f"\nReading the configuration in a job: {float(seconds):.2f} s; torch imported: {torch}")


if __name__ == "__main__":
    main()
