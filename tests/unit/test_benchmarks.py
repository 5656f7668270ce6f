"""The benchmarks run and say what their README promises; no time is asserted."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import forked_python
import variants
from dode.distillation import fine_solution
from dode.models.embedded.residual_mlp import ResidualMLP

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables():
    """The first line of the output, and its two tables as ``{first cell: other cells}``, headings included."""
    command = [forked_python.executable(), "benchmarks/overhead.py", "--quick", "--batch", "12", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *parts = done.stdout.strip().split("\n\n")
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()] for part in parts]
    return first, *({row[0]: row[1:] for row in part if row[0] != "---"} for part in rows)


def test_the_setting_is_named(tables):
    for part in ("million parameters", "(12, 3, 8, 8)", "CPU, 1 threads", "torch"):
        assert part in tables[0]


def test_every_case_has_its_calls_and_a_share_in_percent(tables):
    heading, rows = tables[1]["What"], {case: row for case, row in tables[1].items() if case != "What"}
    assert heading == ["Network calls", "In the network (s)", "Outside it (%)"]
    calls = {"ddim": 4, "heun": 5}
    for name, expected in calls.items():
        for case in (f"`sample`, {name}, plain", f"`sample`, {name}, m=1", f"`sample`, {name}, m=3"):
            assert int(rows[case][0]) == expected
        for case in (f"`distill`, {name}, m=1", f"`distill`, {name}, m=3"):
            assert int(rows[case][0]) > expected
    assert len(rows) == 10
    assert all(0 < float(share) < 100 for _, _, share in rows.values())


def test_the_states_held_do_not_grow_with_the_teachers_trajectory(tables):
    rows = {case: row for case, row in tables[2].items() if case != "What"}
    assert len(rows) == 6
    for case, (short, long) in rows.items():
        assert 3 <= float(short) <= 40, case
        assert short == long, case


def test_the_solver_benchmark_has_a_row_for_every_variant():
    command = [forked_python.executable(), "benchmarks/solvers.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, table = done.stdout.strip().split("\n\n")
    assert "states (2, 3, 8, 8), CPU, 1 threads" in first
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert heading[:4] == ["Solver", "Arrays", "ms", "/ floor"]
    assert len(rows) == len(variants.ALL)
    for label, *cells in rows:
        assert all(cell == "-" or float(cell) >= 0 for cell in cells[:6]), label
        assert (cells[6] == "-") == (cells[7] == "-"), label
    compared = {label.split(",")[0] for label, *cells in rows if cells[7] != "-"}
    families = {"ddim", "heun", "ipndm", "pndm", "deis", "unipc", "dpm-solver", "dpm-solver++", "dpm-solver-multistep"}
    assert compared == families


def test_throughput_has_a_row_for_every_point_and_the_same_figures_in_its_file(tmp_path):
    """Two kinds of models and one of features; the sampler of the first."""
    cards = ["digits-ddpm", "digits-edm", "inception-tensorflow"]
    command = [forked_python.executable(), "benchmarks/throughput.py", "--device", "cpu", "--cards", *cards]
    command += ["--batch-sizes", "3", "2", "--seconds", "0.01", "--precision", "card", "bf16"]
    command += ["--output", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *parts = done.stdout.strip().split("\n\n")
    assert first.startswith("CPU, 1 threads, torch ")
    points, sampler = ([line.strip("| ").split(" | ") for line in part.splitlines()[2:]] for part in parts)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["not_measured"] == {}
    of_models = [
        (card, batch, layout, precision)
        for card in cards[:2]
        for precision in ("card", "bf16")
        for layout in ("contiguous", "channels last")
        for batch in ("2", "3")
    ]
    of_features = [(cards[2], batch, "contiguous", "card") for batch in ("2", "3")]
    assert [tuple(point[:4]) for point in points] == of_models + of_features
    for point, kept in zip(points, found["points"], strict=True):
        assert [point[0], int(point[1])] == [kept["card"], kept["batch"]]
        assert float(point[4]) == pytest.approx(kept["evaluations_per_second"], rel=1e-3)
        assert float(point[5]) > 100
    assert sampler[0][:3] == ["digits-ddpm", "2", "10"]
    assert float(sampler[0][3]) > 0
    assert float(sampler[0][5]) < 100


def test_throughput_names_the_first_batch_that_memory_does_not_hold_and_tries_no_larger_one(tmp_path, monkeypatch):
    """A job would go on with half a batch, whose figure must not pass for the whole one's."""
    throughput = script("throughput")
    whole = ResidualMLP.forward

    def forward(self, x, *others, **options):
        if len(x) > 4:
            raise torch.OutOfMemoryError
        return whole(self, x, *others, **options)

    monkeypatch.setattr(ResidualMLP, "forward", forward)
    source = throughput.Sampled("digits-edm", None, tmp_path)
    options = {"precision": ["card"], "channels_last": "no", "compile": False, "seconds": 0.001}
    options = argparse.Namespace(**options, batch_sizes=[16, 8, 4, 2])
    found = list(throughput.points(source, torch.device("cpu"), options))
    assert [point["batch"] for point in found] == [2, 4, 8]
    assert [point.get("out_of_memory", False) for point in found] == [False, False, True]
    assert "evaluations_per_second" not in found[2]
    assert throughput.row("digits-edm", found[2])[4] == "out of memory"


