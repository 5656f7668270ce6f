"""Stands for a job that is forked elsewhere: ``python -IS fork_client.py SOCKET SCRIPT``.

Gives :mod:`dode.benchmark.fork_server` what a process has (arguments, folder, environment, standard streams) and ends
as the job does. Where no server answers, it becomes the job itself. It imports next to nothing, to start in no time.
"""

import marshal
import os
import signal
import socket
import sys
from collections.abc import Sequence


def run(server: str, arguments: Sequence[str]) -> int:
    """Have ``python *arguments`` run by the server at this socket.

    Returns:
        The exit status, that of a shell where a signal has ended the job.

    Raises:
        OSError: where no server takes the job, which then has not begun.
    """
    for number in range(3):  # or the connection would take the place of a stream that is closed
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    socket.send_fds(connection, [b"!"], [0, 1, 2])
    connection.sendall(marshal.dumps((list(arguments), os.getcwd(), dict(os.environ))))
    answers = connection.makefile()
    if answers.readline() != "begun\n":
        raise OSError("the server could not take it")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback of its own
    answer = answers.readline()
    if not answer:
        print(f"the process that jobs are forked from has ended, and with it {arguments[0]}", file=sys.stderr)
        return 1
    status = int(answer)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    try:
        ended = run(sys.argv[1], sys.argv[2:])
    except OSError:
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    sys.exit(ended)
