"""A ``python`` whose processes are forked from one that has imported what they import: of a short job that is the most.

``executable()`` is called as Python is, with ``-m snakemake ...`` or a script. Before it forks, the process has called
nothing of what it has imported, and imported nothing of this repository: so what runs is as a Python that was started
for it, and imports the copy of the workspace that it runs in.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import os
import runpy
import select
import shutil
import signal
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
# This starts in no time. What it is given, its environment and its standard streams go to one of the processes above.
CLIENT = """#!{python} -IS
import marshal, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({folder!r} + ("/snakemake" if sys.argv[1:3] == ["-m", "snakemake"] else "/script"))
socket.send_fds(server, [b"!"], [0, 1, 2])
server.sendall(marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ))))
server.shutdown(socket.SHUT_WR)
status = int(server.makefile().read())
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
    """Fork for each connection; in a process for one, return the command line that is to be carried out."""
    for name in IMPORTED[kind].split():
        importlib.import_module(name)
    assert not {"dode", *["torch"] * (kind == "snakemake")} & set(sys.modules)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(Path(client).with_name(kind)))
    listener.listen()
    gc.freeze()  # or each fork's first collection copies every page that has an object
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            return _accept(connection, client)
        connection.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # what a test that has failed may have left
    with contextlib.suppress(ChildProcessError):
        while os.wait():
            pass
    return None


def _accept(connection, client):
    """Fork once more, wait, and answer with the exit status; in the other process, be as if started by ``client``."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as request:
        arguments, folder, environment = marshal.load(request)
    if forked := os.fork():
        connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))
        return None
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = client
    if arguments[0] == "-m":
        sys.modules["snakemake.workflow"].Workflow._rundir = folder  # noted as it was imported
    return arguments


def _carry_out(arguments):
    """``python *arguments`` in this process."""
    as_module = arguments[0] == "-m"
    own = [os.getcwd() if as_module else str(Path(arguments[0]).parent)]
    sys.path[:0] = [*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments[as_module:]
    if as_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if (todo := _serve(*sys.argv[1:])) is not None:
        _carry_out(todo)
