"""The workflow as a module of another one: its own prefix, other names of its rules, other rules beside them."""

import os
import subprocess

import pytest
import yaml

import forked_python
from workspace import TINY, Workspace

OUTER = """
configfile: "config.yaml"

module dode:
    snakefile: "repository/Snakefile"
    config: config["dode"]
    prefix: "sampling"

use rule * from dode as dode_*

rule all:
    default_target: True
    input: rules.dode_all.input, "summary.txt", "scripted.txt"

rule summary:
    input: rules.dode_tables.output.md
    output: "summary.txt"
    shell: "head -3 {input} > {output}"

rule scripted:
    input: "summary.txt"
    output: "scripted.txt"
    params: word="first"
    script: "scripted.py"
"""
SCRIPTED = "open(snakemake.output[0], 'w').write(snakemake.params.word)\n"


class Outer:
    """Another workflow, with a copy of this one in ``repository``."""

    def __init__(self, folder):
        self.folder = folder
        Workspace.fresh(folder / "repository")
        (folder / "Snakefile").write_text(OUTER)
        (folder / "scripted.py").write_text(SCRIPTED)
        self.configured(seed=0)

    def configured(self, **changes):
        own = yaml.safe_load(TINY.read_text(encoding="utf-8"))
        (self.folder / "config.yaml").write_text(yaml.safe_dump({"dode": {**own, **changes}}))

    def snakemake(self, *arguments, status=0):
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "repository")}
        command = [forked_python.executable(), "-m", "snakemake", "--cores", "1", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    def plan(self):
        """Names of the rules that a run would run."""
        said = self.snakemake("--dry-run")
        if "Nothing to be done" in said:
            return set()
        return {line.split()[0] for line in said.split("\n---")[1].split("\ntotal ")[0].splitlines()[1:]}


@pytest.fixture(scope="module")
def outer(tmp_path_factory):
    """Which has run."""
    made = Outer(tmp_path_factory.mktemp("outer"))
    made.snakemake()
    return made


def test_results_are_below_the_prefix_and_of_use_to_other_rules(outer):
    folder = outer.folder
    assert (folder / "sampling" / "results" / "tiny" / "index.html").is_file()
    assert (folder / "sampling" / "resources" / "checkpoints").is_dir()
    assert not (folder / "results").exists()
    assert "tiny" in (folder / "summary.txt").read_text()
    assert (folder / "scripted.txt").read_text() == "first"
    assert not (folder / "sampling" / "results" / "tiny" / "report.html").exists()


def test_what_has_run_is_up_to_date_and_what_changes_runs_again(outer):
    assert outer.plan() == set()
    outer.configured(seed=1)
    assert {"dode_sample", "dode_score", "summary", "scripted"} <= outer.plan()
    outer.configured(seed=0)
    snakefile = outer.folder / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace('"first"', '"second"'))
    assert outer.plan() == {"all", "scripted"}


def test_a_mistake_in_its_configuration_is_told_alone(outer):
    outer.configured(sede=1)
    said = outer.snakemake("--dry-run", status=1).splitlines()
    assert any("configuration: (top level): unknown key 'sede' (did you mean 'seed'?)" in line for line in said)
    assert not any("Traceback" in line or "WorkflowError" in line for line in said)
