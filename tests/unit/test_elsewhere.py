"""Which cells of an archive can stand beside one's own, which are the same, and how both are told."""

import copy
import json
import re

import pandas as pd
import pytest
import yaml

import forged_archives
from dode import storage
from dode.__main__ import main
from dode.benchmark import archive_entries, elsewhere
from dode.benchmark.cells import Benchmark
from dode.benchmark.facts import Facts
from dode.report import collection, tables
from dode.report import frame as frames
from dode.report.archives import added, format
from dode.report.archives import elsewhere as comparison
from dode.report.differences import differences
from dode.report.page import texts
from dode.validation import ConfigError, read_yaml
from forged_archives import DEMO, ROOT
from workspace import change

CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
CONFIG["datasets"] = [own for own in CONFIG["datasets"] if own["id"] == "digits-edm"]
CONFIG["solvers"] = [own for own in CONFIG["solvers"] if own["id"] in ("ddim", "d-ddim", "ipndm", "j-ipndm")]
for _entry in CONFIG["solvers"]:
    _entry["nfe"] = [5]


def record(**changes):
    """The record of a benchmark of these cells with a changed configuration."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        change(config, key, value)
    return elsewhere.record(Benchmark(config, ROOT))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The demo's cells as the code of now would have made them."""
    found, now = forged_archives.few(), record()
    for name, own in found["provenance.json"]["cells"].items():
        own["code"] = now["cells"][name]["code"]
        found["scores.json"][name]["made"]["code"] = {key: own["code"][key] for key in ("sample", "score")}
    path = forged_archives.written(tmp_path_factory.mktemp("archive") / "theirs.zip", found, by="A *lab* | X")
    return format.read(path)


NAMES = ["ddim", "ipndm", "d-ddim", "j-ipndm"]


def test_cells_of_which_everything_agrees_are_the_same_and_no_rows(archive):
    found = comparison.select(archive, record())
    assert found["rows"] == found["apart"] == []
    assert {pair["name"]: pair["own"] for pair in found["same"]} == {
        name: name for name in (f"digits-edm/{solver}/nfe5" for solver in NAMES)
    }
    (control,) = found["controls"]
    assert control == {"name": "digits-edm/reference/nfe79", "own": "digits-edm/reference/nfe79", "differences": []}


def test_a_network_that_guides_is_known_by_its_checksum():
    """Another file behind the same card makes other images."""
    guidance = {"name": "autoguidance", "scale": 2.0, "guide": "digits-ddpm"}
    own = record(**{"datasets[0].guidance": guidance})
    assert own["datasets"]["digits-edm"]["guiding"] == {"guide": "digits-ddpm"}
    other = copy.deepcopy(own)
    other["checkpoints"]["digits-ddpm"]["sha256"] = "0" * 64
    grounds = [comparison.ground(each, "digits-edm") for each in (own, other)]
    assert [key for key, *_ in differences(*grounds)] == ["checkpoints.guide"]
    assert "guiding" not in record()["datasets"]["digits-edm"]


def by(scorer, record):
    """A record whose prompts were scored by a scorer with that checksum; None for one without scorers."""
    found = copy.deepcopy(record)
    if scorer is not None:
        found["datasets"]["digits-edm"]["scorers"] = {"clip_score": {"card": "clip", "network": {"name": "clip"}}}
        found["checkpoints"]["clip"] = {"file": "clip.json", "published": "none", "sha256": scorer * 64}
    return found


@pytest.mark.parametrize(
    ("theirs", "own", "key"),
    [
        ("a", "a", None),
        ("a", None, None),
        (None, "a", None),
        ("a", "b", "scorers.clip_score.checkpoint"),
        ("not recorded", "a", "scorers.clip_score.checkpoint"),
    ],
)
def test_scores_of_one_scorer_stand_beside_those_of_the_same(tmp_path, theirs, own, key):
    found = forged_archives.few()
    if theirs != "not recorded":
        found["provenance.json"] = by(theirs, found["provenance.json"])
    if theirs is not None:
        for score in found["scores.json"].values():
            score["metrics"]["clip_score"] = score["metrics"]["self_fid"]
    archive = format.read(forged_archives.written(tmp_path / "theirs.zip", found))
    chosen = comparison.select(archive, by(own, record()))
    changed = [change[0] for each in chosen["apart"] for change in each["differences"]]
    assert key in changed if key else not changed


