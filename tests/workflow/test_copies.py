"""Results that are moved, copied, touched or mixed are known for what they are made of.

Snakemake's own record, in the hidden folder ``.snakemake``, is lost or wrong in all of these.
"""

import os
import shutil

import pytest

CELLS = ["ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"]
NAMED = {"tables", "page", "workflow_report"}  # what shows the benchmark's name


def everything(workspace):
    """What a run makes of another seed."""
    jobs = {f"{rule} {cell}" for rule in ("sample", "gather", "score") for cell in CELLS}
    return jobs | {"teacher d-ddim/nfe2", "distill d-ddim/nfe2"} <= workspace.plan()


def copied_anew(workspace):
    """The results as ``cp -r`` or ``rsync --exclude '.*'`` leaves them: no hidden files, new times, in any order."""
    shutil.rmtree(workspace.folder / ".snakemake")
    files = sorted(path for path in workspace.results.rglob("*") if path.is_file())
    for number, path in enumerate(reversed(files)):
        assert not path.name.startswith(".")
        os.utime(path, (2e9 + number, 2e9 + number))


def test_a_copy_without_hidden_files_has_nothing_to_do_but_what_is_asked_anew(workspace):
    copied_anew(workspace)
    assert workspace.plan() == set()
    workspace.config({"solvers[3]": {"id": "more", "solver": "heun", "nfe": [7]}})
    assert {"sample more/nfe7", "score more/nfe7", "tables"} <= workspace.plan()
    workspace.config({"seed": 1})
    assert everything(workspace)


def test_an_edit_counts_whatever_triggers_are_asked_for(workspace):
    workspace.config({"seed": 1})
    assert {"sample ddim/nfe2", "sample reference/nfe5"} <= workspace.plan("--rerun-triggers", "mtime")


def test_touching_makes_nothing_of_another_seed(workspace):
    workspace.config({"seed": 1})
    before = workspace.contents("results/tiny/digits-edm/**/*")
    workspace.snakemake("--touch")
    assert workspace.contents("results/tiny/digits-edm/**/*") == before
    assert everything(workspace)


def test_a_renamed_benchmark_has_its_pages_made_again_alone(workspace):
    workspace.results.rename(workspace.folder / "results/renamed")
    workspace.config({"benchmark": "renamed"})
    assert workspace.plan() == NAMED | {"costs"}  # whose times are in the logs, below the folder of results
    assert workspace.plan("results/renamed/digits-edm/d-ddim/nfe2/score.json") == set()


def test_a_folder_of_a_cell_that_was_deleted_is_made_again(workspace):
    shutil.rmtree(workspace.cell("heun/nfe3"))
    assert {"sample heun/nfe3", "gather heun/nfe3", "score heun/nfe3", "tables"} <= workspace.plan()


@pytest.mark.parametrize("name", ["ends.npy", "lambdas.json", "score.json"])
def test_a_file_that_was_deleted_is_made_again(workspace, name):
    (workspace.cell("d-ddim/nfe2") / name).unlink()
    assert {"score d-ddim/nfe2", "tables"} <= workspace.plan()


def test_a_cell_in_anothers_place_is_made_again(workspace):
    ddim, heun = workspace.cell("ddim/nfe2"), workspace.cell("heun/nfe3")
    shutil.rmtree(ddim)
    shutil.copytree(heun, ddim)
    plan = workspace.plan()
    assert {"gather ddim/nfe2", "score ddim/nfe2", "tables"} <= plan
    assert "gather heun/nfe3" not in plan


def test_a_file_of_unknown_making_is_made_again(workspace):
    """Its record is gone; or it was cut off after it was written."""
    shutil.rmtree(workspace.cell("heun/nfe3") / "made")
    ends = workspace.cell("ddim/nfe2") / "ends.npy"
    ends.write_bytes(ends.read_bytes()[:-8])
    assert {"gather heun/nfe3", "gather ddim/nfe2"} <= workspace.plan()


def test_another_checksum_in_a_card_fetches_its_file_again(workspace):
    card = workspace.folder / "config/models/digits-edm.yaml"
    text = card.read_text()
    sha256 = next(line.split()[1] for line in text.splitlines() if line.startswith("sha256:"))
    card.write_text(text.replace(sha256, sha256[::-1]))
    assert {"fetch_checkpoint", "sample ddim/nfe2"} <= workspace.plan()


def test_code_that_gathers_counts(workspace):
    path = workspace.folder / "scripts/gather.py"
    path.write_text(path.read_text().replace("snakemake.input[kind]", "snakemake.input[kind][::-1]"))
    assert {"gather ddim/nfe2", "score ddim/nfe2"} <= workspace.plan()
