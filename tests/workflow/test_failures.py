"""A bad checkpoint, a failing job."""

import hashlib

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