def test_names_do_not_decide_what_is_the_same(archive):
    """Another id of data set and solver, another label: the same measurement."""
    changes = {"datasets[0].id": "mine", "solvers[0].id": "euler", "solvers[0].label": "Euler", "benchmark": "other"}
    found = comparison.select(archive, record(**changes))
    assert found["rows"] == []
    assert {"name": "digits-edm/ddim/nfe5", "own": "mine/euler/nfe5"} in found["same"]


@pytest.mark.parametrize(
    ("changes", "key", "theirs", "own"),
    [
        ({"datasets[0].images": 50000}, "samples.images", 2500, 50000),
        ({"datasets[0].seeds": 2}, "samples.seeds", 3, 2),
        ({"datasets[0].reference.nfe": 39}, "reference.nfe", 79, 39),
        ({"datasets[0].reference.grid": {"name": "exponential"}}, "reference.grid.name", "karras", "exponential"),
        ({"seed": 1}, "reference.seed", 0, 1),
        ({"kid": {"subsets": 3, "subset_size": 500}}, "scoring.kid.subsets", 10, 3),
        ({"neighbours": {"images": 100}}, "scoring.neighbours.images", 10000, 100),
        ({"datasets[0].trajectory_images": 7}, "samples.trajectory_images", 500, 7),
    ],
)
def test_scores_on_another_ground_are_no_rows_and_what_differs_is_named(archive, changes, key, theirs, own):
    found = comparison.select(archive, record(**changes))
    assert found["rows"] == found["same"] == found["controls"] == []
    (apart,) = found["apart"]
    assert apart["cells"] == 5
    assert [key, theirs, own] in apart["differences"]


def test_another_model_is_named_as_that_alone(archive):
    changes = {"datasets[0].model": "digits-ddpm", "datasets[0].grid": {"name": "uniform-index"}}
    (apart,) = comparison.select(archive, record(**changes))["apart"]
    ((key, theirs, own),) = apart["differences"]
    assert key == "model"
    assert theirs.startswith("residual-mlp, b2f25109")
    assert own.startswith("residual-mlp-velocity, 9f961804")


@pytest.mark.parametrize(
    ("changes", "cell", "key", "theirs", "own"),
    [
        ({"solvers[1].options": {"order": 3}}, "ipndm", "run.options.order", 4, 3),
        ({"solvers[0].grid": {"name": "karras", "options": {"rho": 5}}}, "ddim", "run.grid.options.rho", 7, 5),
        ({"solvers[2].distill.images": 50}, "d-ddim", "fit.images", 100, 50),
        ({"solvers[2].distill.substeps": 3}, "d-ddim", "fit.substeps", 10, 3),
        ({"solvers[2].distill.seed": 8}, "d-ddim", "fit.seed", None, 8),
        ({"solvers[3].distill.family": "levels"}, "j-ipndm", "fit.family", "auto", "levels"),
        ({"solvers[0].solver": "heun"}, "ddim", "run.solver", "ddim", "heun"),
        ({"solvers[2].distill": None, "solvers[2].options": {}}, "d-ddim", "fit", {}, None),
    ],
)
def test_a_cell_that_differs_in_anything_is_a_row_of_its_own(archive, changes, cell, key, theirs, own):
    changes = {"solvers[0].nfe": [5], **changes}
    found = comparison.select(archive, record(**changes))
    (row,) = [row for row in found["rows"] if row["name"] == f"digits-edm/{cell}/nfe5"]
    assert any(each[0] == key and (each[1:] == [theirs, own] or key == "fit") for each in row["differences"])
    assert f"digits-edm/{cell}/nfe5" not in [pair["name"] for pair in found["same"]]


