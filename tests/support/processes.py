"""Processes that tests start, and kill."""

import signal
import subprocess
import sys


def started(code, *arguments):
    """A Python process that runs ``code`` and has said "ready" on its standard output; its input ends with ours."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **pipes, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
