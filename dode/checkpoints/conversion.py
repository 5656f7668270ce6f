"""A foreign checkpoint is converted in a process of its own, so that whatever a file does ends with this process.

The reading bounds itself (:mod:`dode.checkpoints.pickles`); the limits here hold whatever it overlooks. The process may
take :data:`MEMORY` bytes and :data:`PER_BYTE` times the file's size of memory beyond what Python and torch take once
they are imported, and :data:`SECONDS` and one second per :data:`RATE` bytes of a CPU's time. Memory is limited where
the system has ``/proc`` (Linux).
"""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from dode.weights.errors import CheckpointError

MEMORY, PER_BYTE = 2**29, 4
SECONDS, RATE = 120, 5_000_000


def limits(size: int) -> tuple[int, int]:
    """Bytes of memory and seconds of CPU time for a file of ``size`` bytes."""
    return MEMORY + PER_BYTE * size, SECONDS + size // RATE


def run(source: str | Path, target: str | Path, about: dict[str, Any]) -> None:
    """Convert in a child process: :func:`dode.checkpoints.convert_here`.

    Raises:
        CheckpointError: what that raised, or in one sentence that the process died and of what.
        OSError: where the result cannot be written.
    """
    request = json.dumps({"source": str(source), "target": str(target), "about": about})
    package = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        # -P: nothing that lies in the working directory is imported.
        [sys.executable, "-P", "-c", f"from {__name__} import {answer.__name__}; {answer.__name__}()"],
        input=request,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    if done.returncode == 0:
        return
    try:
        kind, words = json.loads(done.stdout)
    except ValueError:
        kind, words = "", _death(done, *limits(Path(source).stat().st_size))
    if kind == "OSError":
        raise OSError(*words)
    raise CheckpointError(words if kind == "CheckpointError" else f"{source} (format {about['format']}): {words}")


def _too_much(memory):
    return f"reading it was stopped, as it needs more than {memory // 2**20} MiB of memory"


def _death(done, memory, seconds):
    """Of what the child died, in one sentence."""
    if done.returncode == -signal.SIGXCPU:
        return f"reading it was stopped, as it needs more than {seconds} s of CPU time"
    if any(word in done.stderr for word in ("MemoryError", "bad_alloc", "not enough memory", "Cannot allocate memory")):
        return _too_much(memory)
    if done.returncode < 0:
        return f"the process that read it was ended by {signal.Signals(-done.returncode).name}"
    last = (done.stderr.strip().splitlines() or ["none"])[-1]
    return f"the process that read it ended with status {done.returncode}; its last words: {last[:200]!a}"


def _limit(size):
    memory, seconds = limits(size)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, seconds)
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, used + memory)


def _lower(kind, value):
    """Set a limit, but not above one that is set already."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, hard))


def answer() -> None:
    """What the child does: read a request from the standard input, and write what went wrong to the output."""
    import torch

    from dode import checkpoints
    from dode.checkpoints import persistent  # noqa: F401 - all that is needed is imported before the limits

    request = json.load(sys.stdin)
    torch.set_num_threads(1)
    size = Path(request["source"]).stat().st_size
    _limit(size)
    try:
        checkpoints.convert_here(request["source"], request["target"], request["about"])
    except CheckpointError as error:
        json.dump(["CheckpointError", str(error)], sys.stdout)
    except OSError as error:
        json.dump(["OSError", [error.errno, error.strerror]], sys.stdout)
    except MemoryError:
        json.dump(["MemoryError", _too_much(limits(size)[0])], sys.stdout)
    else:
        return
    sys.stdout.flush()
    os._exit(1)  # nothing is tidied up: memory may be short