def test_the_newcomer_of_the_documentation_stands_beside_the_demo():
    """Its configuration is on the demo's ground, and the rows that the document shows are those of the archive."""
    text = (ROOT / "docs" / "sharing.md").read_text()
    config = yaml.safe_load(re.search(r"```yaml\n(benchmark: newcomer.*?)```", text, flags=re.S)[1])
    for entry in config["solvers"]:
        assert entry["solver"] == "midpoint"  # of docs/adding-a-solver.md, which is tested there
        entry["solver"] = "dpm-solver"
        entry["options"] = {"order": 2}
        entry["nfe"] = [4, 8]
    demo = format.read(DEMO)
    found = comparison.select(demo, elsewhere.record(Benchmark(config, ROOT)))
    assert len(found["rows"]) == 18
    assert [apart["dataset"] for apart in found["apart"]] == ["digits-ddpm"]
    (header, *shown) = [
        line.strip("| ").split("|") for line in text.splitlines() if re.match(r"\| (solver  |.* †1)", line)
    ]
    labels = {
        (cell["label"], cell["nfe"]): cell["name"] for cell in demo.facts["cells"] if "digits-edm" in cell["name"]
    }
    assert len(shown) == 9
    for label, *values in shown:
        for nfe, value in zip(header[1:], values, strict=True):
            name = labels.get((label.strip().removesuffix(" †1"), int(nfe.split()[1])))
            entry = name and demo.scores[name]["metrics"]["paired_fid"]
            expected = texts.score([entry["value"], entry["error"]], {"scale": 1}) if entry else "–"
            assert value.strip(" *") == expected, label


def test_files_of_two_machines_are_not_taken_for_the_same_images(archive, tmp_path):
    """Their names may be equal."""
    found, own = forged_archives.members(archive.path), record()
    for each in (found["provenance.json"]["datasets"]["digits-edm"], own["datasets"]["digits-edm"]):
        each["real_version"] = "folder-1a2b3c4d"
    for score in found["scores.json"].values():
        score["made"]["scoring"]["real"] = "folder-1a2b3c4d"
    theirs = format.read(forged_archives.written(tmp_path / "folder.zip", found))
    chosen = comparison.select(theirs, own)
    assert chosen["rows"] == chosen["same"] == []
    assert [each[0] for each in chosen["apart"][0]["differences"]] == ["real"]


def test_other_code_makes_another_cell_and_is_told_of_the_fine_steps_too(archive):
    own = record()
    for cell in own["cells"].values():
        cell["code"]["score"] = "f" * 16
    found = comparison.select(archive, own)
    assert found["same"] == []
    theirs = archive.provenance["cells"]["digits-edm/ddim/nfe5"]["code"]["score"]
    expected = [["code.score", theirs, "f" * 16]]
    assert [row["differences"] for row in found["rows"]] == [expected] * 4
    assert found["controls"][0]["differences"] == expected
    section = "\n\n".join(added.section([comparison.taken(archive, found, 1)], scores_of(archive)))
    assert "were not computed by the same code" in section
    assert "code.score" in section


def scores_of(archive):
    return {name: {"metrics": archive.scores[name]["metrics"]} for name in archive.scores}


def test_only_the_solvers_that_are_asked_for_are_taken(archive):
    own = record(**{"solvers[1].options": {"order": 3}, "solvers[0].grid": {"name": "exponential"}})
    found = comparison.select(archive, own, solvers=["ipndm"])
    assert [row["name"] for row in found["rows"]] == ["digits-edm/ipndm/nfe5"]
    assert found["same"] == []
    with pytest.raises(ValueError, match=r"unknown solver 'ipndn' \(did you mean 'ipndm'\?\)"):
        comparison.select(archive, own, solvers=["ipndn"])


