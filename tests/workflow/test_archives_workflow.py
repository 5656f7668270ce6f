"""A finished benchmark travels: its cells become rows of another benchmark's tables, figures and page."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

import forked_python
from dode.__main__ import main
from dode.report.archives import format
from test_rerun_table import planned
from workspace import TINY, Workspace

CELLS = ["ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"]
#: A newcomer's own solver, on the same ground.
MINE = {"id": "mine", "label": "Mine", "solver": "ipndm", "options": {"order": 2}, "nfe": [2, 3]}
#: And fits by methods of others, with and without coefficients of directions.
METHODS = [
    {"id": "table", "solver": "ddim", "nfe": [5], "distill": {"fit": "neural-solver"}},
    {
        "id": "pas",
        "solver": "ddim",
        "nfe": [3],
        "distill": {"fit": "pas", "images": 16, "options": {"epochs": 1, "tau": 0}},
    },
]
OWN = [f"digits-edm/{name}" for name in ("mine/nfe2", "mine/nfe3", "pas/nfe3", "reference/nfe5", "table/nfe5")]


@pytest.fixture(scope="module")
def packed(finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "theirs.zip"
    assert main(["pack", str(finished.results), "--by", "Lab X", "--output", str(path)]) == 0
    return path


def add(workspace, archive, monkeypatch):
    monkeypatch.chdir(workspace.folder)
    assert main(["add", str(archive), "config/config.yaml"]) == 0


@pytest.fixture(scope="module")
def joined(once, packed):
    """A benchmark of solvers of its own with the archive of the tiny one, run to its end."""

    def make(folder):
        workspace = Workspace.fresh(folder, python=forked_python.executable())
        shutil.copy2(packed, folder / "theirs.zip")
        config = yaml.safe_load(TINY.read_text()) | {"solvers": [MINE, *METHODS]}
        config["archives"] = [{"file": "theirs.zip", "sha256": format.read(packed).sha256}]
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
        workspace.snakemake()

    return once("joined", make)


def test_what_is_packed_is_what_the_results_are_without_the_samples(finished, packed, tmp_path):
    archive = format.read(packed)
    assert archive.about["by"] == "Lab X"
    assert archive.cells == [f"digits-edm/{cell}" for cell in CELLS]
    for cell in CELLS:
        own = json.loads((finished.cell(cell) / "score.json").read_text())
        assert archive.scores[f"digits-edm/{cell}"] == own
        made = json.loads((finished.cell(cell) / "made" / "samples.npy.json").read_text())
        files = archive.evidence[f"digits-edm/{cell}"]["files"]
        assert files["samples.npy"] == {"size": made["size"], "sha256": made["sha256"]}
    assert archive.fits["digits-edm/d-ddim/nfe2"] == json.loads((finished.cell(CELLS[1]) / "lambdas.json").read_text())
    assert packed.stat().st_size < 50_000
    again = tmp_path / "again.zip"
    assert main(["pack", str(finished.results), "--by", "Lab X", "--output", str(again)]) == 0
    assert again.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("cell", CELLS)
def test_the_images_of_a_cell_come_out_again_to_the_byte(packed, cell, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", str(packed), f"digits-edm/{cell}", "--device", "cpu", "--images", "20"]) == 0
    assert "20 images" in (said := capsys.readouterr().out)
    assert "20 the same to the byte" in said


def test_rows_of_an_archive_stand_beside_ones_own_and_are_marked_everywhere(joined):
    frame = pd.read_csv(joined.results / "table.csv", keep_default_na=False)
    theirs = frame[frame["measured"] != ""]
    assert set(theirs["label"]) == {"DDIM †1", "D-DDIM †1", "Heun †1"}
    assert all("by Lab X" in text for text in theirs["measured"])
    assert set(frame[frame["measured"] == ""]["label"]) >= {"Mine"}
    markdown, latex, page = ((joined.results / name).read_text() for name in ("table.md", "table.tex", "index.html"))
    assert "| DDIM †1 " in markdown
    assert "Of its fine-step cells: " in markdown
    assert "0 differ beyond their errors" in markdown
    assert r"DDIM $\dagger$1" in latex
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', page, flags=re.S))
    cell = blocks["cell/digits-edm/d-ddim@1/nfe2"]
    assert "measured elsewhere, by Lab X" in cell
    assert "python -m dode audit theirs.zip digits-edm/d-ddim/nfe2" in cell
    assert "dode export" not in cell
    assert "Measured elsewhere: what is marked †1" in blocks["trust/digits-edm/fid"]
    assert "dode export" in blocks["cell/digits-edm/mine/nfe2"]


def test_only_ones_own_cells_were_run(joined):
    found = {path.parent.relative_to(joined.results).as_posix() for path in joined.results.glob("*/*/nfe*/score.json")}
    assert found == {*OWN}


def test_the_record_and_an_archive_of_it_have_only_what_was_measured_here(joined, packed, tmp_path):
    record = json.loads((joined.results / "provenance.json").read_text())
    assert not [name for name in record["cells"] if "@" in name]
    (own,) = record["elsewhere"]
    assert own["sha256"] == format.read(packed).sha256
    assert own["cells"] == [f"digits-edm/{name}" for name in ("ddim@1/nfe2", "d-ddim@1/nfe2", "heun@1/nfe3")]
    assert main(["pack", str(joined.results), "--output", str(tmp_path / "mine.zip")]) == 0
    found = format.read(tmp_path / "mine.zip")
    assert sorted(found.cells) == OWN
    families = {name: fit["family"] for name, fit in found.fits.items()}
    assert families == {"digits-edm/table/nfe5": "neural-solver", "digits-edm/pas/nfe3": "pas"}
    assert "archives" not in found.facts["config"]
    assert "elsewhere" not in found.provenance


def test_nothing_is_left_to_do_afterwards_and_a_moved_archive_changes_no_result(joined, folder):
    workspace = joined.copy(folder)
    assert planned(workspace) == set()
    (workspace.folder / "theirs.zip").rename(workspace.folder / "moved.zip")
    workspace.config({"archives[0].file": "moved.zip"})
    before = workspace.contents("results/*/table.*")
    assert planned(workspace) <= {"elsewhere", "tables", "curves", "page", "workflow_report"}
    workspace.snakemake()
    assert workspace.contents("results/*/table.*") == before


def test_an_archive_that_is_added_makes_only_tables_figures_and_page_again(workspace, packed, monkeypatch):
    """Here each of its cells is the same as one of these, so that there are no rows."""
    add(workspace, packed, monkeypatch)
    assert planned(workspace) == {"elsewhere", "tables", "curves", "page", "workflow_report"}
    workspace.snakemake("results/tiny/table.md", "results/tiny/index.html")
    frame = pd.read_csv(workspace.results / "table.csv", keep_default_na=False)
    assert set(frame["measured"]) == {""}
    markdown = (workspace.results / "table.md").read_text()
    assert "0 cells of it are rows here; 3 more are the same as cells here." in markdown
    assert re.search(
        r"Of its cells that are the same as here: (\d+) of \1 scores are equal to the last digit", markdown
    )
    workspace.config({"archives": None})
    workspace.snakemake("results/tiny/table.md")
    assert "elsewhere" not in (workspace.results / "table.md").read_text()


def test_another_file_in_its_place_ends_the_run_before_any_job(workspace, packed, monkeypatch):
    shutil.copy2(packed, workspace.folder / "theirs.zip")
    add(workspace, "theirs.zip", monkeypatch)
    with (workspace.folder / "theirs.zip").open("ab") as file:
        file.write(b"\0")
    status, output, errors = workspace.attempt()
    assert status != 0
    assert "archives[0].sha256: theirs.zip has the SHA-256" in output + errors
    assert "Traceback" not in output + errors
