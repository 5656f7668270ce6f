"""Precisions that are measured: one choice for all of a cell, kept by its file, whatever is killed, moved or added."""

import dataclasses
import os
import signal

import pytest

from dode import storage
from dode.benchmark import records
from dode.models.precision import Way
from test_interruptions import end, wait_for

CELL, FINE = "d-ddim/nfe2", "reference/nfe5"
AUTO = {"execution.precision": "auto"}
TARGETS = [f"results/tiny/digits-edm/{cell}/score.json" for cell in (CELL, FINE)]


def choice(workspace, part):
    return workspace.results / "digits-edm" / "precision" / part / "choice.json"


def choose(workspace, part, way):
    """As if another machine had chosen so: the file and its record are another's."""
    path = choice(workspace, part)
    made = records.read(path)
    storage.write_json(path, dict.fromkeys(storage.read_json(path), dataclasses.asdict(way)))
    records.write(path, records.Made(made["params"], made["inputs"]))


def precisions_of(workspace, cell):
    """The precision in each of a cell's files that say what they were made from."""
    folder = workspace.cell(cell)
    found = [storage.read_json(folder / "environments.json")["cell"]["precision"]]
    found.append(storage.read_json(folder / "score.json")["made"]["cell"]["precision"])
    if (folder / "lambdas.json").exists():
        found.append(storage.read_json(folder / "lambdas.json")["cell"]["precision"])
    return found


@pytest.fixture(scope="module")
def measured(once, finished):
    """The tiny benchmark with the scores of a fitted cell and the fine solution in measured precisions."""

    def make(folder):
        workspace = finished.copy(folder)
        workspace.config(AUTO)
        workspace.snakemake(*TARGETS)

    return once("measured", make)


def test_a_choice_is_measured_once_for_all_jobs_of_a_cell(measured):
    for cell, part, kind in ((CELL, "nfe2", "plain"), (FINE, "fine", "fine")):
        chosen = storage.read_json(choice(measured, part))[kind]
        assert precisions_of(measured, cell) == [chosen] * len(precisions_of(measured, cell))
        ways = storage.read_json(choice(measured, part).with_name("table.json"))["ways"]
        assert ways[0]["way"] == "float32"
        assert any(kind in row["chosen"] for row in ways)
        assert {row["why"][kind] for row in ways} - {""}
    assert measured.plan(*TARGETS) == set()


def test_another_choice_makes_its_cells_again_in_it_and_no_other(measured, folder):
    """Of another machine that has chosen bfloat16: from then on this is the choice here too."""
    workspace = measured.copy(folder)
    before = storage.read_json(choice(workspace, "fine"))
    choose(workspace, "nfe2", Way("bfloat16"))
    planned = workspace.plan(*TARGETS)
    assert {f"{rule} {CELL}" for rule in ("teacher", "distill", "gather", "score")} <= planned
    assert not {job for job in planned if FINE in job or "precision" in job}
    workspace.snakemake(TARGETS[0])
    assert precisions_of(workspace, CELL) == [dataclasses.asdict(Way("bfloat16"))] * 3
    assert workspace.plan(*TARGETS) == set()
    choose(workspace, "fine", Way(**before["fine"]))  # written again, the same: nothing follows
    assert not {job for job in workspace.plan(*TARGETS) if FINE in job}


def test_results_that_lie_elsewhere_or_have_new_neighbours_keep_their_choices(measured, folder):
    workspace = measured.copy(folder)
    new = {"id": "ipndm", "solver": "ipndm", "nfe": [2, 40]}
    workspace.config({"solvers[3]": new, "execution.threads": 2, "execution.batch_size": 7})
    os.rename(workspace.folder / ".snakemake", workspace.folder / "elsewhere")
    assert workspace.plan(*TARGETS) == set()
    one = "results/tiny/digits-edm/ipndm/nfe40/score.json"
    planned = {job for job in workspace.plan(one) if "ipndm" in job or "precision" in job or CELL in job}
    own = {f"{rule} ipndm/nfe40" for rule in ("sample", "gather", "score")}
    assert planned == {"precision precision/nfe40", *own}


def test_a_run_killed_while_it_measures_measures_again_and_goes_on(workspace):
    workspace.config(AUTO)
    process = workspace.start(TARGETS[1])
    wait_for(workspace, "results/tiny/logs/precision/**/*.log", process)
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    assert not choice(workspace, "fine").exists()
    workspace.snakemake(TARGETS[1])
    assert precisions_of(workspace, FINE) == [storage.read_json(choice(workspace, "fine"))["fine"]] * 2


def test_switching_it_off_again_makes_the_cards_results_again(measured, folder):
    workspace = measured.copy(folder)
    workspace.config({"execution.precision": "card"})
    assert f"distill {CELL}" in workspace.plan(*TARGETS)
