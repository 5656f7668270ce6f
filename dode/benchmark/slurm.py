"""SLURM as the workflow needs it: jobs that a killed run left behind, and mended gaps of Snakemake's executor plugin.

The plugin (snakemake-executor-plugin-slurm 2.8.0) loses all jobs, and waits for ever, once every attempt of one query
of their status has failed; an account that cannot be looked up, or a controller that is down or refuses for a moment,
fails a job; a node that failed once is avoided for the rest of the run; an interrupt leaves jobs in the queue that were
being asked about or submitted just then; of a job that was killed nothing is shown. Here a query that fails is one
without news, said aloud.
"""

import contextlib
import functools
import getpass
import importlib
import importlib.metadata
import logging
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from dode import texts
from dode.benchmark.submissions import Submissions

PLUGIN = "snakemake_executor_plugin_slurm"
VERSION = "2.8.0"
PREFIX = "dode"  # of the names of our jobs (slurm-jobname-prefix in profiles/slurm)
SAY_EVERY = 60  # seconds between two warnings of one kind
ASK_EVERY = 5  # seconds between two attempts to reach the controller
LAST_LINES = 60  # of SLURM's log of a job that failed; two Snakemakes have their say in it
LOST_AFTER = 600  # seconds after which a job that SLURM no longer knows is taken for failed
STOPPED_AFTER = 60  # seconds after which one that is to start again, and by the controller has ended, is too
TO_START_AGAIN = {"NODE_FAIL", "PREEMPTED"}  # the plugin waits for SLURM to do so, as slurm-requeue asks for
ENDED = {"COMPLETED", "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def _answer(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} does not answer") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"SLURM's command {command[0]} is not on the PATH of this machine") from None


def leftovers(folder: Path) -> list[str]:
    """Ids of this user's jobs, queued or running, that a run in ``folder`` submitted.

    Raises:
        OSError: where SLURM does not answer.
    """
    found = _answer("squeue", "--noheader", "--user", getpass.getuser(), "--format=%i|%j|%Z")
    if found.returncode:
        raise OSError(f"squeue: {found.stderr.strip()}")
    jobs = [line.strip().split("|", 2) for line in found.stdout.splitlines() if line.count("|") >= 2]
    here = Path(folder).resolve()
    return [job for job, name, where in jobs if name.startswith(f"{PREFIX}_") and Path(where).resolve() == here]


def cancel_leftovers(folder: Path, say: Callable[[str], None]) -> None:
    """Cancel what :func:`leftovers` finds, and wait until it is gone: the new run submits those jobs again."""
    jobs = leftovers(folder)
    if not jobs:
        return
    say(f"Cancelling {len(jobs)} jobs that a killed run has left behind: {', '.join(jobs)}")
    silence, pause = _Seldom(), 1
    while jobs:
        silence.say(say, f"Waiting for {', '.join(jobs[:10])} to end, for {{minutes}} so far")
        with contextlib.suppress(OSError):  # busy for a moment; what is still there is asked for again
            cancel(jobs)
        time.sleep(pause)
        pause = min(2 * pause, 30)
        with contextlib.suppress(OSError):
            jobs = leftovers(folder)


def cancel(jobs: list[str]) -> None:
    """Ask SLURM to end these jobs."""
    for start in range(0, len(jobs), 500):
        _answer("scancel", *jobs[start : start + 500])


def is_here() -> bool:
    """Whether this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


class _Seldom:
    """Say a thing at most once in ``SAY_EVERY`` seconds, with the time since it began."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.said: float | None = None

    def over(self) -> None:
        """It is over."""
        self.since = self.said = None

    def say(self, warn: Callable[[str], None], sentence: str) -> None:
        """``sentence`` takes the minutes that it has lasted."""
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        if self.said is None or now - self.said >= SAY_EVERY:
            self.said = now
            warn(sentence.format(minutes=f"{(now - self.since) / 60:.0f} min"))


States = dict[str, str]  # of jobs by their ids


