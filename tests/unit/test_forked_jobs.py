"""Jobs that are forked: like those of a Python each, and gone with whoever asked for them."""

import fcntl
import marshal
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dode.benchmark import forked_jobs

CLIENT = Path(forked_jobs.__file__).with_name("fork_client.py")
TELLS = """
import os, sys, tempfile
print(sys.argv, __name__, sys.path[0], os.getcwd(), sorted(os.environ.items()), sys.executable, sys.stdin.read())
print(tempfile.gettempdir(), file=sys.stderr)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors="backslashreplace")
print(sys.stdout.encoding, sys.stderr.errors, sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr)
"""
ENDS = {
    "well": "pass",
    "with a status": "import sys; sys.exit(3)",
    "with a sentence": "import sys; sys.exit('what is wrong')",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "with all that was registered": "import atexit; atexit.register(print, 'at last')",
}
#: Holds a lock for as long as it lives, and says so.
HOLDS = """
import fcntl, sys, time
held = open(sys.argv[1], "a")
fcntl.flock(held, fcntl.LOCK_EX)
print("holds", flush=True)
try:
    time.sleep(1000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


class Server:
    def __init__(self, folder, *modules):
        self.path = folder / "own" / "jobs"
        self.path.parent.mkdir()
        # They share a group, as in a terminal.
        with (folder / "output").open("w") as output:  # where a seek is possible, which it is not in a pipe
            modules = ["not_there", "decimal", *modules]
            self.process = forked_jobs.start(self.path, modules, process_group=0, stdout=output)

    def command(self, script, *arguments):
        return [sys.executable, "-IS", CLIENT, self.path, script, *arguments]

    def begun(self, folder):
        """A client whose job holds a lock on the file ``lock``."""
        script = written(folder, HOLDS)
        command = self.command(script, folder / "lock")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        client = subprocess.Popen(command, process_group=self.process.pid, **pipes)
        assert client.stdout.readline() == "holds\n"
        return client


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path)
    yield found
    found.process.communicate()


def written(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


def wait_until_gone(folder):
    """Wait for the end of the job that holds the lock."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def both(server, folder, text, *arguments, **options):
    """What a script did as a process of its own, and forked."""
    command = [written(folder, text), *arguments]
    options = {"capture_output": True, "text": True, **options}
    return [
        subprocess.run(whole, check=False, **options)
        for whole in ([sys.executable, *command], server.command(*command))
    ]


def test_a_forked_job_has_the_arguments_folder_environment_and_streams_of_a_process(server, tmp_path):
    own = {"LC_ALL": "C.UTF-8", "CAFÉ": "\udcff", "TMPDIR": str(tmp_path)}
    plain, forked = both(server, tmp_path, TELLS, "--one", "2 3", input="typed", cwd=tmp_path, env=own)
    assert (forked.stdout, forked.stderr) == (plain.stdout, plain.stderr)
    assert "typed" in forked.stdout
    assert forked.stderr == f"{tmp_path}\n"


@pytest.mark.parametrize("text", ENDS.values(), ids=ENDS)
def test_it_ends_as_a_process_does(server, tmp_path, text):
    plain, forked = both(server, tmp_path, text)
    shell = plain.returncode if plain.returncode >= 0 else 128 - plain.returncode
    assert (forked.returncode, forked.stdout, forked.stderr) == (shell, plain.stdout, plain.stderr)


def test_an_exception_is_a_traceback(server, tmp_path):
    plain, forked = both(server, tmp_path, "1 / 0")
    assert (plain.returncode, forked.returncode) == (1, 1)
    assert forked.stderr.startswith("Traceback (most recent call last):\n")
    assert forked.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_it_finds_modules_imported_but_none_of_this_repository(server, tmp_path):
    _, forked = both(server, tmp_path, "import sys; print([name in sys.modules for name in ('decimal', 'dode')])")
    assert forked.stdout == "[True, False]\n"


def test_a_job_ends_with_the_client_that_asked_for_it(server, tmp_path):
    client = server.begun(tmp_path)
    client.kill()
    wait_until_gone(tmp_path)
    client.communicate()


def test_a_job_ends_with_the_process_that_forked_it_and_its_client_says_so(server, tmp_path):
    client = server.begun(tmp_path)
    server.process.kill()
    wait_until_gone(tmp_path)
    _, said = client.communicate()
    assert client.returncode == 1
    assert said.startswith("the process that jobs are forked from has ended")


def test_all_ends_with_who_started_it_and_nothing_is_left(server, tmp_path):
    client = server.begun(tmp_path)
    server.process.communicate()
    wait_until_gone(tmp_path)
    client.communicate()
    assert client.returncode != 0
    assert not server.path.parent.exists()


def test_an_interrupt_from_the_terminal_reaches_the_job_alone(server, tmp_path):
    client = server.begun(tmp_path)
    os.killpg(server.process.pid, signal.SIGINT)
    wait_until_gone(tmp_path)
    client.communicate()
    assert server.process.poll() is None


def test_what_ends_by_an_interrupt_says_so(server, tmp_path):
    plain, forked = both(server, tmp_path, "raise KeyboardInterrupt")
    assert (plain.returncode, forked.returncode) == (-signal.SIGINT, 128 + signal.SIGINT)


def test_threads_are_joined_before_what_was_registered(server, tmp_path):
    text = "import atexit, threading, time; atexit.register(print, 'registered')\n"
    text += "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()"
    plain, forked = both(server, tmp_path, text)
    assert forked.stdout == plain.stdout == "thread\nregistered\n"


