"""A ``python`` whose processes are forked from one that has imported what they import: of a short job that is the most.

``executable()`` is called as Python is, with ``-m snakemake ...``, ``-P -c ...`` or a script; with other options it is
Python itself. Before it forks, the process has called nothing of what it has imported, and imported nothing of this
repository: so what runs does as in a Python that has just started, and imports the copy of this repository that it runs
in. It dies with whom it was called by: who kills what was called, and all in its process group, has killed what was
forked, and all that it has started.
"""

import atexit
import os
import sys
import tempfile
from pathlib import Path

import fork_server
import shared
from dode.benchmark import forked_jobs

# It starts in no time. What it is given, its environment and its standard streams go to one of the processes above.
CLIENT = """#!{python} -IS
import os, sys
if sys.argv[1][0] == "-" and sys.argv[1] != "-m" and sys.argv[1:3] != ["-P", "-c"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
sys.path.insert(0, {clients!r})
import fork_client
os.environ[{shared!r}] = {folder!r} + "/{script}"
server = {folder!r} + ("/snakemake" if sys.argv[1:3] == ["-m", "snakemake"] else "/{script}")
sys.exit(fork_client.run(server, [os.path.abspath(sys.argv[0]), *sys.argv[1:]]))
"""
_CLIENTS = str(Path(forked_jobs.__file__).parent)


def executable(script="script"):
    """The path of the ``python``, as long as the tests run; ``script`` is a key of ``fork_server.IMPORTED``."""
    for kind in ("snakemake", script):
        _start(kind)
    client = shared.folder() / f"python-{script}"
    if not client.exists():
        with tempfile.NamedTemporaryFile("w", dir=client.parent, delete=False) as file:
            own = {"python": sys.executable, "clients": _CLIENTS, "shared": forked_jobs.SHARED}
            file.write(CLIENT.format(**own, folder=str(client.parent), script=script))
        os.chmod(file.name, 0o755)
        os.replace(file.name, client)
    return str(client)


def start():
    """Start them all, for the workers of pytest-xdist to share; they import as they are first asked."""
    for kind in fork_server.IMPORTED:
        _start(kind)


def _start(kind):
    path = shared.folder() / kind
    if path.exists():
        return
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    modules, program = fork_server.IMPORTED[kind], Path(fork_server.__file__)
    server = forked_jobs.start(path, modules, program, env=environment, start_new_session=True)
    atexit.register(server.communicate)  # which ends it