def test_pipelines_has_a_row_for_every_number_of_steps(monkeypatch, capsys):
    """On prompts that were not fitted to; an untrained fit of so small a budget is the plain solver."""
    pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
    monkeypatch.setattr(fine_solution, "STEPS", 3)
    monkeypatch.setattr(sys, "argv", ["pipelines.py", "--quick"])
    pipelines, threads = script("pipelines"), torch.get_num_threads()
    fitted, measured = [], []
    own = pipelines.dode.distill_pipeline
    monkeypatch.setattr(
        pipelines.dode, "distill_pipeline", lambda pipe, texts, **how: fitted.append(texts) or own(pipe, texts, **how)
    )
    fine = pipelines.fine
    monkeypatch.setattr(
        pipelines, "fine", lambda pipe, texts, noise: measured.append(texts) or fine(pipe, texts, noise)
    )
    pipelines.main()
    torch.set_num_threads(threads)
    heading, _, row = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert heading[:5] == ["steps", "fitting seed", "own scheduler", "distilled", "times better"]
    assert (row[0], row[1], row[5]) == ("2", "0", "plain")
    assert float(row[2]) / float(row[3]) == pytest.approx(float(row[4]), abs=0.06)
    assert not set(fitted[0]) & set(measured[0])
    assert (len(fitted[0]), len(measured[0])) == (16, 3)


def script(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toy():
    return script("toy")


def test_the_table_of_solvers_is_that_of_the_registry(toy):
    """Sources, orders, options and their defaults."""
    assert toy.facts_table() in (ROOT / "docs" / "solvers.md").read_text()


def test_the_picture_of_the_toy_is_of_the_tables(toy):
    text = (ROOT / "docs" / "solvers.md").read_text()
    curves, best = toy.panels(text)
    assert list(curves) == ["plain", "distilled, m = 1", "distilled, m = 3"]
    assert all(list(panel) == list(curves["plain"]) for panel in curves.values())
    assert curves["plain"]["heun"][0] == [3, 5, 15]  # it cannot make the other numbers of evaluations
    first = re.search(r"\| ddim +\| (\S+) / (\S+) / (\S+) / ", text).groups()
    assert [panel["ddim"][1][0] for panel in curves.values()] == list(map(float, first))
    assert [len(errors) for _, errors in best.values()] == [5, 5, 5]


def test_the_page_says_what_has_been_measured(monkeypatch):
    """docs/solvers.md is written from benchmarks/fits.csv alone."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    fits = script("fits")
    found = fits.entries(pd.read_csv(ROOT / "benchmarks" / "fits.csv"))
    page = (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
    assert fits.replace(page, "digits", fits.section(found)) == page


def test_the_page_says_what_methods_side_by_side_have_found(monkeypatch):
    """docs/learned-methods.md has the tables of benchmarks/rivals.csv."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rivals = script("rivals")
    page = rivals.PAGE.read_text(encoding="utf-8")
    assert rivals.replace(page, "side by side", rivals.section(pd.read_csv(rivals.KEPT))) == page
