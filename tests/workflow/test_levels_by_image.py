"""Cells of solvers that make evaluations at once, or choose their levels by image, run to their scores."""

import json

import pytest

CELLS = {
    "epd": {
        "solver": "ddim",
        "nfe": [3],
        "distill": {"fit": "epd", "images": 32, "options": {"points": 2, "iterations": 2, "batch": 16}},
    },
    "amed": {
        "solver": "amed",
        "nfe": [3],
        "prepare": {"images": 32, "options": {"iterations": 2, "batch": 16}},
    },
    "amed-searched": {
        "solver": "amed",
        "nfe": [3],
        "grid": {"name": "searched", "options": {"candidates": 9, "images": 8}},
        "prepare": {"images": 32, "options": {"iterations": 2, "batch": 16}},
    },
}


@pytest.mark.parametrize(("name", "depth"), [("epd", 2), ("amed", 3), ("amed-searched", 3)])
def test_a_cell_runs_to_its_score_with_its_depth(workspace, name, depth):
    cell = f"{name}/nfe3"
    workspace.config({"solvers[3]": {"id": name, **CELLS[name]}})
    learning = {"epd": ["distill"], "amed": ["prepare"], "amed-searched": ["search_grid", "prepare"]}[name]
    own = {f"{rule} {cell}" for rule in (*learning, "sample", "gather", "score")}
    assert {job for job in workspace.plan() if cell in job} == own
    score = workspace.cell(cell) / "score.json"
    workspace.snakemake(str(score.relative_to(workspace.folder)))
    assert {job for job in workspace.plan() if cell in job} == set()
    found = json.loads(score.read_text())
    assert (found["depth"], found["passes"]) == (depth, 3)
    workspace.append("dode/solvers/bottleneck.py", "\nCHANGED = True\n")
    assert {job for job in workspace.plan() if cell in job} == (set() if name == "epd" else own)
    if name == "epd":
        fit = json.loads((workspace.cell(cell) / "lambdas.json").read_text())
        assert fit["family"] == "epd"
        assert fit["cost"]["evaluations"] >= fit["cost"]["gradients"] == 2 * 16 * 3
