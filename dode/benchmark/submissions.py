"""``sbatch`` for the executor plugin: what it refuses for the moment is submitted again, after growing pauses.

A partition may be drained for a minute, a user's limit of jobs reached, the controller busy. The plugin takes each
refusal for a failure of the job, and all attempts are used up within a second.
"""

import math
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dode import texts

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds between two attempts, doubled from one to the next
PATIENCE = 24 * 3600  # seconds after which a refusal is one after all
SAY_AGAIN = 3600  # seconds after which what has been said may be said once more

#: Words of SLURM that another state of the cluster, or of the user's jobs, will not have.
PASSING = re.compile(
    r"""
    Required\ (partition|node)\ not\ available | Requested\ partition\ configuration\ not\ available\ now
    | Requested\ (nodes\ are\ busy|reservation\ (is\ in\ use|not\ usable\ now))
    | temporarily\ (unable|unavailable) | (in|is)\ standby | Requested\ operation\ is\ presently\ disabled
    | (Max|Grp)SubmitJob
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: Of a limit that is reached; one that the request itself exceeds has the same words, and then a name before them.
LIMIT, NAMED_LIMIT = (
    re.compile("job submit limit"),
    re.compile(r"\b(QOS|Assoc)[A-Za-z]*Limit\b|\bMax[A-Za-z]+PerAccount\b"),
)
#: The answer was lost, and the job may be in the queue.
UNKNOWN = re.compile(
    "timed out|Unable to contact|Zero Bytes|connection (failure|refused|reset)|Message (receive|send) failure",
    re.IGNORECASE,
)


def passes(said: str) -> bool:
    """Whether a later attempt may succeed where ``sbatch`` has failed and said this."""
    if PASSING.search(said) or UNKNOWN.search(said):
        return True
    return bool(LIMIT.search(said)) and not NAMED_LIMIT.search(said)


class Submissions:
    """In the place of the module ``subprocess`` in the plugin: all of it, but ``Popen`` of ``sbatch`` is patient.

    Args:
        module: ``subprocess``.
        warn: is told that SLURM refuses, once for each reason.
        given_up: ends all waiting, by SystemExit.
    """

    def __init__(self, module: ModuleType, warn: Callable[[str], None], given_up: threading.Event) -> None:
        self.module, self.warn, self.given_up = module, warn, given_up
        self.lock = threading.Lock()
        self.said: dict[str, float] = {}
        self.known: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def Popen(self, command: Any, *arguments: Any, **options: Any) -> Any:
        """``subprocess.Popen``."""
        if isinstance(command, str) and command.startswith("sbatch "):
            return _Submission(self, command, options)
        return self.module.Popen(command, *arguments, **options)

    def submit(self, command: str, given: str | None, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Call ``sbatch`` until it accepts the job or refuses it for good."""
        began, pause, lost = time.monotonic(), FIRST_PAUSE, False
        while True:
            found = self._find(command) if lost else ""
            if found:
                return self._accepted(subprocess.CompletedProcess(command, 0, f"{found}\n", ""))
            if found is not None:
                with self.module.Popen(command, **options) as process:
                    out, err = process.communicate(input=given)
                done = subprocess.CompletedProcess(command, process.returncode, out, err)
                if done.returncode == 0:
                    return self._accepted(done)
                lost = bool(UNKNOWN.search(err))
            if not passes(err) or time.monotonic() - began > PATIENCE:
                return done
            self._say(err)
            if self.given_up.wait(pause):
                raise SystemExit("the run has been ended")
            pause = min(2 * pause, LONGEST_PAUSE)

    def _accepted(self, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
        with self.lock:
            self.known.add(done.stdout.strip().split(";")[0])
        return done

    def _say(self, err: str) -> None:
        said, now = texts.shown(" ".join(err.replace("sbatch: error: ", "").split())), time.monotonic()
        with self.lock:
            if now - self.said.get(said, -math.inf) > SAY_AGAIN:
                self.said[said] = now
                self.warn(f"SLURM refuses a job for now ({said}). It is submitted again, with growing pauses.")

    def _find(self, command: str) -> str | None:
        """Id of the job that ``sbatch`` has submitted though its answer was lost; empty without one, None if unknown.

        It has the name of this run and the comment of the rule and its cell, and is none of those known.
        """
        words = shlex.split(command)
        name, comment = (words[words.index(option) + 1] for option in ("--job-name", "--comment"))
        asked = ["squeue", "--noheader", "--sort=i", f"--name={name}", "--format=%i|%k"]
        try:
            found = self.module.run(asked, capture_output=True, encoding="utf-8", errors="replace", timeout=60)
        except (OSError, self.module.TimeoutExpired):
            return None
        if found.returncode:
            return None
        jobs = [line.strip().split("|", 1) for line in found.stdout.splitlines() if "|" in line]
        with self.lock:
            return next((job for job, said in reversed(jobs) if said == comment and job not in self.known), "")


class _Submission:
    """What the plugin uses of a process."""

    def __init__(self, owner: Submissions, command: str, options: dict[str, Any]) -> None:
        self.owner, self.command, self.options = owner, command, options
        self.returncode: int | None = None

    def communicate(self, input: str | None = None) -> tuple[str, str]:
        done = self.owner.submit(self.command, input, self.options)
        self.returncode = done.returncode
        return done.stdout, done.stderr
