"""Which cells are distilled, and which of these are fitted: all that is made of a benchmark agrees on it."""

import copy
import json
from pathlib import Path

import matplotlib.colors
import pytest
import yaml

import forged_archives
import synthetic_pages
from dode.benchmark import export, figure_cells
from dode.benchmark.cells import Benchmark
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.report import collection, learning, tables
from dode.report.archives import format, site
from dode.report.archives.format import ArchiveError
from dode.report.figures import style
from dode.report.finished import Finished

ROOT = Path(__file__).parents[2]
AMED, SEARCHED = "digits-edm/ddim/nfe5", "digits-edm/ipndm/nfe5"


def benchmark(name):
    return Benchmark(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()), ROOT)


@pytest.fixture(scope="module")
def rivals():
    return benchmark("rivals")


@pytest.mark.parametrize(
    ("solver", "grid", "fitted", "expected"),
    [
        ("ddim", "karras", False, False),
        ("ddim", "karras", True, True),
        ("amed", "karras", False, True),
        ("dpm-solver-v3", "karras", False, True),
        ("progressive-distillation", "karras", False, True),
        ("ipndm", "searched", False, True),
        ("ipndm", "searched", True, True),
        ("consistency", "karras", False, False),  # its card has the trained network
    ],
)
def test_distilled_is_what_had_to_learn_by_a_fit_or_by_a_preparation(solver, grid, fitted, expected):
    assert learning.distilled(solver, grid, fitted=fitted) is expected
    made = {"run": {"solver": solver, "grid": {"name": grid}}} | ({"fit": {"fit": "joint"}} if fitted else {})
    assert learning.of_record(made) is expected


def test_what_is_unknown_here_is_what_is_said_of_it():
    made = {"run": {"solver": "of-tomorrow", "grid": {"name": "karras"}}}
    assert (learning.of_record(made), learning.of_record(made, said=True)) == (False, True)
    assert learning.of_record({**made, "fit": {}}) is True
    with pytest.raises(ValueError, match="unknown solver 'of-tomorrow'"):
        learning.distilled("of-tomorrow", "karras", fitted=False)


def test_files_of_coefficients_are_those_of_fitted_cells_and_prepared_files_those_of_the_others(rivals):
    files = Files(rivals)
    for cell in rivals.cells.values():
        assert (files.lambdas(cell) != {}) == cell.fitted
        assert cell.distilled == (cell.fitted or files.preparations(cell) != {})
    assert {str(cell) for cell in rivals.distilled()} > {str(cell) for cell in rivals.fitted()}
    kinds = {figure_cells._kind(cell) for cell in rivals.distilled()}
    assert kinds > {"prepared", "searched", "joint"}
    assert {figure_cells._kind(cell) for cell in rivals.cells.values() if not cell.distilled} == {"plain"}


