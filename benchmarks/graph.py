"""What the graph of jobs costs: dry runs of the workflow against dry runs of two flat ones with as many jobs.

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
    {directives}
"""
PLAIN = """
    params: value=lambda wildcards: int(wildcards.i)
    resources: mem_mb=1000, runtime=10
    shell: "touch {output}"
"""
# What a rule of the workflow has besides its inputs and outputs.
ALIKE = """
    log: "logs/{i}.log"
    benchmark: "logs/{i}.tsv"
    group: lambda wildcards: f"group-{wildcards.i}"
    conda: "environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt
    params: value=lambda wildcards: int(wildcards.i), code=lambda wildcards: {"script": "digest"}
    message: "One {wildcards.i}"
    script: "one.py"
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
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
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
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    columns = [f"{name}, {unit}" for unit in ("CPU s", "MB") for name in ("workflow", "alike", "flat")]
    print("|", " | ".join(["jobs", *columns, "workflow / alike", "workflow / flat"]), "|\n" + "|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "one.py").touch()
        (folder / "environment.yaml").write_text("dependencies: []\n", encoding="utf-8")
        for times in options.times:
            path = folder / f"times{times}.yaml"
            path.write_text(yaml.safe_dump(multiplied(config, times)), encoding="utf-8")
            seconds, memory, text = dry_run(ROOT, "--configfile", str(path))
            jobs = jobs_of(text)
            runs = [(seconds, memory)]
            for directives in (ALIKE, PLAIN):
                (folder / "Snakefile").write_text(
                    FLAT.format(jobs=jobs - 1, directives=directives.strip()), encoding="utf-8"
                )
                runs.append(dry_run(folder, "--cores", "1")[:2])
            spent, sizes = zip(*runs, strict=True)
            cells = [f"{jobs:,}", *(f"{x:.1f}" for x in spent), *(f"{x:.0f}" for x in sizes)]
            cells += [f"{spent[0] / other:.2f}" for other in spent[1:]]
            print("|", " | ".join(cells), "|", flush=True)
    parse(config)


PARSE = """
import sys, time
import yaml
config = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
begun = time.perf_counter()
from dode import names, storage
from dode.benchmark import reruns, runs, scripting
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.benchmark.workloads import Workloads
bench = Benchmark(config, sys.argv[2])
Files(bench), Dependencies(bench), Facts(bench), Workloads(bench)
print(time.perf_counter() - begun, "torch" in sys.modules)
"""


def parse(config):
    """What a job of the cluster spends on the configuration before its own work."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-c", PARSE, path, ROOT]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, torch = found.stdout.split()
    print(f"\nReading the configuration in a job: {float(seconds):.2f} s; torch imported: {torch}")


if __name__ == "__main__":
    main()
