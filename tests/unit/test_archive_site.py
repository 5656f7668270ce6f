"""A site of archives: every page and link is there, everything is shown as text, and nothing else is touched."""

import html
import json
import re
from html.parser import HTMLParser

import pytest

import forged_archives
from dode.__main__ import main
from dode.metrics.catalogue import METRICS
from dode.report.archives import elsewhere, format, site
from dode.report.page import texts
from forged_archives import DEMO

DDIM = "digits-edm/ddim/nfe5"


class Links(HTMLParser):
    """What a page links to, and its ids."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.ids.add(own.get("id"))
        if tag == "a":
            self.links.append(own["href"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "site"
    site.write([format.read(DEMO)], folder)
    return folder


def without_features(found):
    """The few cells as if their images had been scored without features and real ones."""
    (record,), (facts,) = found["provenance.json"]["datasets"].values(), found["facts.json"]["datasets"]
    record |= {"features": {"card": None}, "real": "", "real_version": None}
    facts |= {"extractor": None, "real": "", "published_statistics": False}
    found["halves.json"] = {}
    for score in found["scores.json"].values():
        score |= {"extractor": "{}", "reference": None, "biased": []}
        score["metrics"] = {key: own for key, own in score["metrics"].items() if not METRICS[key].of_features}
        score["made"]["scoring"] |= {"card": {}, "real": None}


def test_an_archive_without_features_shows_the_distance_to_the_fine_solution(tmp_path):
    archive = format.read(forged_archives.edited(tmp_path / "few.zip", without_features))
    site.write([archive], tmp_path / "site")
    text = visible((tmp_path / "site" / "index.html").read_text())
    assert "scored without real images and without features. The fine-step solver" in text
    assert "trajectory RMSE ↓" in text
    assert "FID ↓" not in text
    assert elsewhere.ground(archive.provenance, "digits-edm")["checkpoints"]["features"] is None
    (page,) = (tmp_path / "site").glob("digits-*/index.html")
    assert "<dt>features</dt><dd>none</dd>" in page.read_text()


def visible(text):
    """The text of a page without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_the_demos_archive_makes_a_page_for_each_cell_and_one_of_the_benchmark(demo):
    archive = format.read(DEMO)
    assert len(list(demo.glob("cells/*.html"))) == len(archive.cells) == 34
    (page,) = demo.glob("digits-*/index.html")
    assert page.parent.name == f"digits-{archive.sha256[:8]}"
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "table.csv", "table.md", "table.tex"}


def test_the_index_has_every_score_by_model_and_evaluations_with_a_link_to_its_cell(demo):
    archive, text = format.read(DEMO), (demo / "index.html").read_text()
    for name, score in archive.scores.items():
        _, solver, nfe = name.split("/")
        own = next(cell for cell in archive.facts["cells"] if cell["name"] == name)
        if own["reference"]:
            continue
        for metric in ("paired_fid", "fid"):
            entry = score["metrics"][metric]
            said = texts.score([entry["value"], entry["error"]], {"scale": 1})
            assert re.search(rf'<a href="cells/{re.escape(solver)}-{nfe}-\w+.html">{re.escape(said)}</a>', text), name
    assert [*map(visible, re.findall(r"<h2.*?</h2>", text))] == ["digits-ddpm", "digits-edm", "Who measured what"]
    assert "the dode project" in text
    assert archive.sha256 in text


def test_what_cannot_be_told_apart_is_marked_as_in_the_benchmarks_own_page(demo):
    marks = dict(re.findall(r'<td class="(\w+)"><a href="(cells/[^"]+)"', (demo / "index.html").read_text()))
    assert set(marks) == {"best", "second"}
    (page,) = demo.glob("digits-*/index.html")
    best = re.findall(r'class="value best" data-cell="digits-edm/([\w-]+)/nfe5" data-value', page.read_text())
    assert "j-ipndm" in best
    assert re.search(r'<td class="best"><a href="cells/j-ipndm-nfe5-', (demo / "index.html").read_text())


