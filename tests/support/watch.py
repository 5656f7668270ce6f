"""What the scripts of a workspace's jobs do, and how they are held or made to fail; ``install`` puts it there.

The workspace's folder is on its jobs' PYTHONPATH, and Python imports a ``sitecustomize`` that it finds there. The copy
of this file is one: it writes a line to ``journal`` where a script begins and ends, and does to a script what
``fault.json`` says, ``{"script": "sample", "open": "ends.npy", "do": "hold"}``, once it writes a file of that name.
"""

import atexit
import json
import os
import shutil
import sys
import time
from pathlib import Path

FAULT, HELD, JOURNAL = "fault.json", "held", "journal"
FIELDS = ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")


def install(folder):
    shutil.copy2(__file__, Path(folder) / "sitecustomize.py")


def journal(folder):
    """A dictionary each time that a script ran: log, began, ended (None: it was killed), and ``FIELDS``."""
    found = {}
    lines = (Path(folder) / JOURNAL).read_text().splitlines() if (Path(folder) / JOURNAL).exists() else []
    for line in map(json.loads, lines):
        found.setdefault((line["process"], line["log"]), {"began": line["time"], **line})["ended"] = line["ended"]
    return list(found.values())


class _Watch:
    def __init__(self, folder):
        self.folder, self.log, self.busy = folder, None, False

    def note(self, ended):
        line = {"log": self.log, "process": os.getpid(), "time": time.time(), "ended": ended and time.time()}
        with (self.folder / JOURNAL).open("a") as file:
            file.write(json.dumps({**line, **{name: os.environ.get(name) for name in FIELDS}}) + "\n")

    def __call__(self, event, arguments):
        if event != "open" or self.busy or not isinstance(arguments[0], str) or arguments[1] not in ("w", "wb"):
            return
        path, self.busy = arguments[0], True
        try:
            if self.log is None and "/logs/" in path and path.endswith(".log"):
                self.log = path.split("/logs/")[1]
                self.note(None)
                atexit.register(self.note, True)
            elif self.log is not None:
                self.fault(path)
        finally:
            self.busy = False

    def fault(self, path):
        try:
            wanted = json.loads((self.folder / FAULT).read_text())
        except FileNotFoundError:
            return
        if wanted["open"] in path and self.log.startswith(wanted["script"]):
            getattr(self, wanted["do"])(wanted)

    def hold(self, wanted):
        """Until the file is removed."""
        with (self.folder / HELD).open("a") as file:
            file.write(f"{os.environ.get('SLURM_JOB_ID')}\n")
        while (self.folder / FAULT).exists():
            time.sleep(0.2)

    def take_memory(self, wanted):
        """In the first attempt alone."""
        (self.folder / FAULT).unlink()
        taken = b"1" * wanted["bytes"]
        time.sleep(3600)  # it is ended before
        del taken


if __name__ == "sitecustomize" and os.path.basename(sys.orig_argv[-1]).startswith("tmp"):
    sys.addaudithook(_Watch(Path(__file__).parent))