class Status:
    """A query of jobs' states that never fails: the accounting's, or else the controller's, or else no news.

    Called as the plugin's ``query_job_status``, which it wraps. A job that it once calls failed for want of a better
    answer (``given_up``) is failed for good: Snakemake has submitted another in its place by the next query, and the
    plugin heeds that one's id alone. Should SLURM have the old one again after all (an administrator requeues it, the
    controller finds it once more), it is cancelled, lest two jobs write the same files.
    """

    def __init__(
        self,
        query: Callable[[str, logging.Logger], Awaitable[tuple[States | None, float | None]]],
        squeue: Callable[[str], str],
    ) -> None:
        self.query, self.squeue = query, squeue
        self.silence, self.returning = _Seldom(), _Seldom()
        self.states: States = {}
        self.missing: dict[str, float] = {}
        self.stopped: dict[str, float] = {}
        self.given_up: set[str] = set()

    async def __call__(self, command: str, logger: logging.Logger) -> tuple[States, float | None]:
        """``(states by job id, seconds)``."""
        states, seconds = await self.query(command, logger)
        by_controller = command.split()[0] == "squeue"
        if states is None and not by_controller:
            states, seconds = await self.query(self._to_the_controller(command), logger)
            by_controller = True
        if states is None:
            self.silence.say(
                logger.warning,
                "SLURM has not reported on its jobs for {minutes} (neither sacct nor squeue answers). They keep "
                "running, and it will be asked again.",
            )
            return {}, 0.0
        self.silence.over()
        # sacct says by whom a job was cancelled: "CANCELLED by 1000".
        self.states |= {job: state.split()[0].rstrip("+") for job, state in states.items() if state}
        found = {job: self.states[job] for job in states if job in self.states}
        self._cancel_returning(found, logger)
        if by_controller:
            self._give_up_lost(found, logger)
        stopped = self._stopped(found)
        if stopped and not by_controller:
            # The accounting may be behind: a job that is in the queue again must not be submitted a second time.
            said, _ = await self.query(self._to_the_controller(command), logger)
            stopped = [] if said is None else [job for job in stopped if said.get(job, found[job]) in TO_START_AGAIN]
        for job in stopped:
            logger.warning(f"SLURM does not restart job {job} ({found[job]}); Snakemake does.")
            self.given_up.add(job)
        return found | dict.fromkeys(self.given_up, "FAILED"), seconds

    def _to_the_controller(self, command: str) -> str:
        """The same question for ``squeue``."""
        words = shlex.split(command)
        return shlex.join(shlex.split(self.squeue(words[words.index("--name") + 1])))

    def _give_up_lost(self, states: States, logger: logging.Logger) -> None:
        """The controller forgets ended jobs (MinJobAge): one that ended unseen failed, as far as one can know."""
        now = time.monotonic()
        unended = {job for job, state in self.states.items() if state not in ENDED} - self.given_up
        for job in sorted(unended - set(states)):
            if now - self.missing.setdefault(job, now) > LOST_AFTER:
                logger.warning(f"SLURM no longer knows job {job}; it is run again.")
                self.given_up.add(job)
        for job in states:
            self.missing.pop(job, None)

    def _stopped(self, states: States) -> list[str]:
        """Jobs that lost their node or their place a while ago, and are not said to be in the queue again."""
        now = time.monotonic()
        waiting = {job for job, state in states.items() if state in TO_START_AGAIN} - self.given_up
        self.stopped = {job: self.stopped.get(job, now) for job in sorted(waiting)}
        return [job for job, since in self.stopped.items() if now - since > STOPPED_AFTER]

    def _cancel_returning(self, states: States, logger: logging.Logger) -> None:
        """At every query that finds them in the queue or at work: SLURM may not have answered, or start them again."""
        gone = ENDED | TO_START_AGAIN | {"COMPLETING"}
        jobs = [job for job in sorted(self.given_up) if states.get(job, "FAILED") not in gone]
        if not jobs:
            return self.returning.over()
        sentence = f"SLURM has restarted jobs that Snakemake had resubmitted; they are cancelled: {', '.join(jobs)}"
        self.returning.say(logger.warning, sentence)
        with contextlib.suppress(OSError):
            cancel(jobs)


@functools.cache
def has_accounting() -> bool:
    """Whether ``sacct`` answers; without, the plugin would ask it in vain ten times for every job that failed."""
    try:
        return _answer("sacct", "--noheader", "--starttime=now", "--format=JobID").returncode == 0
    except OSError:
        return False


