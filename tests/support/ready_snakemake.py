"""A process that has imported Snakemake and forks for each run: most of a dry run's time is imports.

It forks before anything of Snakemake has been called, so that a run is that of ``python -m snakemake``; nothing of this
repository has been imported either, so that a run imports a workspace's own copy.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys

IMPORTED = ["jsonschema", "pandas", "snakemake.cli", "snakemake.report.html_reporter", "snakemake_executor_plugin_slurm"]
_started = []


def run(arguments, folder, environment, output, errors, *, timeout):
    """``python -m snakemake`` to its end, in a process group of its own: its exit status.

    Args:
        arguments: of the command line.
        folder: the working directory.
        environment: all environment variables.
        output, errors: paths of the files that standard output and error go to.
        timeout: seconds.

    Raises:
        TimeoutError: the run has taken longer and was killed, with all that it had started.
    """
    if not _started:
        _started.append(_start())
    process = _started[0]
    request = [list(arguments), str(folder), dict(environment), str(output), str(errors)]
    process.stdin.write(json.dumps(request).encode() + b"\n")
    forked = int(process.stdout.readline())
    if not select.select([process.stdout], [], [], timeout)[0]:
        os.killpg(forked, signal.SIGKILL)
    status = int(process.stdout.readline())
    if status == -signal.SIGKILL:
        raise TimeoutError(f"snakemake {arguments}")
    return status


def _start():
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    process = subprocess.Popen([sys.executable, "-P", __file__], env=environment, start_new_session=True, **pipes)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return process


def _become(arguments, folder, environment, output, errors):
    """Let this process be as Python starts it for ``python -m snakemake``."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what is to run in its background without it
    for descriptor, path in ((0, os.devnull), (1, output), (2, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.modules["snakemake.workflow"].Workflow._rundir = folder  # noted as it was imported
    sys.argv = [sys.modules["snakemake"].__file__.replace("__init__", "__main__"), *arguments]


def _serve():
    for name in IMPORTED:
        __import__(name)
    assert not {"dode", "torch"} & set(sys.modules)
    for line in sys.stdin.buffer:
        forked = os.fork()
        if not forked:
            _become(*json.loads(line))
            sys.modules["snakemake.cli"].main()
        os.write(1, b"%d\n" % forked)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))


if __name__ == "__main__":
    _serve()
