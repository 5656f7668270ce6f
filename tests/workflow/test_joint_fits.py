"""Cells that are fitted jointly: run to their scores by the real Snakemake, and killed in the middle of the fit."""

import json
import re

import numpy as np
import pytest

from dode import storage
from dode.benchmark import jobs
from dode.distillation.task import Checkpoint, recorded
from dode.images import pixels
from workspace import REPOSITORY

CHECKPOINT = REPOSITORY / "config" / "models" / "digits-edm.safetensors"
ENDS = "results/tiny/digits-edm/fine-ends/24-seed0.safetensors"
CELLS = {
    "joint/nfe2": {"id": "joint", "solver": "ddim", "nfe": [2], "distill": {"images": 24, "budget": 4000}},
    "lambda/nfe3": {
        "id": "lambda",
        "solver": "ipndm",
        "nfe": [3],
        "distill": {"fit": "joint", "images": 24, "budget": 8000, "family": "lambda", "seed": 0},
    },
}
# What the fit's job does besides: it dies as it replaces its checkpoint for the so manieth time.
DIES = """
import os, signal, sys
left = {times}

def watch(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).endswith("lambdas.json.checkpoint"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""


def path_of(workspace, cell, name):
    return str((workspace.cell(cell) / name).relative_to(workspace.folder))


@pytest.fixture(scope="module")
def joint(once, finished):
    """The tiny benchmark with the scores of two more cells, which are jointly fitted to the same end states."""

    def make(folder):
        workspace = finished.copy(folder)
        workspace.config({f"solvers[{number}]": entry for number, entry in enumerate(CELLS.values(), start=3)})
        planned = {job for job in workspace.plan() if "nfe" in job or job == "fine_ends"}
        text = workspace.snakemake(*(path_of(workspace, cell, "score.json") for cell in CELLS))
        made = re.findall("^Job .*: ", text, flags=re.M)
        storage.write_json(workspace.folder / "made.json", {"planned": sorted(planned), "made": len(made)})

    return once("joint", make)


def test_joint_cells_share_the_end_states_and_run_to_their_scores(joint):
    own = {f"{rule} {cell}" for rule in ("distill", "sample", "gather", "score") for cell in CELLS}
    assert storage.read_json(joint.folder / "made.json") == {
        "planned": sorted(own | {"fine_ends"}),
        "made": len(own) + 1,
    }
    assert set(joint.contents("results/tiny/digits-edm/fine-ends/*")) == {ENDS}
    for cell in CELLS:
        assert np.isfinite(storage.read_json(joint.cell(cell) / "score.json")["metrics"]["fid"]["value"])
        names = {path.name for path in joint.cell(cell).iterdir() if path.is_file()}
        assert names == {"samples.npy", "ends.npy", "states.npy", "environments.json", "score.json", "lambdas.json"}
    assert not {job for job in joint.plan() if job == "fine_ends" or any(cell in job for cell in CELLS)}


@pytest.mark.parametrize("cell", CELLS)
def test_samples_are_those_of_the_fitted_solver(joint, cell):
    folder = joint.cell(cell)
    fit = storage.read_json(folder / "lambdas.json")
    job = jobs.of_cell(fit["cell"], CHECKPOINT, {"device": "cpu", "batch_size": 10})
    student = jobs.read_student(job, folder / "lambdas.json")
    for block in range(2):
        noise = job.latents(range(10), block=block)
        x = student.sample(job.denoise, noise)
        assert np.allclose(storage.read_array(folder / "ends.npy")[10 * block : 10 * (block + 1)], x, atol=1e-5)
        saved = storage.read_array(folder / "samples.npy")[30 * block : 30 * block + 10]
        assert np.abs(pixels.to_bytes(x).astype(int) - saved).max() <= 1
        plain = jobs.read_student(job, None).sample(job.denoise, noise)
        assert (fit["family"] == "plain") == bool(np.allclose(plain, x, atol=1e-5))


def test_a_fit_says_what_became_of_every_family(joint):
    for cell, families in (("joint/nfe2", ["plain", "levels"]), ("lambda/nfe3", ["plain", "lambda"])):
        fit = storage.read_json(joint.cell(cell) / "lambdas.json")
        tried = [rung["family"] for rung in fit["rungs"]]
        assert tried[: len(families)] == families
        assert fit["family"] == [rung["family"] for rung in fit["rungs"] if rung["taken"]][-1]
        budget = CELLS[cell]["distill"]["budget"]
        assert 0 < sum(rung["evaluations"] for rung in fit["rungs"]) <= budget
        directions = 1 if cell.startswith("lambda") else 3
        assert fit["distill"] == {"directions": directions, "fit": "joint", "family": "auto", **CELLS[cell]["distill"]}


def unfinished(joint, folder, times):
    """A copy whose joint fit has been killed as it replaced its checkpoint for the so manieth time."""
    workspace = joint.copy(folder)
    lambdas = workspace.cell("joint/nfe2") / "lambdas.json"
    lambdas.unlink()
    hook = workspace.folder / "sitecustomize.py"
    hook.write_text(DIES.format(times=times))
    status, output, errors = workspace.attempt(path_of(workspace, "joint/nfe2", "lambdas.json"))
    assert status != 0, output + errors
    assert not lambdas.exists()
    hook.unlink()
    return workspace, lambdas, lambdas.with_name("lambdas.json.checkpoint")


def test_a_killed_fit_goes_on_to_the_same_file(joint, folder):
    whole = (joint.cell("joint/nfe2") / "lambdas.json").read_bytes()
    workspace, lambdas, checkpoint = unfinished(joint, folder, 8)
    before = recorded(checkpoint)
    assert any(not part["progress"]["done"] for part in before["state"].values())
    made = {name: json.loads(whole)[name] for name in ("cell", "code", "distill", "teacher")}
    assert json.loads(before["made"]) == made
    workspace.snakemake(path_of(workspace, "joint/nfe2", "lambdas.json"))
    assert lambdas.read_bytes() == whole
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_configuration_is_passed_over(joint, folder):
    """It says that all is done, with other coefficients: a fit that believed it would come to these."""
    whole = (joint.cell("joint/nfe2") / "lambdas.json").read_bytes()
    workspace = joint.copy(folder)
    lambdas = workspace.cell("joint/nfe2") / "lambdas.json"
    lambdas.unlink()
    checkpoint = lambdas.with_name("lambdas.json.checkpoint")
    fit = json.loads(whole)
    made = {name: fit[name] for name in ("cell", "code", "teacher")}
    made["distill"] = {**fit["distill"], "budget": 4001}
    progress = {"z": [9.0] * 8, "best": [9.0] * 8, "error": 0.0, "best_error": 0.0, "damping": 1.0}
    progress |= {"held_out": [0.0] * 6, "iteration": 1, "since": 0, "done": True}
    part = {"progress": progress, "evaluations": 5}
    Checkpoint(checkpoint, json.dumps(made, sort_keys=True)).write({"levels given": part, "levels": part})
    workspace.snakemake(path_of(workspace, "joint/nfe2", "lambdas.json"))
    assert lambdas.read_bytes() == whole
    assert not checkpoint.exists()