@pytest.fixture
def shown(archive, tmp_path):
    """The tables of a benchmark of DDIM on a grid of its own, and of the archive's cells."""
    config = copy.deepcopy(CONFIG)
    config["solvers"] = [{**config["solvers"][0], "grid": {"name": "exponential", "options": {}}}]
    bench = Benchmark(config, ROOT)
    chosen = comparison.select(archive, elsewhere.record(bench))
    storage.write_json(tmp_path / "1.json", comparison.taken(archive, chosen, 1))
    name, fine = "digits-edm/ddim/nfe5", "digits-edm/reference/nfe79"
    own = {each: archive.scores[each] for each in (name, fine)}
    storage.write_json(tmp_path / "own.json", {"scores": own, "fits": {}})
    facts = [Facts(bench).of_cell(cell) for cell in bench.cells.values()]
    frame = collection.frame(facts, [tmp_path / "own.json"], {}, [tmp_path / "1.json"])
    frames.write_csv(frame, tmp_path / "table.csv")
    others = collection.elsewhere([tmp_path / "1.json"])
    tables.write_markdown(frame, tmp_path / "table.md", closing=added.section(others, scores_of(archive)))
    tables.write_latex(frame, tmp_path / "table.tex")
    return frame, tmp_path, others


def test_rows_from_elsewhere_are_marked_in_every_table_with_whose_they_are(shown, archive):
    frame, folder, _ = shown
    csv = pd.read_csv(folder / "table.csv", keep_default_na=False)
    theirs = csv[csv["solver"].str.contains("@")]
    assert set(theirs["solver"]) == {f"{name}@1" for name in NAMES}
    assert all(theirs["label"].str.endswith(" †1"))
    assert set(theirs["measured"]) == {theirs["measured"].iloc[0]}
    assert theirs["measured"].iloc[0].startswith("†1: measured elsewhere, by A *lab* | X, 2026-")
    assert archive.sha256[:12] in theirs["measured"].iloc[0]
    assert not csv[~csv["solver"].str.contains("@")]["measured"].any()
    assert frames.read_csv(folder / "table.csv").equals(frame)
    markdown, latex = ((folder / name).read_text() for name in ("table.md", "table.tex"))
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert any(line.startswith("| DDIM ") and "†" not in line for line in rows)
    assert any(line.startswith("| DDIM †1 ") for line in rows)
    assert "measured elsewhere, by A \\*lab\\* \\| X" in markdown
    assert "## Measured elsewhere" in markdown
    assert r"DDIM $\dagger$1 &" in latex
    assert "measured elsewhere, by A *lab*" in latex


def test_a_distilled_row_from_elsewhere_is_paired_with_the_plain_one_from_there(shown):
    *_, (taken,) = shown
    facts = {cell["name"]: cell for cell in taken["facts"]}
    assert facts["digits-edm/d-ddim@1/nfe5"]["plain"] == "digits-edm/ddim@1/nfe5"
    assert facts["digits-edm/ddim@1/nfe5"]["archived"] == "digits-edm/ddim/nfe5"


def test_how_the_same_cells_agree_is_counted(archive):
    found = comparison.taken(archive, comparison.select(archive, record()), 1)
    scores = scores_of(archive)
    count = sum(len(scores[pair["own"]]["metrics"]) for pair in found["same"])
    assert added.agreement(found["same"], scores).startswith(
        f"{count} of {count} scores are equal to the last digit, 0"
    )
    other = copy.deepcopy(scores)
    entry = other["digits-edm/ddim/nfe5"]["metrics"]["fid"]
    entry |= {"value": entry["value"] + 100, "blocks": [block + 100 for block in entry["blocks"]]}
    said = added.agreement(found["same"], other)
    assert said.startswith(f"{count - 1} of {count} scores are equal to the last digit, 1 differ beyond")
    assert "fid of digits-edm/ddim/nfe5" in said


def test_the_record_with_archives_keeps_environments_apart(archive):
    own = {"cells": {"a": {"environments": {"samples": [0]}}}, "environments": ["mine"]}
    chosen = comparison.select(archive, record(**{"solvers[0].grid": {"name": "exponential"}}))
    found = added.provenance(own, [comparison.taken(archive, chosen, 1), comparison.taken(archive, chosen, 2)])
    environments = archive.provenance["environments"]
    assert found["environments"] == ["mine", *environments, *environments]
    for number in (1, 2):
        made = found["cells"][f"digits-edm/ddim@{number}/nfe5"]
        expected = archive.environments("digits-edm/ddim/nfe5", "samples")
        assert [found["environments"][index] for index in made["environments"]["samples"]] == expected


