"""A bad checkpoint, a failing job."""

import hashlib
import os
import time

TABLE = "results/tiny/table.csv"
BROKEN = '''"""A solver whose images are not numbers."""

from dode.solvers.base import Proposal, solver


@solver("broken", order=1)
def broken(denoise, x, sigmas):
    """NaN after each evaluation."""
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        denoised = denoise(x, sigma)
        x = yield Proposal(x * float("nan"), sigma_next, denoised)
'''


def test_corrupt_checkpoint_is_refused_with_its_url_and_both_digests(fresh):
    path = fresh.folder / "config/models/digits-classifier.safetensors"
    content = bytearray(path.read_bytes())
    right = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status, _, errors = fresh.attempt("resources/checkpoints/digits-classifier/digits-classifier.safetensors")
    assert status != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("fetch_checkpoint/digits-classifier/")]
    for part in ("file:digits-classifier.safetensors", right, hashlib.sha256(content).hexdigest()):
        assert part in line
    assert not fresh.contents("resources/**/*")
    assert not fresh.contents("resources/**/.*")


def test_failing_job_names_rule_and_cell_in_one_line_and_keeps_what_is_finished(workspace):
    (workspace.folder / "dode/solvers/broken.py").write_text(BROKEN)
    workspace.config({"solvers[3]": {"id": "worse", "solver": "broken", "nfe": [2]}})
    before = {
        path: content
        for path, content in workspace.contents().items()
        if "/logs/" not in path and "/figures/" not in path
    }
    status, _, errors = workspace.attempt()
    assert status != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("sample/digits-edm/worse/2/0/1: ")]
    assert "NonFiniteError" in line
    assert "30 of" not in line  # a batch holds 10 images
    assert "results/tiny/logs/sample/digits-edm/worse/nfe2/0-of-1.log" in line
    assert {
        path: content
        for path, content in workspace.contents().items()
        if "/logs/" not in path and "/figures/" not in path
    } == before
    assert "Traceback" in (workspace.results / "logs/sample/digits-edm/worse/nfe2/0-of-1.log").read_text()


def test_a_job_that_refuses_its_input_is_not_tried_again_and_is_the_last_word(workspace):
    samples, table = workspace.cell("ddim/nfe2") / "samples.npy", (workspace.results / "table.csv").read_bytes()
    content = bytearray(samples.read_bytes())
    content[-1] ^= 1
    samples.write_bytes(content)
    (samples.parent / "score.json").unlink()
    status, _, errors = workspace.attempt("--retries", "2")
    assert status != 0
    path = samples.relative_to(workspace.folder)
    assert "Trying to restart" not in errors
    assert len([line for line in errors.splitlines() if line.startswith("score/digits-edm/ddim/2: DamagedError")]) == 1
    assert errors.splitlines()[-1] == (
        f"{path}: not what was written; set aside (.damaged). No job that needs it was tried again: before anything "
        f"else, make it again: the command of the run, and after it -- {path}"
    )
    workspace.snakemake(str(path))
    workspace.snakemake(TABLE)
    assert (workspace.results / "table.csv").read_bytes() == table


def test_files_dated_in_the_future_fail_no_job(workspace):
    """By another machine's clock, or as they were copied."""
    table = (workspace.results / "table.csv").read_bytes()
    cell, tomorrow = workspace.cell("ddim/nfe2"), time.time() + 86400
    for name in ("samples.npy", "ends.npy", "score.json"):
        (cell / name).unlink()
    (workspace.results / "table.csv").unlink()
    for path in (workspace.folder / "resources").rglob("*.safetensors"):
        os.utime(path, (tomorrow, tomorrow))
    workspace.snakemake("--until", "sample", "--notemp")
    for path in (cell / "shards").glob("*"):
        os.utime(path, (tomorrow, tomorrow))
    workspace.snakemake(TABLE)
    assert (workspace.results / "table.csv").read_bytes() == table
    assert workspace.plan(TABLE) == set()
