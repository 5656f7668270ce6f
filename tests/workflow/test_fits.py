"""Cells whose coefficients are fitted in other ways than the default, run to their scores."""

import json
import re

import numpy as np
import pytest

from workspace import CHANGED

LOCAL = {"alignment": "local", "teacher": "heun", "directions": {"differences": 1, "outputs": "both"}}
CELLS = {
    "local": {"solver": "ddim", "nfe": [3], "distill": {"fit": "greedy", "images": 16, "substeps": 3, **LOCAL}},
    "refined": {
        "solver": "heun",
        "nfe": [3],
        "distill": {"fit": "refined", "images": 16, "substeps": 3, "directions": 2, "iterations": 2},
    },
}


OWN = {"local": {"distill", "sample", "gather", "score"}}
OWN["refined"] = OWN["local"] | {"teacher"}


def planned(workspace, name):
    """The rules of a cell that a run would run."""
    return {job.split()[0] for job in workspace.plan() if job.endswith(f" {name}/nfe3")}


@pytest.fixture(scope="module")
def fitted(once, finished):
    """The tiny benchmark with the scores of these cells."""

    def make(folder):
        workspace = finished.copy(folder)
        before = workspace.contents("results/**/nfe*/*")
        workspace.config({f"solvers[{3 + i}]": {"id": name, **own} for i, (name, own) in enumerate(CELLS.items())})
        own = {f"{rule} {name}/nfe3" for name, rules in OWN.items() for rule in rules}
        assert {job for job in workspace.plan() if "nfe" in job} == own
        scores = (workspace.cell(f"{name}/nfe3") / "score.json" for name in CELLS)
        text = workspace.snakemake(*(str(score.relative_to(workspace.folder)) for score in scores))
        assert len(re.findall("^Job .*: ", text, flags=re.M)) == len(own)
        after = workspace.contents("results/**/nfe*/*")
        assert {path: content for path, content in after.items() if path in before} == before

    return once("fits", make)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_another_fit_runs_to_its_score(fitted, name):
    """A local fit has its teacher with it: there is no trajectory to make."""
    folder = fitted.cell(f"{name}/nfe3")
    assert (folder / "teacher.safetensors").exists() == (name == "refined")
    fit = json.loads((folder / "lambdas.json").read_text())
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
    assert json.loads((folder / "score.json").read_text())


def test_the_code_of_a_fit_counts_and_that_of_a_teacher_that_it_has_with_it(fitted, folder):
    workspace = fitted.copy(folder)
    assert not any(planned(workspace, name) for name in CELLS)
    for name, edited in (("local", "dode/solvers/heun.py"), ("refined", "dode/distillation/refinement.py")):
        text = (workspace.folder / edited).read_text()
        workspace.append(edited, CHANGED)
        assert OWN[name] - {"teacher"} <= planned(workspace, name)
        (workspace.folder / edited).write_text(text)