def test_a_label_cannot_pass_for_one_from_elsewhere_or_hide_it():
    config = copy.deepcopy(CONFIG)
    config["solvers"][0]["label"] = "DDIM †1"
    with pytest.raises(ConfigError, match="marks what was measured elsewhere"):
        Benchmark(config, ROOT)


LAYOUTS = {
    "without the key": "benchmark: a\n# the end\n",
    "without a line end": "benchmark: a",
    "in the middle": "archives:\n  - {file: one.zip, sha256: ONE} # mine\n\n# next\nbenchmark: a\n",
    "indented by nothing": "archives:\n- file: one.zip\n  sha256: ONE\nbenchmark: a\n",
    "over several lines": "benchmark: a\narchives: # those\n    # first\n    - file: one.zip\n      sha256: ONE\n\n",
    "an empty list": "archives: [] # none\nbenchmark: a\n",
    "nothing": "archives:\nbenchmark: a\n",
    "JSON": '{"benchmark": "a", "archives": [{"file": "one.zip", "sha256": "ONE"}]}',
    "a comment at the margin": "archives:\n  - {file: a.zip, sha256: ONE}\n# between\n  - {file: b.zip, sha256: X}\n",
    "with an anchor": "archives: &a\n  - {file: one.zip, sha256: ONE}\n",
}
ONE, TWO, NEW = ("a1" * 32, "b2" * 32, "c3" * 32)


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_an_archive_is_added_to_a_configuration_whose_comments_stay(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("ONE", ONE))
    before = read_yaml(path)
    entry = {"file": "a: {b}.zip", "sha256": TWO, "solvers": ["ddim"]}
    assert archive_entries.put(path, entry)
    after = read_yaml(path)
    assert after == {**before, "archives": [*(before.get("archives") or []), entry]}
    for comment in ("# the end", "# mine", "# next", "# those", "# first", "# none", "# between"):
        assert (comment in text) == (comment in path.read_text())
    assert not archive_entries.put(path, entry)
    assert archive_entries.put(path, {**entry, "sha256": NEW})  # it was packed again
    assert read_yaml(path)["archives"] == [*after["archives"][:-1], {**entry, "sha256": NEW}]


def test_a_layout_that_cannot_be_edited_is_left_as_it_is(tmp_path):
    path = tmp_path / "mine.yaml"
    text = f"archives: [{{file: one.zip, sha256: '{ONE}'}}]\n"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r'write by hand, under archives: - \{"file": "new.zip"'):
        archive_entries.put(path, {"file": "new.zip", "sha256": TWO})
    assert path.read_text() == text


@pytest.mark.parametrize("archives", ["x.zip", {"file": "x.zip"}, ["x.zip"], [{"file": "x.zip"}], [{"file": 1}]])
def test_entries_that_are_none_are_told_and_left(tmp_path, capsys, archive, archives):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"archives": archives}))
    before = path.read_text()
    assert main(["add", str(archive.path), str(path)]) == 1
    error = capsys.readouterr().err
    assert "archives: is no list of entries with file and sha256; mend it first" in error
    assert len(error.splitlines()) == 1
    assert path.read_text() == before


def test_a_precision_that_was_chosen_makes_no_other_ground_but_another_cell(archive, tmp_path):
    """Of an archive whose lab measured that TF32 suffices."""
    way = {"dtype": "float32", "tf32": True, "channels_last": False, "compile": True}
    found = forged_archives.members(archive.path)
    for name, own in found["provenance.json"]["cells"].items():
        own["run"]["precision"] = way
        found["scores.json"][name]["made"]["cell"]["precision"] = way
        if name in found["fits.json"]:
            found["fits.json"][name]["cell"]["precision"] = way
    theirs = format.read(forged_archives.written(tmp_path / "tf32.zip", found))
    own = record()
    chosen = comparison.select(theirs, own)
    assert chosen["apart"] == chosen["same"] == []
    assert [row["differences"] for row in chosen["rows"]] == [[["run.precision", way, None]]] * 4
    assert chosen["controls"][0]["differences"] == [["run.precision", way, None]]
    for cell in own["cells"].values():
        cell["run"]["precision"] = "plain"
    storage.write_json(tmp_path / "choice.json", {"plain": way})
    same = elsewhere.with_precisions(own, {name: str(tmp_path / "choice.json") for name in own["cells"]})
    assert len(comparison.select(theirs, same)["same"]) == 4


