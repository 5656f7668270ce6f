"""A ``python`` whose processes are forked from one that has imported what they import: of a short job that is the most.

``executable()`` is called as Python is, with ``-m snakemake ...`` or a script. Before it forks, the process has called
nothing of what it has imported, and imported nothing of this repository: so what runs does as in a Python that has
just started, and imports the copy of this repository that it runs in.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import multiprocessing.connection
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

#: What is imported for Snakemake, which does without torch, and for the scripts of its jobs.
IMPORTED = {
    "snakemake": "jsonschema pandas snakemake.cli snakemake.report.html_reporter snakemake_executor_plugin_slurm",
    "script": "jsonschema pandas pooch safetensors.torch scipy.linalg seaborn sklearn.datasets snakemake.script torch",
}
# It starts in no time. What it is given, its environment and its standard streams go to one of the processes above.
CLIENT = """#!{python} -IS
import marshal, os, socket, sys
if sys.argv[1].startswith("-") and sys.argv[1] != "-m":  # a child of a job, with options of its own
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({folder!r} + ("/snakemake" if sys.argv[1:3] == ["-m", "snakemake"] else "/script"))
socket.send_fds(server, [b"!"], [0, 1, 2])
server.sendall(marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ))))
status = int(server.makefile().readline())
sys.exit(status if status >= 0 else 128 - status)
"""


@functools.cache
def executable():
    """The path of the ``python``, which is there as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="dode-"))
    atexit.register(shutil.rmtree, folder)
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, folder=str(folder)))
    client.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    for kind in IMPORTED:
        server = subprocess.Popen([sys.executable, "-P", __file__, kind, client], env=environment, **options)
        atexit.register(server.communicate)  # which ends it
        assert server.stdout.readline() == b"ready\n"
    return str(client)


def _serve(kind, client):
    """Fork for each connection and answer it with the exit status, until the standard input ends."""
    for name in IMPORTED[kind].split():
        importlib.import_module(name)
    assert not {"dode", *["torch"] * (kind == "snakemake")} & set(sys.modules)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(client).with_name(kind)))
    listener.listen()
    gc.freeze()  # or a collection in a forked process copies every page that has an object
    print("ready", flush=True)
    fork, running = multiprocessing.get_context("fork"), {}
    while sys.stdin not in (ready := multiprocessing.connection.wait([listener, sys.stdin, *running])):
        for ended in running.keys() & set(ready):
            process, connection = running.pop(ended)
            process.join()
            with connection, contextlib.suppress(OSError):  # who asked may have been killed
                connection.sendall(b"%d\n" % process.exitcode)
        if listener in ready:
            connection, _ = listener.accept()
            _, streams, _, _ = socket.recv_fds(connection, 1, 3)
            command = marshal.load(connection.makefile("rb"))
            process = fork.Process(target=_carry_out, args=(client, streams, *command))
            process.start()
            running[process.sentinel] = process, connection
            for stream in streams:
                os.close(stream)
    for process, _ in running.values():  # of a test that was interrupted
        process.kill()


def _carry_out(client, streams, arguments, folder, environment):
    """``python *arguments`` in a forked process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = client
    as_module = arguments[0] == "-m"
    own = folder if as_module else str(Path(arguments[0]).parent)
    sys.path[:0] = [own, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments[as_module:]
    if as_module:
        if sys.argv[0] == "snakemake":
            sys.modules["snakemake.workflow"].Workflow._rundir = folder  # noted as it was imported
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _serve(*sys.argv[1:])
