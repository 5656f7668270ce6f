"""A download in a process of its own, which is ended once it goes beyond what one may take.

Libraries wait inside a system call, or for a server that sends one byte at a time, and then no exception can reach
them. A process can be ended at any moment, and whatever it did ends with it.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

MOST = 20 * 10**9  # bytes of a file whose size is not known beforehand
LEAST, WINDOW = 600_000, 600  # bytes that must arrive within so many seconds; more than all repetitions pause
LONGEST = 24 * 3600  # seconds
MEMORY = 2 * 2**30  # bytes, beyond those of the process that asks for the download
NOTES = 2**20  # bytes that a library may write beside the file
LOOK = 0.2  # seconds between two looks


class Refused(ValueError):
    """The content received is not the file."""


def within_limits(work: Callable[[], None], folder: Path, size: int | None) -> None:
    """Call ``work``, which writes files into ``folder``, in a process of its own (a fork of this one).

    Args:
        work: raises :class:`Refused` or any other exception.
        folder: must be empty. What ``work`` writes elsewhere counts for no limit.
        size: bytes that ``work`` may write, and :data:`NOTES` besides; None: :data:`MOST`.

    Raises:
        Refused: what ``work`` raised, and where it wrote more bytes.
        OSError: what else ``work`` raised; and where less than :data:`LEAST` bytes arrived within :data:`WINDOW`
            seconds, it took more than :data:`LONGEST` seconds or :data:`MEMORY` bytes of memory, or its process died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, sender), daemon=True)
    process.start()
    sender.close()
    try:
        watch = _Watch(folder, size, process.pid or 0)
        while not connection.wait([receiver, process.sentinel], timeout=LOOK):
            watch.look()
        error = receiver.recv()
    except EOFError:
        process.join()
        error = OSError(f"the process of the download died ({_how(process.exitcode)})")
    finally:
        with contextlib.suppress(OSError):
            process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise error
    watch.look_at_size()  # it may have been quick


def _how(status):
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _report(work, sender):
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work()
        error = None
    except (OSError, Refused) as caught:
        # Anew: one of a library may not survive being sent.
        error = Refused(str(caught)) if isinstance(caught, Refused) else OSError(str(caught))
    except Exception as caught:  # of libraries, whose errors are of no common kind
        error = OSError(f"{type(caught).__name__}: {caught}")
    sender.send(error)


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)


@dataclasses.dataclass
class _Watch:
    """What a download has taken so far."""

    folder: Path
    size: int | None
    process: int

    def __post_init__(self) -> None:
        self.began = self.window = time.monotonic()
        self.bytes = self.arrived = 0
        self.memory: int | None = None

    def look(self):
        """Raise where it is beyond a limit."""
        now = time.monotonic()
        self.look_at_size()
        if now - self.window >= WINDOW:
            if self.arrived < LEAST:
                raise OSError(
                    f"too slow: {self.arrived} bytes within {now - self.window:.3g} s, {self.bytes} in all; at least "
                    f"{LEAST} are expected"
                )
            self.window, self.arrived = now, 0
        if now - self.began >= LONGEST:
            raise OSError(f"not complete after {LONGEST} s; {self.bytes} bytes arrived")
        self._look_at_memory()

    def look_at_size(self):
        before, self.bytes = self.bytes, sum(_sizes(self.folder))
        self.arrived += max(self.bytes - before, 0)  # one that starts again begins at nothing
        if self.bytes > (MOST if self.size is None else self.size) + NOTES:
            raise Refused(too_long(self.bytes, self.size))

    def _look_at_memory(self):
        try:
            resident = int(Path(f"/proc/{self.process}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):  # no Linux, or it has just ended
            return
        taken = resident * resource.getpagesize()
        self.memory = taken if self.memory is None else self.memory
        if taken - self.memory > MEMORY:
            raise OSError(f"the answer takes more than {MEMORY} bytes of memory")


def too_long(found: int, size: int | None) -> str:
    """What is wrong with a file of ``found`` bytes, in words; ``size`` is what its card gives, or None."""
    if size is not None:
        return f"is too long: more than the {size} bytes expected"
    return f"is too long: {found} bytes or more, at most {MOST} are taken where the card gives no `size`"


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