def test_the_command_says_what_becomes_of_the_cells_and_edits_the_configuration(tmp_path, capsys, archive):
    path = tmp_path / "mine.yaml"
    config = copy.deepcopy(CONFIG)
    config["solvers"] = [{"id": "unipc", "label": "UniPC", "solver": "unipc", "nfe": [5]}]
    path.write_text(yaml.safe_dump(config))
    before = path.read_text()
    assert main(["add", str(archive.path), str(path), "--dry-run"]) == 0
    assert path.read_text() == before
    assert main(["add", str(archive.path), str(path)]) == 0
    said = capsys.readouterr().out
    assert "Rows of digits-edm: 4 cells, marked †1." in said
    assert f"Added to {path}. Now: python -m dode run {path}" in said  # an installed dode has no Snakefile beside it
    assert read_yaml(path)["archives"] == [{"file": str(archive.path), "sha256": archive.sha256}]
    Benchmark(read_yaml(path), ROOT)
    assert main(["add", str(archive.path), str(path)]) == 0
    assert "already in" in capsys.readouterr().out


def test_an_archive_of_which_nothing_can_be_compared_is_not_added(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"seed": 5}))
    before = path.read_text()
    assert main(["add", str(DEMO), str(path)]) == 1
    said = capsys.readouterr().out
    assert "reference.seed" in said
    assert "is left as it is" in said
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"file": "none.zip", "sha256": ONE}, "archives[0].file: none.zip: No such file"),
        ({"file": str(DEMO), "sha256": ONE}, "archives[0].sha256"),
        ({"file": str(DEMO)}, "archives[0]: the key 'sha256' is missing"),
        ({"file": str(DEMO), "sha256": "x"}, "archives[0].sha256: 'x' is not allowed"),
        ({"file": "a{b}.zip", "sha256": ONE}, "has a brace"),
        ({"fil": "a"}, "unknown key 'fil'"),
    ],
)
def test_a_bad_entry_is_one_sentence(entry, says):
    with pytest.raises(ConfigError) as caught:
        Benchmark({**copy.deepcopy(CONFIG), "archives": [entry]}, ROOT)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_is_listed_once(archive):
    entry = {"file": str(archive.path), "sha256": archive.sha256}
    with pytest.raises(ConfigError, match=r"archives\[1\].file: .* is the same file as that of archives\[0\]"):
        Benchmark({**copy.deepcopy(CONFIG), "archives": [entry, entry]}, ROOT)


def test_what_cannot_be_read_is_told_before_the_first_job(tmp_path):
    path = forged_archives.edited(tmp_path / "forged.zip", lambda found: found["scores.json"].clear())
    sha256 = format.hashlib.sha256(path.read_bytes()).hexdigest()
    bench = Benchmark({**copy.deepcopy(CONFIG), "archives": [{"file": str(path), "sha256": sha256}]}, ROOT)
    with pytest.raises(ConfigError, match=r"archives\[0\]: .*scores.json"):
        elsewhere.refuse_unreadable(bench)
    entry = {"file": str(DEMO), "sha256": format.read(DEMO).sha256, "solvers": ["ddmi"]}
    bench = Benchmark({**copy.deepcopy(CONFIG), "archives": [entry]}, ROOT)
    with pytest.raises(ConfigError, match="unknown solver 'ddmi'"):
        elsewhere.refuse_unreadable(bench)


def test_the_record_of_a_configuration_is_that_of_its_results():
    """What ``add`` compares with before anything has run is what the run will write, but for code and labels."""
    found = forged_archives.few()["provenance.json"]
    own = json.loads(json.dumps(record()))
    assert comparison.ground(own, "digits-edm") == comparison.ground(found, "digits-edm")
    for name, made in found["cells"].items():
        assert {key: made.get(key) for key in ("run", "samples", "fit")} == {
            key: own["cells"][name].get(key) for key in ("run", "samples", "fit")
        }
        assert set(own["cells"][name]["code"]) == set(made["code"])
