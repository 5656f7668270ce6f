"""A ``python`` whose processes are forked from one that has imported what they import: of a short job that is the most.

``executable()`` is called as Python is, with ``-m snakemake ...`` or a script. Before it forks, the process has called
nothing of what it has imported, and imported nothing of this repository: so what runs does as in a Python that has
just started, and imports the copy of this repository that it runs in. It dies with whom it was called by: who kills
what was called, and all in its process group, has killed what was forked, and all that it has started.
"""

import atexit
import os
import subprocess
import sys
import tempfile

import fork_server
import shared

# It starts in no time. What it is given, its environment and its standard streams go to one of the processes above.
CLIENT = """#!{python} -IS
import marshal, os, socket, sys
if sys.argv[1].startswith("-") and sys.argv[1] != "-m":  # a child of a job, with options of its own
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({folder!r} + ("/snakemake" if sys.argv[1:3] == ["-m", "snakemake"] else "/{script}"))
socket.send_fds(server, [b"!"], [0, 1, 2])
server.sendall(marshal.dumps((os.path.abspath(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ))))
status = int(server.makefile().readline())
sys.exit(status if status >= 0 else 128 - status)
"""


def executable(script="script"):
    """The path of the ``python``, as long as the tests run; ``script`` is a key of ``fork_server.IMPORTED``."""
    for kind in ("snakemake", script):
        _start(kind)
    client = shared.folder() / f"python-{script}"
    if not client.exists():
        with tempfile.NamedTemporaryFile("w", dir=client.parent, delete=False) as file:
            file.write(CLIENT.format(python=sys.executable, folder=str(client.parent), script=script))
        os.chmod(file.name, 0o755)
        os.replace(file.name, client)
    return str(client)


def start():
    """Start them all, for the workers of pytest-xdist to share; they import as they are first asked."""
    for kind in fork_server.IMPORTED:
        _start(kind)


def _start(kind):
    if (shared.folder() / kind).exists():
        return
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    server = subprocess.Popen(
        [sys.executable, "-P", fork_server.__file__, kind, shared.folder()], env=environment, **options
    )
    atexit.register(server.communicate)  # which ends it
    assert server.stdout.readline() == b"ready\n"