@pytest.fixture(scope="module")
def shown(rivals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return synthetic_pages.write(rivals, folder), folder


def test_page_figures_and_tables_agree_on_who_is_distilled(rivals, shown):
    """Filled markers and solid lines on the page are filled and solid in the figures."""
    (path, found, _), folder = shown
    expected = {cell.entry["id"]: cell.distilled for cell in rivals.cells.values()}
    labels = {cell.entry["id"]: cell.entry["label"] for cell in rivals.cells.values()}
    assert {name: own["distilled"] for name, own in found["solvers"].items()} == expected
    lines = style.styles(figure_cells.solvers(rivals))
    frame = collection.frame(Facts(rivals).cells(), [*folder.glob("digits-*.json")], {})
    written = style.styles(frame[~frame["reference"]].drop_duplicates("solver").to_dict("records"))
    for drawn in (lines, written):
        for (_, label), own in drawn.items():
            filled = matplotlib.colors.to_hex(own["markerfacecolor"]) != "#ffffff"
            (name,) = [name for name, each in labels.items() if each == label]
            assert (filled, own["linestyle"]) == (expected[name], "-" if expected[name] else "--"), label
    assert dict(zip(frame["solver"], frame["distilled"], strict=True)) == expected
    text = path.read_text(encoding="utf-8")
    for name, distilled in expected.items():
        if name != "reference":
            kind = "distilled" if distilled else "plain"
            assert f'data-kind="{kind}" data-words="{name} ' in text


def test_in_a_table_the_distilled_solvers_of_a_method_come_after_the_plain_ones(rivals, shown, tmp_path):
    frame = collection.frame(Facts(rivals).cells(), [*shown[1].glob("digits-*.json")], {})
    tables.write_markdown(frame, tmp_path / "table.md")
    first = (tmp_path / "table.md").read_text().split("\n### ")[1]  # of the first dataset; before it are the ranks
    rows = [line.split("|")[1].strip() for line in first.splitlines() if "|" in line]
    labels = {label: (method, own) for (method, label), own in style.styles(figure_cells.solvers(rivals)).items()}
    ipndm = [label for label in rows if label in labels and labels[label][0] == "ipndm"]
    solid = [labels[label][1]["linestyle"] == "-" for label in ipndm]
    assert solid == sorted(solid)
    assert any(solid)


def prepared(found, *, fitted=None):
    """A few cells of the demo's archive, of which one has a prepared solver and one a searched grid."""
    cells = {cell["name"]: cell for cell in found["facts.json"]["cells"]}
    for name, change in ((AMED, {"solver": "amed"}), (SEARCHED, {"grid": {"name": "searched", "options": {}}})):
        for made in (found["provenance.json"]["cells"][name]["run"], found["scores.json"][name]["made"]["cell"]):
            made.update(change)
    cells[AMED] |= {"method": "amed", "label": "AMED"}
    found["provenance.json"]["cells"][AMED]["label"] = "AMED"
    for cell in cells.values():
        if fitted is None:  # as archives were before
            del cell["fitted"]
            cell |= {"prepared": True} if cell["name"] == AMED else {}
        else:
            cell |= {"fitted": cell["distilled"], "distilled": cell["distilled"] or cell["name"] in (AMED, SEARCHED)}


@pytest.mark.parametrize("fitted", [None, True], ids=["old", "new"])
def test_an_archive_says_the_same_whether_it_was_packed_before_or_after(tmp_path, fitted):
    found = forged_archives.few()
    prepared(found, fitted=fitted)
    archive = format.read(forged_archives.written(tmp_path / "a.zip", found))
    cells = {cell["name"]: cell for cell in archive.facts["cells"]}
    own = {name.partition("/")[2]: (cell["distilled"], cell["fitted"]) for name, cell in cells.items()}
    assert own == {
        "ddim/nfe5": (True, False),
        "ipndm/nfe5": (True, False),
        "d-ddim/nfe5": (True, True),
        "j-ipndm/nfe5": (True, True),
        "reference/nfe79": (False, False),
    }
    pages = site.write([archive], tmp_path / "site")
    assert pages[0].read_text().count('<span class="kind">distilled</span>') == 4 * 2  # of two scores
    said = next(page.read_text() for page in pages if page.name.startswith("ddim-nfe5"))
    assert "· distilled ·" in said
    again = next(page.read_text() for page in pages if page.parent.name.startswith("digits-"))
    assert 'data-kind="distilled" data-words="ddim amed' in again


def test_the_archive_in_the_repository_is_read_as_before():
    found = format.read(forged_archives.DEMO)
    for cell in found.facts["cells"]:
        assert cell["distilled"] is cell["fitted"] is (cell["name"] in found.fits)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(AMED, "distilled", False), (SEARCHED, "distilled", False), ("digits-edm/reference/nfe79", "distilled", True)],
)
def test_an_archive_that_calls_a_distilled_cell_plain_is_refused(tmp_path, name, key, value):
    found = forged_archives.few()
    prepared(found, fitted=True)
    next(cell for cell in found["facts.json"]["cells"] if cell["name"] == name)[key] = value
    with pytest.raises(ArchiveError, match=f"{name} is distilled in one place and plain in another"):
        format.read(forged_archives.written(tmp_path / "a.zip", found))


def test_what_is_exported_is_chosen_among_distilled_and_plain_as_on_the_page(tmp_path):
    """A searched grid with the best score, tied with nothing, is no plain solver that has nothing to learn."""
    found, folder = forged_archives.few(), tmp_path / "digits"
    prepared(found, fitted=True)
    record, scores = copy.deepcopy(found["provenance.json"]), found["scores.json"]
    for name, score in scores.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "score.json").write_text(json.dumps(score))
    (folder / "provenance.json").write_text(json.dumps(record))
    cells = {cell["name"]: cell["distilled"] for cell in Finished(folder).measured("digits-edm")}
    assert cells == dict.fromkeys([AMED, SEARCHED, "digits-edm/d-ddim/nfe5", "digits-edm/j-ipndm/nfe5"], True)
    assert export.best(Finished(folder), "digits-edm", "paired_fid", 5)[0] == "j-ipndm"


def test_an_export_names_the_ties_that_a_third_seed_would_end(tmp_path):
    found, names = forged_archives.few(), ["digits-edm/ipndm/nfe5", "digits-edm/ddim/nfe5", "digits-edm/j-ipndm/nfe5"]
    for name, blocks in zip(names, ([0.558, 0.742], [0.5, 0.9], [0.036, 0.064]), strict=True):
        entry = {"value": sum(blocks) / 2, "error": 0.1, "error_kind": "seeds", "blocks": blocks}
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "score.json").write_text(json.dumps({"metrics": {"paired_fid": entry}}))
    (tmp_path / "provenance.json").write_text(json.dumps(found["provenance.json"]))
    solver, nfe, ties = export.best(Finished(tmp_path), "digits-edm", "paired_fid", 5)
    assert (solver, nfe, sorted(ties)) == ("ipndm", 5, sorted(names[1:]))
    assert export.left_open(Finished(tmp_path), "paired_fid", names[0], ties) == [names[2]]
