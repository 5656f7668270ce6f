"""Cells whose coefficients are fitted in other ways than the default, run to their scores."""

import json
import re

import numpy as np
import pytest

LOCAL = {"alignment": "local", "teacher": "heun", "directions": {"differences": 1, "outputs": "both"}}
CELLS = {
    "local": {"solver": "ddim", "nfe": [3], "distill": {"fit": "greedy", "images": 16, "substeps": 3, **LOCAL}},
    "refined": {
        "solver": "heun",
        "nfe": [3],
        "distill": {"fit": "refined", "images": 16, "substeps": 3, "directions": 2, "iterations": 2},
    },
}


def jobs_of(cell, *rules):
    return {f"{rule} {cell}" for rule in rules}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_another_fit_runs_to_its_score(workspace, name):
    """A local fit has its teacher with it: there is no trajectory to make, and its code follows the teacher's."""
    cell = f"{name}/nfe3"
    before = workspace.contents("results/**/nfe*/*")
    workspace.config({"solvers[3]": {"id": name, **CELLS[name]}})
    own = jobs_of(cell, "distill", "sample", "gather", "score") | jobs_of(cell, *["teacher"] * (name == "refined"))
    assert {job for job in workspace.plan() if "nfe" in job} == own
    score = workspace.cell(cell) / "score.json"
    text = workspace.snakemake(str(score.relative_to(workspace.folder)))
    assert len(re.findall("^Job .*: ", text, flags=re.M)) == len(own)
    after = workspace.contents("results/**/nfe*/*")
    assert {path: content for path, content in after.items() if path in before} == before
    assert {job for job in workspace.plan() if cell in job} == set()
    assert (workspace.cell(cell) / "teacher.safetensors").exists() == (name == "refined")

    fit = json.loads((workspace.cell(cell) / "lambdas.json").read_text())
    assert np.isfinite(fit["lambdas"]).all()
    assert np.shape(fit["lambdas"]) == (3, 2)
    assert fit["directions"]["outputs"] == ("both" if name == "local" else "data")
    after, before = (np.array(fit[key], dtype=float) for key in ("rms_after", "rms_before"))
    assert (after <= before * (1 + 1e-12)).all()
    record = fit["refinement"]
    if name == "local":
        assert record is None
    else:
        assert 1 <= record["iterations"] <= 2
        assert record["runs"] >= 1 + 2 * record["iterations"]
        assert record["rmse_fitted"][0] == pytest.approx(after[-1], rel=1e-6)
        assert record["rmse_fitted"][1] <= record["rmse_fitted"][0]
        assert record["rmse_held_out"][1] <= record["rmse_held_out"][0]
    assert json.loads(score.read_text())

    workspace.append(
        "dode/solvers/heun.py" if name == "local" else "dode/distillation/refinement.py", "\nCHANGED = True\n"
    )
    assert own - jobs_of(cell, "teacher") <= workspace.plan()
