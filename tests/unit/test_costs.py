"""What learning cost: counted from the files that fits and preparations leave, and shown beside what it gained."""

import json
import math

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dode import storage
from dode.benchmark import prepared, preparing
from dode.distillation.task import Meter
from dode.report import costs
from dode.report.figures import cost_figure, style

LAMBDAS = {"lambdas": [[0.0, 0.5], [0.25, 0.0]], "coefficients": None, "told": None}
ON_GRID = {"levels": [80.0, 1.0, 0.0], "given": [80.0, 1.0, 0.0]}


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (LAMBDAS | ON_GRID, 2),
        (LAMBDAS | ON_GRID | {"levels": [9.0, 1.0, 0.0]}, 4),
        (LAMBDAS | ON_GRID | {"levels": [9.0, 1.0, 0.0], "told": [9.0, 1.1]}, 6),
        (ON_GRID | {"lambdas": None, "coefficients": [[9, 0, 0], [1, 1, 0], [1, 1, 1]], "told": [9.0, 1.1]}, 8),
    ],
    ids=["coefficients", "levels", "told", "general"],
)
def test_the_numbers_of_a_fit_are_counted(values, numbers):
    """Two evaluations, so that the general form has 2 + 3 coefficients, two told levels and the first one's factor."""
    assert costs.of_fit(values)["numbers"] == numbers


def test_the_cost_of_a_joint_fit_is_that_of_its_rungs_and_of_a_method_its_own():
    rungs = [{"evaluations": 100}, {"evaluations": 50}]
    assert costs.of_fit(LAMBDAS | ON_GRID | {"rungs": rungs})["evaluations"] == 150
    of_method = costs.of_fit(LAMBDAS | ON_GRID | {"rungs": [], "cost": {"evaluations": 70, "gradients": 30}})
    assert (of_method["evaluations"], of_method["gradients"]) == (70, 30)


def test_a_prepared_file_says_what_it_cost(tmp_path):
    path = tmp_path / "solver.safetensors"
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(5)[::2]}
    preparing.write_prepared(path, tensors, Meter(evaluations=7, gradients=3), {"cell": {"nfe": 5}})
    header = prepared.read_header(path)
    assert costs.of_preparation(header) == {"numbers": 9, "evaluations": 7, "gradients": 3}
    assert header["made"] == {"cell": {"nfe": 5}}
    first = path.read_bytes()
    preparing.write_prepared(path, tensors, Meter(evaluations=7, gradients=3), {"cell": {"nfe": 5}})
    assert path.read_bytes() == first


def cell(label, learnt, paired, evaluations, gradients=0, seconds=None, nfe=5, dataset="digits"):
    facts = {"dataset": dataset, "solver": label.lower(), "label": label, "method": "ipndm", "nfe": nfe}
    facts |= {"options": "{}", "distilled": learnt != "plain", "learnt": learnt, "numbers": 3 * (learnt != "plain")}
    metrics = {"paired_fid": {"value": paired, "error": paired / 10}, "kid": {"value": 0.1, "error": None}}
    return facts | {"evaluations": evaluations, "gradients": gradients, "seconds": seconds, "metrics": metrics}


CELLS = [
    cell("iPNDM", "plain", 0.5, 0),
    cell("J-iPNDM", "joint", 0.02, 90_000, seconds=4.0),
    cell("GS", "gs", 0.03, 500_000, 400_000, seconds=66.0),
    cell("Broken", "gs", math.nan, 500_000, 400_000),
]


def test_the_table_names_what_was_learnt_and_the_best_comes_first():
    found = costs.frame(CELLS)
    text = costs.markdown(found, "a_b")
    assert text.startswith(r"# a\_b")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.split()[1] for line in lines[2:]] == ["J-iPNDM", "GS", "iPNDM", "Broken"]
    assert "500,000" in text
    assert "0.0200 ± 0.0020" in text
    assert [costs.work(row) for row in found.itertuples()] == [0, 90_000, 1_300_000, 1_300_000]


def test_what_is_written_of_costs_is_read_again_by_cell(tmp_path):
    cells = [{**own, "memory": memory} for own, memory in zip(CELLS, (None, 512.5, 800, None), strict=True)]
    costs.write(costs.frame(cells), "x", tmp_path / "costs.csv", tmp_path / "costs.md")
    found = costs.by_cell(tmp_path / "costs.csv")
    assert list(found) == ["digits/ipndm/nfe5", "digits/j-ipndm/nfe5", "digits/gs/nfe5", "digits/broken/nfe5"]
    assert found["digits/ipndm/nfe5"] == {
        **{"learnt": "plain", "numbers": 0, "evaluations": 0, "gradients": 0},
        **{"seconds": None, "memory": None, "work": 0},
    }
    assert found["digits/j-ipndm/nfe5"]["memory"] == 512.5
    assert (found["digits/gs/nfe5"]["work"], found["digits/gs/nfe5"]["seconds"]) == (1_300_000, 66.0)


def test_peak_memory_is_that_of_the_job_that_took_most(tmp_path):
    """One of an earlier version of this project says nothing of it."""
    for name, taken in (("a", {"memory": 300.5}), ("b", {"memory": 250.0}), ("c", {})):
        storage.write_json(tmp_path / f"{name}.json", {"seconds": 1.0, **taken})
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    assert cost_figure.peak_memory([b, a]) == 300.5
    for unknown in ([], [a, c], [a, tmp_path / "none.json"]):
        assert cost_figure.peak_memory(unknown) is None


def test_the_files_hold_every_digit(tmp_path):
    costs.write(costs.frame(CELLS), "x", tmp_path / "costs.csv", tmp_path / "costs.md")
    rows = (tmp_path / "costs.csv").read_text().splitlines()
    assert rows[0].startswith("dataset,solver,label,method,learnt,nfe,numbers,evaluations,gradients,seconds,paired_fid")
    assert json.loads(rows[2].split(",")[10]) == 0.02


@pytest.mark.parametrize("cells", [CELLS, CELLS[:1], []], ids=["learnt", "plain", "none"])
def test_gains_are_drawn_where_something_was_learnt(monkeypatch, cells):
    kept = []
    monkeypatch.setattr(cost_figure, "save", lambda figure, paths: kept.append(figure))
    cost_figure.gains(costs.frame(cells), style.styles(CELLS), [])
    kept[0].draw(FigureCanvasAgg(kept[0]).get_renderer())
    titles = [axis.get_title() for axis in kept[0].axes if axis.axison]
    assert ("digits, NFE 5" in titles) == (len(cells) > 1)
    for axis in kept[0].axes if len(cells) > 1 else []:
        low, high = axis.get_xlim()
        assert all(low < x < high for line in axis.lines for x in line.get_xdata())


def test_of_many_evaluations_some_are_shown(monkeypatch):
    kept = []
    monkeypatch.setattr(cost_figure, "save", lambda figure, paths: kept.append(figure))
    cells = [cell("GS", "gs", 0.1, 10, nfe=nfe) for nfe in range(3, 15)]
    cost_figure.gains(costs.frame(cells), style.styles(cells), [])
    titles = [axis.get_title() for axis in kept[0].axes if axis.axison]
    assert len(titles) == 6
    assert titles[0].endswith("NFE 3")
    assert titles[-1].endswith("NFE 14")
