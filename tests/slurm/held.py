"""A run on the cluster that is stopped at a moment of one's choice, so that something can happen to it."""

import json
import os
import signal
import time

import watch
from cluster import ENDED, LAST_RESORT
from site_files import COMMAND

TABLE = "results/tiny/table.csv"
CELL = "ddim/nfe2"
SAMPLE = f"sample/digits-edm/{CELL}"


class HeldRun:
    """A workspace in which one cell is missing, and the run that makes it again; a context.

    ``script`` and ``open``: it is held where this script, by the beginning of its log's path, writes such a file.
    """

    def __init__(self, workspace, cluster, script=SAMPLE, open=".ends.npy", do="hold", **options):
        self.workspace, self.cluster, self.folder = workspace, cluster, workspace.folder
        self.fault = {"script": script, "open": open, "do": do, **options}
        self.process = None
        self.said = ""

    def __enter__(self):
        self.began = time.monotonic()
        (self.folder / watch.FAULT).write_text(json.dumps(self.fault))
        self.start()
        return self

    def __exit__(self, *exception):
        self.release()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()

    def start(self):
        self.process = self.workspace.start(TABLE, *COMMAND)

    def held(self):
        """Its job's id, once it is held ("None": it is none of the cluster's)."""
        path = self.folder / watch.HELD
        self.until(path.exists)
        return path.read_text().split()[-1]

    def until(self, predicate):
        """Wait for it while the run lasts."""
        deadline = time.monotonic() + LAST_RESORT
        while not predicate():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it did not come: {self.process.poll()} {self.hear()[-5000:]}")
            time.sleep(0.2)

    def until_said(self, words):
        """Wait until the run has logged these words."""
        logs = self.folder / ".snakemake" / "log"
        self.until(lambda: any(words in path.read_text() for path in logs.glob("*.log")))

    def hear(self):
        """What the run has said, once it has ended or is made to."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        output, errors = self.process.communicate()
        return output + errors

    def release(self):
        (self.folder / watch.FAULT).unlink(missing_ok=True)

    def ended(self, job):
        """The job's state, once it is a last one, or it waits again."""
        return self.cluster.wait_until(lambda: self.state(job) in {*ENDED, "PENDING"} and self.state(job))

    def state(self, job):
        return self.cluster.job(job)["state"]

    def end(self):
        """The run's exit status; what it has said is in ``said``."""
        output, errors = self.process.communicate(timeout=LAST_RESORT)
        self.said = output + errors
        self.seconds = time.monotonic() - self.began
        return self.process.returncode

    def jobs(self):
        """The cluster's jobs of this workspace."""
        return [job for job in self.cluster.jobs() if job["workdir"] == str(self.folder)]

    def check(self, local):
        """The table and arrays are those of the undisturbed run, and nothing is left: jobs, halves, damaged files."""
        assert (self.folder / TABLE).read_bytes() == (local.folder / TABLE).read_bytes()
        assert self.workspace.contents("results/**/*.npy") == local.contents("results/**/*.npy")
        assert {job["state"] for job in self.jobs()} <= ENDED
        assert not list(self.workspace.results.rglob("*.npy.????????*"))
        check_never_twice_at_once(self.folder, self.cluster)


def check_never_twice_at_once(folder, cluster):
    """No two scripts of one log, which is to say of one rule and cell, were at work at one time."""
    latest = {}
    for script in sorted(watch.journal(folder), key=lambda script: script["began"]):
        before = latest.get(script["log"])
        if before and before["SLURM_JOB_ID"] != script["SLURM_JOB_ID"]:  # a job that SLURM has started again is one
            assert _end(before, cluster) <= script["began"] + 0.5, script["log"]
        latest[script["log"]] = script


def _end(script, cluster):
    """Of one that was killed, the end of its job, to the second."""
    if script["ended"]:
        return script["ended"]
    shown = cluster.command("scontrol", "show", "job", "--oneliner", script["SLURM_JOB_ID"])
    words = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    return time.mktime(time.strptime(words["EndTime"], "%Y-%m-%dT%H:%M:%S"))
