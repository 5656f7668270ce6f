"""The benchmarks run and say what their README promises; no time is asserted."""

import subprocess
import sys
from pathlib import Path

import pytest

import variants

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables():
    """The first line of the output, and its two tables as ``{first cell: other cells}``, headings included."""
    command = [sys.executable, "benchmarks/overhead.py", "--quick", "--batch", "12", "--threads", "1"]
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
    command = [sys.executable, "benchmarks/solvers.py", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, table = done.stdout.strip().split("\n\n")
    assert "states (2, 3, 8, 8), CPU, 1 threads" in first
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert heading[:4] == ["Solver", "Arrays", "ms", "/ floor"]
    assert len(rows) == len(variants.ALL)
    for label, *cells in rows:
        assert all(float(cell) >= 0 for cell in cells[:6]), label
        assert (cells[6] == "-") == (cells[7] == "-"), label
    compared = {label.split(",")[0] for label, *cells in rows if cells[7] != "-"}
    families = {"ddim", "heun", "ipndm", "pndm", "deis", "unipc", "dpm-solver", "dpm-solver++", "dpm-solver-multistep"}
    assert compared == families
