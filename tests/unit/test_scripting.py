"""What jobs share: the GPU that a job takes, inputs that are not what was written, a disk that is full."""

import contextlib
import errno
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from snakemake.iocontainers import InputFiles, Params

import forked_python
from dode import storage
from dode.benchmark import devices, records, scripting

ROOT = Path(__file__).parents[2]
TAKES_A_GPU = """
import sys, tempfile
from types import SimpleNamespace
from dode.benchmark import devices
tempfile.tempdir = sys.argv[1]
cuda = SimpleNamespace(device_count=lambda: 2, get_device_properties=lambda i: SimpleNamespace(uuid=f"uuid-{i}"))
print(devices._free_gpu(cuda), flush=True)
sys.stdin.read()
"""


def started(folder):
    command = [forked_python.executable(), "-P", "-c", TAKES_A_GPU, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_each_job_on_a_machine_takes_a_gpu_of_its_own_while_there_is_one(tmp_path):
    jobs = [started(tmp_path) for _ in range(3)]
    assert [gpu for _, gpu in jobs[:2]] == [0, 1]
    assert jobs[2][1] in (0, 1)
    jobs[0][0].communicate()
    again, gpu = started(tmp_path)
    assert gpu == 0
    for process in (jobs[1][0], jobs[2][0], again):
        process.communicate()


def test_a_device_that_is_named_is_taken(monkeypatch):
    monkeypatch.setattr(devices, "is_here", lambda name: True)
    assert str(devices.device("cuda:1")) == "cuda:1"
    assert str(devices.device("cpu")) == "cpu"


class Job(SimpleNamespace):
    """What a script is given, in ``folder``."""

    def __init__(self, folder, inputs=(), outputs=("out.txt",)):
        super().__init__(
            input=InputFiles([folder / name for name in inputs]),
            output=[folder / name for name in outputs],
            **{"log": [folder / "log.txt"], "rule": "rule", "wildcards": [], "threads": 1, "params": Params()},
        )


def test_what_a_job_writes_is_recorded(tmp_path):
    scripting.execute(lambda job: job.output[0].write_text("done"), Job(tmp_path))
    assert records.damage(tmp_path / "out.txt") is None
    (tmp_path / "out.txt").write_text("fone")
    assert records.damage(tmp_path / "out.txt") == "has other contents than those written"


TAKES_MEMORY = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from snakemake.iocontainers import InputFiles, Params
from dode.benchmark import scripting
folder = Path(sys.argv[1])
job = {"input": InputFiles([]), "output": [folder / "out.txt"], "log": [folder / "log.txt"], "params": Params()}
def main(job):
    job.output[0].write_bytes(np.ones(200 * 2**20, "b")[:1])
    time.sleep(0.01)
scripting.execute(main, SimpleNamespace(rule="rule", wildcards=[], threads=1, **job))
"""


def test_a_job_notes_its_seconds_its_start_and_its_peak_memory_but_not_that_of_who_started_it(tmp_path):
    held, begun = np.ones(600 * 2**20, "b"), time.monotonic()
    subprocess.run([sys.executable, "-c", TAKES_MEMORY, tmp_path], cwd=ROOT, check=True)
    taken, lasted = storage.read_json(tmp_path / "log.json"), time.monotonic() - begun
    assert 200 < taken["memory"] < held.nbytes / 2**20
    assert taken["seconds"] >= 0.01
    assert taken["start"] > 0.01
    assert taken["seconds"] + taken["start"] < lasted + 0.02  # the system counts a start in hundredths


def test_a_job_that_fails_notes_nothing(tmp_path):
    job = Job(tmp_path)
    scripting.execute(lambda job: job.output[0].write_text("done"), job)
    taken = Path(job.log[0]).with_suffix(".json")
    assert taken.exists()
    with pytest.raises(SystemExit):
        scripting.execute(lambda job: 1 / 0, job)
    assert not taken.exists()


@pytest.mark.parametrize(
    ("run", "owner", "works"),
    [("1 on a", "1 on a", True), ("1 on a", "2 on a", False), ("1 on a", "", True), (None, "2 on a", True)],
    ids=["of this run", "of a killed run", "while a run begins", "of another executor"],
)
def test_a_job_of_a_killed_run_that_the_next_one_could_not_wait_for_does_nothing(
    tmp_path, monkeypatch, run, owner, works
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(scripting.RUN, raising=False)
    if run is not None:
        monkeypatch.setenv(scripting.RUN, run)
    Path(".snakemake").mkdir()
    Path(scripting.RUN_LOCK).write_text(owner)
    with contextlib.nullcontext() if works else pytest.raises(SystemExit):
        scripting.execute(lambda job: job.output[0].write_text("done"), Job(tmp_path))
    assert (tmp_path / "out.txt").exists() == (tmp_path / "log.txt").exists() == works


def test_a_link_at_the_path_of_a_log_is_not_followed(tmp_path):
    for name in ("log.txt", "log.json"):
        (tmp_path / f"outside-{name}").write_text("mine")
        (tmp_path / name).symlink_to(tmp_path / f"outside-{name}")
    scripting.execute(lambda job: job.output[0].write_text("done"), Job(tmp_path))
    assert {(tmp_path / f"outside-{name}").read_text() for name in ("log.txt", "log.json")} == {"mine"}
    assert not (tmp_path / "log.txt").is_symlink()


def test_what_others_wrote_is_escaped_on_the_terminal_and_in_the_log_which_is_utf8(tmp_path, capsys):
    def fail(job):
        scripting.logging.getLogger("fetch").warning("reason: \x1b]0;λ\x07")
        raise OSError("404 \x1b[2J\nnext line")

    root = scripting.logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with pytest.raises(SystemExit):
            scripting.execute(fail, Job(tmp_path))
    finally:
        root.handlers = handlers
    said, log = capsys.readouterr().err, (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert said.startswith(r"rule: OSError: 404 \x1b[2J\nnext line (see ")
    assert r"reason: \x1b]0;λ\x07" in log
    assert "\x1b" not in log + said
    assert "Traceback" in log


def test_a_damaged_input_fails_the_job_before_it_starts(tmp_path, capsys):
    scripting.execute(lambda job: job.output[0].write_text("done"), Job(tmp_path))
    (tmp_path / "out.txt").write_text("don")
    with pytest.raises(SystemExit):
        scripting.execute(lambda job: pytest.fail("it started"), Job(tmp_path, ["out.txt"], ["next.txt"]))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "rule: DamagedError: " in said
    assert "has 3 bytes, but 4 were written. Set aside (.damaged); before anything else, make it again: " in said
    assert (tmp_path / "out.txt.damaged").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OSError(errno.EDQUOT, "quota")])
def test_a_job_that_finds_the_disk_full_waits_for_room_before_it_fails(tmp_path, monkeypatch, error):
    free, slept = iter([0, 0, 2**40]), []
    monkeypatch.setattr(scripting.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(scripting.time, "sleep", slept.append)

    def fail(job):
        raise error

    with pytest.raises(SystemExit):
        scripting.execute(fail, Job(Path(tmp_path)))
    assert len(slept) == 2