def test_every_link_leads_to_a_file_of_the_site(demo):
    pages = {path: Links(path.read_text()) for path in demo.rglob("*.html")}
    for path, found in pages.items():
        for link in found.links:
            name, _, fragment = link.partition("#")
            assert not re.match(r"[a-z]+:|//", name), link
            target = (path.parent / name).resolve() if name else path
            assert target.is_file(), (path, link)
            if fragment.startswith("cell="):
                assert f"cell/{fragment.removeprefix('cell=')}" in pages[target].ids
            elif fragment:
                assert fragment in pages[target].ids


def test_no_page_can_load_or_send_anything(demo):
    for path in demo.rglob("*.html"):
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', path.read_text())
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert ("script-src" in policy) == path.parent.name.startswith("digits-")


def test_a_cells_page_says_how_it_is_audited_and_where_it_was_sampled(demo):
    (path,) = [path for path in demo.glob("cells/ddim-nfe5-*") if "digits-edm/ddim/nfe5" in path.read_text()]
    said = visible(path.read_text())
    assert f"python -m dode audit digits.zip {DDIM}" in said
    assert "Measured once" in said
    assert texts.environment(format.read(DEMO).environments(DDIM, "samples")[0]) in said


def twice(tmp_path, edit, **manifest):
    """The few cells, and again as another lab measured them another day."""
    first = forged_archives.written(tmp_path / "first.zip", forged_archives.few(), by="Lab A", date="2026-01-31")
    found = json.loads(json.dumps(forged_archives.few()))
    edit(found)
    manifest = {"by": "Lab B", "date": "2026-02-28", **manifest}
    return [format.read(path) for path in (forged_archives.written(tmp_path / "second.zip", found, **manifest), first)]


def test_a_cell_that_was_measured_twice_has_its_history(tmp_path):
    def edit(found):
        own = found["scores.json"][DDIM]
        entry = own["metrics"]["fid"]
        entry |= {"value": entry["value"] + 90, "blocks": [block + 90 for block in entry["blocks"]]}
        own["made"]["code"]["sample"] = found["provenance.json"]["cells"][DDIM]["code"]["sample"] = "f" * 16
        for each in found["provenance.json"]["environments"]:
            each["software"]["torch"] = "99.0"

    site.write(twice(tmp_path, edit), tmp_path / "site")
    assert len(list((tmp_path / "site").glob("cells/*.html"))) == 5
    (path,) = (tmp_path / "site").glob("cells/ddim-nfe5-*")
    said = visible(path.read_text())
    assert "Measured 2 times" in said
    assert said.index("Lab B") < said.index("Lab A")  # the newest first, whatever the order of the files
    assert "From 2026-01-31 (A) to 2026-02-28 (B)" in said
    count = len(forged_archives.few()["scores.json"][DDIM]["metrics"])
    assert f"{count - 1} of {count} scores are equal to the last digit; FID differs beyond the errors" in said
    assert (
        f"code.sample {forged_archives.few()['provenance.json']['cells'][DDIM]['code']['sample']} → {'f' * 16}" in said
    )
    assert "samples made with.software.torch 2.13.0+cpu → 99.0" in said
    index = (tmp_path / "site" / "index.html").read_text()
    newest = forged_archives.few()["scores.json"][DDIM]["metrics"]["fid"]
    assert texts.score([newest["value"] + 90, newest["error"]], {"scale": 1}) in index
    assert "<sup>A B</sup>" in index


