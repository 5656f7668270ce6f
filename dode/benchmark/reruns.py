"""Which jobs run again: those whose files were made from something else than is asked for now.

Snakemake decides by times and by records of its own, in ``.snakemake``. Both are lost or wrong once results are copied,
renamed or touched, and a missing record counts as up to date. Here each file's own record decides
(:mod:`dode.benchmark.records`), whatever ``--rerun-triggers`` says; a time is no reason. The rest is Snakemake's: a
file that is missing is made, and what follows from a job that runs runs too.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Never

from dode.benchmark.records import Made, as_input, differences, read

#: The rule whose files a user may lay at their place: known by their contents, and by their checksum if there is one.
LAID_THERE = "fetch_checkpoint"
SHA256 = 64  # digits of a whole one


class Reason:
    """Why a job runs again, in the place of Snakemake's changed parameters."""

    def __init__(self, names: Iterable[str]):
        self.names = sorted(set(names))

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return ", ".join(self.names)

    def __iter__(self) -> Iterator[Never]:
        return iter(())


def is_laid_there(rule: str) -> bool:
    """Whether the files of a rule are known by their contents; another workflow may rename it, to ``dode_...``."""
    return LAID_THERE in rule


class Wanted:
    """What the files of the jobs of a graph are to be made from."""

    def __init__(self, graph: Any, root: Path):
        self.graph, self.root = graph, root
        self.found: dict[Any, Made] = {}
        self.contents: dict[str, str | None] = {}

    def is_ours(self, job: Any) -> bool:
        """Whether a job is of the workflow at ``root``."""
        return _is_below(job.rule.snakefile, self.root)

    def is_recorded(self, job: Any) -> bool:
        """Whether a job writes records of its files: the scripts of this project do (``scripting.execute``)."""
        return job.rule.script is not None and not is_laid_there(job.rule.name) and self.is_ours(job)

    def made(self, job: Any) -> Made:
        """What determines the files of a job; of those that lead to it first, as a graph may be deep."""
        todo = [job]
        while todo:
            last = todo[-1]
            makers = filter(self.is_recorded, self.graph.dependencies[last])
            missing = [each for each in makers if each not in self.found]
            if missing:
                todo += missing
            else:
                self.found[todo.pop()] = self._made(last)
        return self.found[job]

    def _made(self, job: Any) -> Made:
        makers = {str(path): maker for maker, paths in self.graph.dependencies[job].items() for path in paths}
        inputs = {
            name: [self._as_input(path, makers.get(path)) for path in paths] for name, paths in files_of(job.input)
        }
        return Made.of(dict(job.params.items()), inputs)

    def _as_input(self, path: str, maker: Any) -> tuple[str | None, str | None]:
        if path not in self.contents:  # most files are read by several jobs
            self.contents[path] = as_input(path)[1]
        contents = self.contents[path]
        return (self.found[maker].digest if maker is not None and self.is_recorded(maker) else None), contents

    def changes(self, job: Any) -> list[str]:
        """What was another when the files of a job were made; empty where nothing was, or there are no files.

        Raises:
            ValueError: for a rule that makes files without a script, of which there would be no record.
        """
        if not self.is_ours(job):
            return []
        existing = [path for path in job.output if Path(path).is_file()]
        if is_laid_there(job.rule.name):
            wanted, recorded = str(job.params.get("sha256")), [read(path) for path in existing]
            other = [found for found in recorded if found is not None and found["sha256"] != wanted]
            return ["sha256"] if other and len(wanted) == SHA256 else []
        if job.output and job.rule.script is None:
            raise ValueError(
                f"rule {job.rule.name}: it makes files without a script; a script that runs in scripting.execute is "
                "needed, which records what they are made from"
            )
        if not self.is_recorded(job):
            return []
        made, found = self.made(job), []
        for path in existing:
            with contextlib.suppress(FileNotFoundError):  # another run has just taken it away
                found += differences(path, made)
        return found


@functools.cache
def _is_below(file: str, folder: Path) -> bool:
    return Path(file).resolve().is_relative_to(folder.resolve())


def made(job: Any) -> Made:
    """What determines the files that a script writes, from what it was given (``snakemake``)."""
    inputs = {name: [as_input(path) for path in paths] for name, paths in files_of(job.input)}
    return Made.of(dict(job.params.items()), inputs)


def files_of(inputs: Any) -> list[tuple[str, list[str]]]:
    """``(name, paths)`` of a job's or a script's inputs; those without a name are called ``""``."""
    named = {name: getattr(inputs, name) for name in inputs.keys()}  # noqa: SIM118 - a list that knows names
    found = {name: [paths] if isinstance(paths, str) else list(paths) for name, paths in named.items()}
    rest = [str(path) for path in inputs]
    for path in (path for paths in found.values() for path in paths):
        rest.remove(str(path))
    return [(name, [str(path) for path in paths]) for name, paths in found.items()] + ([("", rest)] if rest else [])


def ignore_clocks(graph_class: Any) -> None:
    """Have Snakemake (its class ``DAG``) take files whose inputs are dated later, by another clock or in the future.

    It would fail each job that has made them, whenever it is tried.
    """

    async def no_check(graph: Any, *arguments: Any, **options: Any) -> None:
        """A time decides nothing here."""

    graph_class.check_output_mtime = no_check


def decide_by_records(graph_class: Any, job_class: Any, root: Path) -> None:
    """Have Snakemake's graph of jobs (its classes ``DAG`` and ``Job``) ask the records of this workflow's jobs.

    Args:
        graph_class, job_class: these classes.
        root: the folder of this workflow; the jobs of another one, of which it is a module, are left to Snakemake.
    """
    if hasattr(graph_class.update_needrun, "by_records"):
        return
    from snakemake.exceptions import WorkflowError  # jobs import this module too, and need no Snakemake

    of_this = Wanted(None, root)
    update, oldest = graph_class.update_needrun, job_class.output_mintime

    @functools.wraps(update)
    async def update_needrun(graph: Any, create_inventory: bool = False) -> None:
        """Without Snakemake's inventory of times, which ends a plan where another run takes a file away meanwhile."""
        wanted = Wanted(graph, root)
        try:
            for job in graph.jobs:
                if not graph.finished(job) and (changes := wanted.changes(job)):
                    graph.reason(job).params_changed = Reason(changes)
        except ValueError as error:
            raise WorkflowError(str(error)) from None
        await update(graph)

    async def no_time(job: Any) -> None:
        """A time is no reason to run a job that has records."""

    update_needrun.by_records = True  # type: ignore[attr-defined]
    graph_class.update_needrun = update_needrun
    job_class.output_mintime = property(lambda job: no_time(job) if of_this.is_recorded(job) else oldest.fget(job))
