"""A network that is trained in the place of the model's: from the configuration to samples, killed on the way."""

import json
import os
import signal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dode.distillation.task import recorded
from test_interruptions import end, wait_for

CELL = "results/tiny/digits-edm/student/nfe1"
WEIGHTS, SAMPLES = f"{CELL}/prepared/student.safetensors", f"{CELL}/samples.npy"
TRAINING = {"start": 2, "iterations": 200, "batch": 16}
STUDENT = {"id": "student", "solver": "progressive-distillation", "nfe": [1]}
STUDENT |= {"prepare": {"images": 20, "options": TRAINING}}


def test_a_training_that_is_killed_goes_on_to_the_same_weights_and_samples(fresh, tmp_path):
    task = fresh.folder / "dode" / "distillation" / "task.py"
    task.write_text(task.read_text().replace("EVERY = 10.0", "EVERY = 0.1"))
    fresh.config({"solvers[0]": STUDENT})
    other = fresh.copy(tmp_path / "other")
    process = fresh.start(WEIGHTS)
    wait_for(fresh, f"{WEIGHTS}.checkpoint", process)
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    assert not (fresh.folder / WEIGHTS).exists()
    kept = recorded(fresh.folder / f"{WEIGHTS}.checkpoint")["state"]["done"]
    assert 0 < kept < TRAINING["iterations"]
    for workspace in (fresh, other):
        workspace.snakemake(SAMPLES)
        assert not (workspace.folder / f"{WEIGHTS}.checkpoint").exists()
    first, second = (load_file(each.folder / WEIGHTS) for each in (fresh, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert np.array_equal(*(np.load(each.folder / SAMPLES) for each in (fresh, other)))
    with safe_open(fresh.folder / WEIGHTS, framework="pt") as file:
        cost = json.loads(file.metadata()["dode"])["cost"]
    assert (cost["evaluations"], cost["gradients"]) == (3 * 200 * 16, 200 * 16)
    plain = load_file(fresh.folder / "config" / "models" / "digits-edm.safetensors")
    assert not torch.equal(first["stem.weight"], plain["stem.weight"].float())