def test_what_was_scored_otherwise_has_a_table_of_its_own(tmp_path):
    def edit(found):
        found["provenance.json"]["datasets"]["digits-edm"]["scoring"]["kid"]["subsets"] = 3
        for score in found["scores.json"].values():
            score["made"]["scoring"]["kid"]["subsets"] = 3

    site.write(twice(tmp_path, edit), tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    assert len(list((tmp_path / "site").glob("cells/*.html"))) == 10
    assert len(re.findall(r"<h2", index)) == 2  # one model, and who measured
    assert len(re.findall(r'<table class="board">', index)) == 4


def test_a_benchmark_without_real_images_is_packed_and_shown(tmp_path):
    """Whose cells have no FID."""
    found = forged_archives.few()
    found["halves.json"] = {}
    found["facts.json"]["datasets"][0]["real"] = found["provenance.json"]["datasets"]["digits-edm"]["real"] = ""
    found["provenance.json"]["datasets"]["digits-edm"]["real_version"] = None
    for score in found["scores.json"].values():
        score["reference"] = score["made"]["scoring"]["real"] = None
        score["metrics"] = {key: own for key, own in score["metrics"].items() if "paired" in key or "traj" in key}
    site.write([format.write(tmp_path / "a.zip", found, by="", date="2026-01-31")], tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    assert "scored without real images, by features of digits-classifier" in index
    assert len(re.findall(r'<table class="board">', index)) == 1


def test_text_of_an_archive_is_never_markup(tmp_path):
    hostile = '"><i onclick=1>&x'.replace("<i", "< i")

    def edit(found):
        found["facts.json"]["cells"][0]["label"] = hostile
        found["provenance.json"]["cells"][DDIM]["label"] = hostile
        found["facts.json"]["datasets"][0]["model"]["licence"] = hostile

    assert forged_archives.few()["facts.json"]["cells"][0]["name"] == DDIM
    site.write(twice(tmp_path, edit, by=hostile), tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.html"):
        assert hostile not in path.read_text()
    assert html.escape(hostile) in (tmp_path / "site" / "index.html").read_text().replace("&#34;", "&quot;")


def test_a_site_is_written_anew_and_what_is_not_its_own_stays(tmp_path, demo, capsys):
    folder = tmp_path / "site"
    one, other = twice(tmp_path, lambda found: None)
    site.write([one, other], folder)
    (folder / "CNAME").write_text("mine")
    site.write([one], folder)
    assert (folder / "CNAME").read_text() == "mine"
    assert not (folder / f"digits-{other.sha256[:8]}").exists()
    before = {path: path.read_bytes() for path in folder.rglob("*.html")}
    site.write([one], folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.html")} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert main(["pages", str(DEMO), "--output", str(tmp_path / "mine")]) == 1
    assert "has other files than a site" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["../thesis.tex", "/etc/passwd", "a/../../thesis.tex", "..", 7, "a/b/c"])
def test_a_marker_that_names_other_files_removes_none(tmp_path, name):
    folder = tmp_path / "site"
    (folder / "a" / "b").mkdir(parents=True)
    for place in (tmp_path / "thesis.tex", folder / "a" / "b" / "c"):
        place.write_text("x")
    (folder / site.MARKER).write_text(json.dumps({"files": [name]}))
    site.write([format.read(forged_archives.written(tmp_path / "a.zip", forged_archives.few()))], folder)
    assert (tmp_path / "thesis.tex").is_file()
    assert (folder / "a" / "b" / "c").is_file()


def test_the_same_archive_twice_is_refused(tmp_path, capsys):
    (tmp_path / "copy.zip").write_bytes(DEMO.read_bytes())
    assert main(["pages", str(DEMO), str(tmp_path / "copy.zip"), "--output", str(tmp_path / "site")]) == 1
    assert "is given twice, here or under another name" in capsys.readouterr().err


def test_every_archive_of_the_repository_is_in_one_site(tmp_path, capsys):
    paths = sorted(map(str, DEMO.parent.glob("*.zip")))
    assert main(["pages", *paths, "--output", str(tmp_path / "site")]) == 0
    assert f"{len(paths)} archive" in capsys.readouterr().out
    index = (tmp_path / "site" / "index.html").read_text()
    for path in paths:
        assert format.read(path).sha256 in index


def test_many_archives_have_letters():
    found = site._letters(703)
    assert found[:2] + found[25:28] + found[701:] == ["A", "B", "Z", "AA", "AB", "ZZ", "AAA"]