def wait_for_controller(warn: Callable[[str], None], given_up: threading.Event | None = None) -> None:
    """Return once the controller answers, and say that one waits; SystemExit once the event ``given_up`` is set."""
    silence, given_up = _Seldom(), given_up or threading.Event()
    while True:
        if given_up.is_set():
            raise SystemExit("the run has been ended")
        try:
            if " UP" in _answer("scontrol", "ping").stdout:
                return
        except TimeoutError:
            pass
        silence.say(warn, "SLURM's controller has not answered for {minutes}; jobs will be submitted once it does.")
        given_up.wait(ASK_EVERY)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C: Snakemake's own handler waits for jobs, and the caller has none yet."""
    kept = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)


def last_lines(path: Path | None) -> str:
    """The end of SLURM's own log of a job, which says how it was ended where nothing else could; empty without one.

    Snakemake shows no log that comes after an empty one, and a job that is killed leaves its own empty.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []
    except OSError:
        return ""
    lines = [texts.shown(line, lines=True) for line in lines if line.strip()][-LAST_LINES:]
    return "\n".join([f"The end of SLURM's log ({path}):", *(f"    {line}" for line in lines)]) if lines else ""


def check(settings: Any) -> None:
    """Refuse a run that might lose its jobs.

    Another version of the plugin is refused, and not run unmended: unmended, a failed query makes it lose its jobs and
    wait for ever; mended, it may fail halfway, where its inside has changed.

    Args:
        settings: the plugin's.

    Raises:
        ValueError: for another version than the mended one, and for names of jobs by which the next run would not find
            them.
    """
    package = PLUGIN.replace("_", "-")
    found = importlib.metadata.version(package)
    if found != VERSION:
        raise ValueError(
            f"{package} {found} is installed, but dode/benchmark/slurm.py supports only {VERSION}: "
            f"python -m pip install {package}=={VERSION}"
        )
    if settings.jobname_prefix != PREFIX:
        raise ValueError(f"slurm-jobname-prefix: '{settings.jobname_prefix}' is not allowed; allowed: {PREFIX}")


def mend(logger: logging.Logger) -> None:
    """Mend the plugin, of the version that :func:`check` lets pass, in this process."""
    plugin: Any = importlib.import_module(PLUGIN)
    if isinstance(plugin.query_job_status, Status):
        return
    plugin.query_job_status = Status(plugin.query_job_status, plugin.query_job_status_squeue)
    submit, request, given_up = plugin.get_submit_command, plugin.set_gres_string, threading.Event()
    report = plugin.Executor.report_job_error
    plugin.subprocess = Submissions(plugin.subprocess, logger.warning, given_up)

    @functools.wraps(submit)
    def submit_once_up(job: Any, params: Any, settings: Any = None, failed_nodes: Any = None, **options: Any) -> str:
        wait_for_controller(logger.warning, given_up)
        # SLURM itself keeps jobs off nodes that are down, and puts them on again once they are up.
        return submit(job, params, settings=settings, failed_nodes=None, **options)

    @functools.wraps(request)
    def request_gpus(job: Any) -> str:
        option, count = job.resources.get("gpu_option"), job.resources.get("gpu")
        if not option:
            return request(job)
        return f" {shlex.quote(option.format(gpu=count))}" if count else ""

    @functools.wraps(report)
    def report_with_last_lines(executor: Any, job_info: Any, msg: str | None = None, **kwargs: Any) -> None:
        lines = last_lines((job_info.aux or {}).get("slurm_logfile"))
        report(executor, job_info, msg="\n".join(filter(None, [msg, lines])) or None, **kwargs)

    def cancel_jobs(executor: Any, active_jobs: list[Any]) -> None:
        given_up.set()
        executor._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        try:
            cancel(leftovers(Path.cwd()))
        except OSError as error:
            logger.warning(f"Jobs keep running: SLURM cannot be asked to cancel them ({error}). The next run will.")

    plugin.get_submit_command, plugin.set_gres_string = submit_once_up, request_gpus
    plugin.Executor.cancel_jobs = cancel_jobs
    plugin.Executor.report_job_error = report_with_last_lines
    plugin.Executor.get_status_command = lambda executor: "sacct" if has_accounting() else "squeue"
    # An account that does not exist is refused by sbatch, in words; one that cannot be looked up must not fail a job,
    # and none is guessed from earlier jobs.
    plugin.validate_account = lambda account, logger: account
    plugin.get_account = lambda logger: None
