"""Cells of solvers that make evaluations at once, or choose their levels by image, run to their scores."""

import json

from workspace import CHANGED

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


LEARNING = {"epd": ["distill"], "amed": ["prepare"], "amed-searched": ["search_grid", "prepare"]}
DEPTH = {"epd": 2, "amed": 3, "amed-searched": 3}


def planned(workspace):
    """The jobs of the cells that a run would run, by cell."""
    jobs = workspace.plan()
    return {name: {job.split()[0] for job in jobs if job.endswith(f" {name}/nfe3")} for name in CELLS}


def test_cells_run_to_their_scores_with_their_depth(workspace):
    workspace.config({f"solvers[{3 + i}]": {"id": name, **own} for i, (name, own) in enumerate(CELLS.items())})
    own = {name: {*LEARNING[name], "sample", "gather", "score"} for name in CELLS}
    assert planned(workspace) == own
    scores = {name: workspace.cell(f"{name}/nfe3") / "score.json" for name in CELLS}
    workspace.snakemake(*(str(score.relative_to(workspace.folder)) for score in scores.values()))
    assert not any(planned(workspace).values())
    for name, score in scores.items():
        found = json.loads(score.read_text())
        assert (found["depth"], found["passes"]) == (DEPTH[name], 3)
    fit = json.loads((workspace.cell("epd/nfe3") / "lambdas.json").read_text())
    assert fit["family"] == "epd"
    assert fit["cost"]["evaluations"] >= fit["cost"]["gradients"] == 2 * 16 * 3
    workspace.append("dode/solvers/bottleneck.py", CHANGED)
    assert planned(workspace) == {**own, "epd": set()}