def test_libraries_have_one_thread_whatever_the_run_has(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    server = Server(tmp_path)
    _, forked = both(server, tmp_path, "print(open('/proc/self/environ').read().split('\\0'))")
    assert "'OPENBLAS_NUM_THREADS=1'" in forked.stdout  # as the process that has imported them was started
    server.process.communicate()


def test_two_jobs_draw_different_numbers_where_they_have_no_seed(tmp_path):
    server = Server(tmp_path, "numpy")
    drawn = {both(server, tmp_path, "import numpy; print(numpy.random.rand())")[1].stdout for _ in range(2)}
    assert len(drawn) == 2
    server.process.communicate()


def test_the_end_of_a_job_does_not_wait_for_what_it_has_forked(server, tmp_path):
    text = """
import os, sys, time
child = os.fork() or time.sleep(1000)
open(sys.argv[1], "w").write(str(child))
"""
    script, number = written(tmp_path, text), tmp_path / "number"
    subprocess.run(server.command(script, number), check=True, timeout=900)
    os.kill(int(number.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_not_taken_for_the_connection(server, tmp_path, closed):
    script = written(tmp_path, f"import sys; print('out'); open({str(tmp_path / 'made')!r}, 'w').write('made')")
    command = " ".join(f"'{part}'" for part in server.command(script))
    assert subprocess.run(f"{command} {closed}", shell=True, check=False).returncode == 0
    assert (tmp_path / "made").read_text() == "made"


def test_a_server_that_can_fork_no_more_leaves_the_job_to_its_client_and_the_others_alone(server, tmp_path):
    client = server.begun(tmp_path)
    _, most = limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (8, most))
    _, own = both(server, tmp_path, "import os; print(os.getppid())")
    assert own.stdout != f"{server.process.pid}\n"
    assert own.returncode == 0
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    _, forked = both(server, tmp_path, "import os; print(os.getppid())")
    assert forked.stdout == f"{server.process.pid}\n"
    assert client.poll() is None
    client.kill()
    client.communicate()


def test_a_server_that_was_never_asked_leaves_nothing(server):
    server.process.communicate()
    assert not server.path.parent.exists()


def test_a_server_that_is_terminated_leaves_nothing(server, tmp_path):
    client = server.begun(tmp_path)
    server.process.terminate()
    server.process.communicate()
    client.communicate()
    wait_until_gone(tmp_path)
    assert not server.path.parent.exists()


def test_a_client_that_is_killed_as_it_asks_leaves_the_others_alone(server, tmp_path):
    whole = marshal.dumps((["-"], str(tmp_path), {}))
    for asked in (b"", b"half", whole):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.path))
            if asked:
                socket.send_fds(connection, [b"!"], [0, 1, 2])
                connection.sendall(asked)
    _, forked = both(server, tmp_path, "import os; print(os.getppid())")
    assert forked.stdout == f"{server.process.pid}\n"


def test_where_no_server_answers_the_client_becomes_the_job(tmp_path):
    command = [sys.executable, "-IS", CLIENT, tmp_path / "none", written(tmp_path, TELLS), "a"]
    done = subprocess.run(command, input="typed", capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"['{tmp_path}/script.py', 'a'] __main__ {tmp_path} ")


class Script:
    """A job's script as Snakemake has it; ``made`` are those that began, with the program that runs them."""

    conda_env = container_img = env_modules = None
    is_local, threads = True, 1

    def __init__(self, path, **own):
        self.local_path = str(path)
        vars(self).update(own)

    def execute_script(self, fname, edit=False):
        self.made.append("own")

    def _execute_cmd(self, command, **values):
        self.made.append(Path(values["client"]).name)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "fork_client.py"),
        ({"conda_env": "env"}, "own"),
        ({"container_img": "img"}, "own"),
        ({"env_modules": "module"}, "own"),
        ({"is_local": False}, "own"),
        ({"threads": 2}, "own"),  # libraries have read how many threads they have
        ({"local_path": "/elsewhere/one.py"}, "own"),
    ],
)
def test_jobs_are_forked_after_the_first_ones_where_they_run_here_and_are_of_this_workflow(
    monkeypatch, tmp_path, own, expected
):
    monkeypatch.delenv(forked_jobs.SHARED, raising=False)
    started = []
    monkeypatch.setattr(forked_jobs, "start", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(forked_jobs.tempfile, "mkdtemp", lambda **options: str(tmp_path))
    made = []
    script_class = type("Other", (Script,), {"made": made})
    forked_jobs.begin(script_class, tmp_path / "scripts")
    for _ in range(forked_jobs.FIRST + 2):
        script_class(tmp_path / "rules" / ".." / "scripts" / "one.py", **own).execute_script("one")
    assert made == ["own"] * forked_jobs.FIRST + [expected] * 2
    assert len(started) == (expected != "own")


@pytest.mark.parametrize(
    ("platform", "gpu", "device", "possible"),
    [
        ("linux", "", "auto", True),
        ("linux", "/dev/nvidiactl", "auto", False),
        ("linux", "/dev/nvidiactl", "cpu", True),
        ("linux", "/dev/kfd", "cuda:0", False),
        ("darwin", "", "cpu", False),
    ],
)
def test_jobs_are_forked_on_linux_where_no_gpu_is_used(monkeypatch, platform, gpu, device, possible):
    monkeypatch.setattr(forked_jobs, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(forked_jobs.os.path, "exists", lambda path: path == gpu)
    assert forked_jobs.are_possible(device) is possible
