"""The real Snakemake in a temporary copy of the repository, on the smallest benchmark that has every part."""

import compileall
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

import shared
from dode.benchmark import digests, records

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ["Snakefile", "rules", "scripts", "dode", "config", "profiles", "slurm", "report", "envs"]
TINY = REPOSITORY / "tests" / "workflow" / "configs" / "tiny.yaml"
RESULTS = "results/tiny"
CHANGED = "\n[].clear()\n"  # at the end of a file: it is executed on import, so that it counts
LAST_RESORT = 3600  # seconds for a run that takes one minute on a machine that does nothing else


class Workspace:
    """A copy of the repository in ``folder`` whose jobs import the copy's package, run in ``environment``.

    ``python`` runs Snakemake, and Snakemake the jobs with it.
    """

    def __init__(self, folder, environment=os.environ, python=sys.executable):
        self.folder = Path(folder)
        self.results = self.folder / RESULTS
        self.environment = environment
        self.python = python

    @classmethod
    def fresh(cls, folder, config=TINY, **options):
        """Nothing has run yet; ``config`` is the copy's config/config.yaml (None: the repository's own)."""
        _copied(shared.once(shared.folder() / "repository", _read), folder)
        if config is not None:
            shutil.copy2(config, Path(folder) / "config" / "config.yaml")
        return cls(folder, **options)

    def copy(self, folder):
        """A copy as it stands, with modification times and Snakemake's records."""
        return Workspace(_copied(self.folder, folder), self.environment, self.python)

    def start(self, *arguments):
        """A running ``snakemake`` in a process group of its own."""
        environment = {key: value for key, value in self.environment.items() if not key.startswith("SNAKEMAKE")}
        return subprocess.Popen(
            [self.python, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env={**environment, "PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell starts what is to run in its background with SIGINT ignored, and all below inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def attempt(self, *arguments):
        """``snakemake`` to its end: (exit status, standard output, standard error)."""
        with self.start(*arguments) as process:
            try:
                output, errors = process.communicate(timeout=LAST_RESORT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # or leaving this block waits for it
                raise
        return process.returncode, output, errors

    def snakemake(self, *arguments):
        """``snakemake`` to its end, which must be good: standard output and error."""
        status, output, errors = self.attempt(*arguments)
        assert status == 0, errors[-5000:]
        return output + errors

    def command(self, *arguments, status=0):
        """``python -m dode`` of the copy to its end, with that exit status: standard output."""
        how = {"cwd": self.folder, "env": {**self.environment, "PYTHONPATH": str(self.folder)}}
        done = subprocess.run([self.python, "-m", "dode", *arguments], **how, capture_output=True, text=True)
        assert done.returncode == status, done.stderr[-5000:]
        return done.stdout

    def plan(self, *arguments):
        """What a run would make, nothing is run: ``{"tables", "score ddim/nfe2", ...}``."""
        status, output, errors = self.attempt("--summary", *arguments)
        assert status == 0, errors[-5000:]
        header, *lines = [line.split("\t") for line in output.splitlines() if "\t" in line]
        assert header[0] == "output_file", output
        rows = [dict(zip(header, line, strict=True)) for line in lines]
        return {_named(row["rule"], row["output_file"]) for row in rows if row["plan"] == "update pending"}

    def config(self, changes):
        """Change config/config.yaml: ``{"solvers[0].nfe": [2, 4]}``; None takes the key or entry away."""
        path = self.folder / "config" / "config.yaml"
        config = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            change(config, key, value)
        path.write_text(yaml.safe_dump(config, sort_keys=False))

    def append(self, path, text):
        """Add ``text`` to the end of a file."""
        with (self.folder / path).open("a") as file:
            file.write(text)

    def cell(self, name):
        """Folder of a cell, ``ddim/nfe2``."""
        return self.results / "digits-edm" / name

    def contents(self, pattern="results/**/*"):
        """Bytes of the files by path, without the records of what was written (dode/benchmark/records.py)."""
        files = [path for path in sorted(self.folder.glob(pattern)) if path.parent.name != records.FOLDER]
        files = [path for path in files if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


def _copied(source, folder):
    """A copy with links and times, as ``shutil.copytree`` makes it in ten times the time; its place."""
    Path(folder).mkdir(parents=True)
    subprocess.run(["cp", "-a", f"{source}/.", folder], check=True)
    return folder


def _read(folder):
    """A copy of the repository whose code has been compiled and digested, so that its copies need not do it again."""
    folder.mkdir()
    for part in PARTS:
        there = REPOSITORY / part
        copy = shutil.copytree if there.is_dir() and not there.is_symlink() else shutil.copy2
        copy(there, folder / part, **({} if copy is shutil.copytree else {"follow_symlinks": False}))
    compileall.compile_dir(folder / "dode", quiet=2)
    read = digests.Read()
    for path in [*REPOSITORY.glob("dode/**/*.py"), *REPOSITORY.glob("scripts/*.py")]:
        for statement in read.statements(path):
            statement.text(frozenset())
    read.save(folder / digests.KEPT)


def _named(rule, path):
    """``gather ddim/nfe2`` from a rule and one of its files; the name of the rule where it has no cell."""
    match = re.search(r"digits-edm/([^/]+/nfe\d+)/", path)
    return f"{rule} {match[1]}" if match else rule


def change(config, key, value):
    """Set ``config["solvers"][0]["nfe"]`` for the key ``solvers[0].nfe``; an index behind the last adds an entry."""
    *way, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key)]
    for part in way:
        config = config[part]
    if value is None:
        del config[last]
    elif isinstance(config, list) and last == len(config):
        config.append(value)
    else:
        config[last] = value
