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
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    if alive in multiprocessing.connection.wait([listener, alive]):
        return
    for module in modules:
        with contextlib.suppress(Exception):
            runpy.run_path(module)["declare"]() if module.endswith(".py") else importlib.import_module(module)
    gc.freeze()  # or a collection in a forked process copies every page that has an object
    fork = multiprocessing.get_context("fork")
    running: dict[int, tuple[Any, socket.socket]] = {}
    while True:
        connections = [connection for _, connection in running.values()]
        ready = multiprocessing.connection.wait([listener, alive, *running, *connections])
        if alive in ready:
            break
        for sentinel, (process, connection) in list(running.items()):
            if connection in ready:  # who asked has been killed
                _kill(process)
            if {sentinel, connection} & set(ready):
                del running[sentinel]
                process.join()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % process.exitcode)
        if listener in ready:
            connection, _ = listener.accept()
            streams: list[int] = []
            try:
                _, streams, _, _ = socket.recv_fds(connection, 1, 3)
                asked = marshal.load(connection.makefile("rb"))
            except (OSError, EOFError, ValueError, TypeError):  # who asked has been killed as it did
                connection.close()
            else:
                process = fork.Process(target=_carry_out, args=(os.getpid(), streams, run, *asked))
                process.start()
                running[process.sentinel] = process, connection
            for stream in streams:
                os.close(stream)
    for process, _ in running.values():
        _kill(process)
    path = Path(listener.getsockname())
    with contextlib.suppress(OSError):  # where it has been removed, or others are in its folder
        path.unlink()
        path.parent.rmdir()


def _kill(process: Any) -> None:
    """The process, and its group where it has made one."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _carry_out(
    parent: int,
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
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), sys.stdout.encoding)  # multiprocessing has closed it
    # What they were opened for may have been a file, and is now a pipe.
    out, err = _opened(1, sys.stdout, line_buffering=os.isatty(1)), _opened(2, sys.stderr, line_buffering=True)
    vars(sys).update(stdout=out, __stdout__=out, stderr=err, __stderr__=err)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # that of TMPDIR, which may be another
    try:
        run(arguments)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out


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
