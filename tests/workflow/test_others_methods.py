"""Cells with options of every grid, and of solvers and fits of others, run to their scores."""

import json

AFS = {"name": "karras", "options": {"afs": True, "end": "sigma_min"}}
CELLS = {
    "afs": {"solver": "ipndm", "grid": AFS},
    "searched": {
        "solver": "ipndm",
        "grid": {"name": "searched", "options": {"candidates": 11, "images": 8, "afs": True}},
    },
    "v3": {"solver": "dpm-solver-v3", "prepare": {"images": 16, "options": {"levels": 20}}},
    "pas": {"solver": "ddim", "distill": {"fit": "pas", "images": 16, "options": {"epochs": 3, "tau": 0}}},
    "basis": {"solver": "ipndm", "distill": {"fit": "greedy", "images": 16, "directions": {"basis": 2}}},
    "dc": {"solver": "unipc", "distill": {"fit": "dc-solver", "images": 16, "options": {"tries": 4}}},
    "table": {"solver": "ddim", "distill": {"fit": "neural-solver"}},
}


def test_cells_run_to_their_scores_and_are_exported(workspace):
    workspace.config({"solvers": [{"id": name, "nfe": [5], **own} for name, own in CELLS.items()], "figures": {}})
    scores = {name: workspace.cell(f"{name}/nfe5") / "score.json" for name in CELLS}
    workspace.snakemake(*(str(score.relative_to(workspace.folder)) for score in scores.values()))
    assert workspace.plan() == set() or not any("nfe5" in job for job in workspace.plan())
    for score in scores.values():
        assert json.loads(score.read_text())["metrics"]
    fits = {
        name: json.loads((workspace.cell(f"{name}/nfe5") / "lambdas.json").read_text())
        for name in ("pas", "basis", "dc", "table")
    }
    assert {name: fit["family"] for name, fit in fits.items()} == {
        "pas": "pas",
        "basis": None,
        "dc": "dc-solver",
        "table": "neural-solver",
    }
    assert fits["pas"]["cost"]["evaluations"] == 16 * 5
    assert fits["pas"]["directions"]["basis"] == 4
    assert fits["table"]["cost"]["evaluations"] == 0
