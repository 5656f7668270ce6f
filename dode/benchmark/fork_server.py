"""The process that jobs are forked from: ``python -P fork_server.py SOCKET MODULE...``.

SOCKET is the number of an open file, a listening socket; :mod:`dode.benchmark.fork_client` asks there. The process
imports the modules as it is first asked, and nothing of this repository: a job then does as in a Python that has just
started, and imports the code that is there as it begins. It ends with who started it, and a job with the client that
asked for it, or with this process.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import marshal
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds for a client to say what it wants, which it does at once
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def serve(
    listener: socket.socket,
    alive: Any,
    modules: Sequence[str],
    run: Callable[[list[str]], object],
) -> None:
    """Fork for each connection and answer it with the exit status.

    Args:
        listener: where clients ask.
        alive: what becomes readable when who started this process has ended.
        modules: what is imported beforehand. A path that ends in ``.py`` is a file whose ``declare()`` is called.
            What cannot be imported is left to the jobs, which say why.
        run: called in the forked process with the arguments, in the client's folder and environment.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the jobs, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    jobs: dict[int, tuple[Any, socket.socket]] = {}  # by a descriptor that becomes readable as the process ends
    try:
        if alive in multiprocessing.connection.wait([listener, alive]):
            return
        for module in modules:
            with contextlib.suppress(Exception):
                runpy.run_path(module)["declare"]() if module.endswith(".py") else importlib.import_module(module)
        gc.freeze()  # or a collection in a forked process copies every page that has an object
        while True:
            connections = [connection for _, connection in jobs.values()]
            ready = multiprocessing.connection.wait([listener, alive, *jobs, *connections])
            if alive in ready:
                return
            for ended, (process, connection) in list(jobs.items()):
                if connection in ready:  # who asked has been killed
                    _kill(process)
                if {ended, connection} & set(ready):
                    del jobs[ended]
                    os.close(ended)
                    process.join()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(b"%d\n" % process.exitcode)
            if listener in ready:
                with contextlib.suppress(OSError):  # who asked has been killed, or takes its job upon itself
                    _begin(listener, [listener, *connections], run, jobs)
    finally:
        for process, _ in jobs.values():
            _kill(process)
        path = Path(listener.getsockname())
        with contextlib.suppress(OSError):  # where it has been removed, or others are in its folder
            path.unlink()
            path.parent.rmdir()


def _begin(
    listener: socket.socket, held: Sequence[socket.socket], run: Callable[[list[str]], object], jobs: Any
) -> None:
    """Fork for a client and tell it so; OSError where that cannot be done, and then it is told nothing."""
    connection, _ = listener.accept()
    streams: list[int] = []
    process: Any = None
    try:
        connection.settimeout(PATIENCE)
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        if len(streams) < 3:
            raise OSError("it has sent no three streams")
        try:
            asked = marshal.load(connection.makefile("rb"))
        except (EOFError, ValueError, TypeError):
            raise OSError("it has sent something else") from None
        process = multiprocessing.get_context("fork").Process(
            target=_carry_out, args=(os.getpid(), [*held, connection], streams, run, *asked)
        )
        process.start()
        ended = os.pidfd_open(process.pid)
        try:
            connection.sendall(b"begun\n")
        except OSError:
            os.close(ended)
            raise
        connection.settimeout(None)
        jobs[ended] = process, connection
    except OSError:
        if process is not None and process.pid:  # the client, told nothing, does its job itself
            _kill(process)
            process.join()
        connection.close()
        raise
    finally:
        for stream in streams:
            os.close(stream)


def _kill(process: Any) -> None:
    """The process, and its group where it has made one."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _carry_out(
    parent: int,
    held: Sequence[socket.socket],
    streams: Sequence[int],
    run: Callable[[list[str]], object],
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
) -> None:
    """``python *arguments`` in a forked process."""
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # which has ended before that
        os._exit(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for each in held:  # or what this process forks would keep them open
        each.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # What they were opened for may have been a file, and is now a pipe; multiprocessing has closed the input.
    out, err = _opened(1, sys.stdout, line_buffering=os.isatty(1)), _opened(2, sys.stderr, line_buffering=True)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), out.encoding)
    vars(sys).update(stdout=out, __stdout__=out, stderr=err, __stderr__=err)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of TMPDIR, which may be another
    if "numpy" in sys.modules:  # whose global generator would go on from the same state in all
        sys.modules["numpy"].random.seed()
    interrupted = False
    try:
        run(arguments)
    except KeyboardInterrupt:
        interrupted = True
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        threading._shutdown()  # type: ignore[attr-defined] # in this order, as Python does
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _opened(number: int, like: Any, *, line_buffering: bool) -> Any:
    """A standard stream, as Python opens it."""
    buffer = open(number, "wb", closefd=False)  # noqa: SIM115 - until the process ends
    return io.TextIOWrapper(buffer, like.encoding, like.errors, line_buffering=line_buffering)


def run_script(arguments: list[str]) -> None:
    """``python SCRIPT ARGUMENT...``."""
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:0] = [str(Path(arguments[0]).parent), *path]
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin, sys.argv[2:], run_script)
