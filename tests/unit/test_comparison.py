"""Two finished benchmarks held against each other."""

import json

import numpy as np
import pytest

from dode.__main__ import main
from dode.report import comparison
from dode.report.finished import Finished

CODE = {"sample": "a", "score": "b"}


def provenance(cells, **software):
    return {
        "benchmark": "one",
        "datasets": {"digits": {"model": {"network": {"name": "mlp", "options": {"width": 8}}}}},
        "cells": {name: {"run": {"solver": "ddim", "options": {}}, "code": dict(CODE)} for name in cells},
        "checkpoints": {"digits-edm": {"file": "f", "published": "none", "sha256": "1" * 64}},
        "software": {"torch": "2.13", **software},
        "environments": [],
    }


@pytest.fixture
def finished(tmp_path):
    """Writes a folder of results: ``finished(name, {cell: metrics}, record)``."""

    def write(name, cells, record=True):
        folder = tmp_path / name
        for cell, metrics in cells.items():
            (folder / cell).mkdir(parents=True)
            (folder / cell / "score.json").write_text(json.dumps({"metrics": metrics}))
        if record:
            given = provenance(cells) if record is True else record
            (folder / "provenance.json").write_text(json.dumps(given))
        return Finished(folder)

    return write


def entry(*blocks, error=None):
    """A metric of a cell; of a single seed with the error of its images."""
    error = float(np.std(blocks, ddof=1)) if len(blocks) > 1 else error
    return {"value": float(np.mean(blocks)), "error": error, "error_kind": "seeds", "blocks": list(blocks)}


def one(*blocks, error=None):
    """The scores of a benchmark of one cell."""
    return {"d/s/nfe5": {"fid": entry(*blocks, error=error)}}


def with_scorers(finished, name, checksums, value=20.0):
    """A benchmark whose prompts were scored: by metric the checksum of the scorer, or None where it is not recorded."""
    cell = "d/s/nfe5"
    record = provenance([cell])
    record["datasets"]["d"] = {"scorers": {metric: {"card": metric} for metric, own in checksums.items() if own}}
    record["checkpoints"] |= {metric: {"sha256": own} for metric, own in checksums.items() if own}
    found = finished(name, {cell: {metric: entry(value, error=0.1) for metric in ("fid", *checksums)}}, record)
    score = json.loads((found.folder / cell / "score.json").read_text())
    cards = [{"network": {"name": "clip", "options": {"score": metric}}} for metric in checksums]
    score["prompt_scores"] = [{"scoring": {"card": card}} for card in cards]
    (found.folder / cell / "score.json").write_text(json.dumps(score))
    return found


def test_scores_of_prompts_are_compared_where_the_scorer_is_the_same(finished):
    first = with_scorers(finished, "first", {"clip_score": "a" * 64, "pick_score": "b" * 64})
    for checksum, why in (("a" * 64, ""), ("c" * 64, "different scorer"), (None, "scorer not recorded")):
        own = {"clip_score": checksum, "pick_score": "b" * 64}
        found = comparison.compare(first, with_scorers(finished, f"to {why}", own, value=30.0))
        rows = {row.metric: row for row in found.rows}
        assert (rows["clip_score"].beyond, rows["clip_score"].why) == (None if why else True, why)
        assert rows["pick_score"].beyond is rows["fid"].beyond is True


def test_a_difference_of_single_seeds_counts_from_their_interval_on(finished):
    """Errors 3 and 4 make 5, and an interval of 9.8 to either side."""
    first = finished("first", one(20.0, error=3.0))
    for number, error, beyond in [
        (29.7, 4.0, False),
        (29.9, 4.0, True),
        (10.1, 4.0, True),
        (20.0, None, False),
        (20.1, None, None),
    ]:
        found = comparison.compare(first, finished(f"to {number} {error}", one(number, error=error)))
        assert found.rows[0].beyond is beyond
        assert found.rows[0].difference == pytest.approx(number - 20)
        assert found.differs == (beyond is not False)
        if error:
            assert found.rows[0].margin == pytest.approx(1.959964 * 5)
    sure = comparison.compare(first, finished("sure", one(29.9, error=4.0)), confidence=0.99)
    assert not sure.rows[0].beyond
    with pytest.raises(ValueError, match="confidence must be a number between 0 and 1, not 95"):
        comparison.compare(first, first, confidence=95)


def test_seeds_are_compared_one_by_one(finished):
    """Of the differences 1, 2 and 3 the mean is 2 and the interval 4.3027 / sqrt(3) to either side."""
    first, second = finished("first", one(10.0, 20.0, 30.0)), finished("second", one(11.0, 22.0, 33.0))
    (row,) = comparison.compare(first, second).rows
    assert (row.difference, row.margin) == (2.0, pytest.approx(2.484, abs=1e-3))
    assert row.first_error == pytest.approx(10 / 3**0.5)
    assert not row.beyond
    assert comparison.compare(first, finished("third", one(11.9, 22.0, 32.1))).rows[0].beyond


def test_scores_of_other_numbers_of_images_or_fine_steps_are_not_judged(finished):
    names = ("paired_fid", "fid", "kid", "self_fid", "trajectory_rmse")
    runs = []
    for name, shift, images, steps in (("first", 0.0, 100, 79), ("second", 1.0, 50, 39)):
        metrics = {"d/s/nfe5": {metric: entry(1.0 + shift, 1.1 + shift) for metric in names}}
        record = provenance([*metrics, "d/reference/nfe1"])
        record["datasets"]["d"] = {"reference": "d/reference/nfe1"}
        record["cells"]["d/reference/nfe1"]["run"]["nfe"] = steps
        found = finished(name, metrics, record)
        path = found.folder / "d/s/nfe5/score.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "images": images}))
        runs.append(found)
    found = {row.metric: (row.beyond, row.why) for row in comparison.compare(*runs).rows}
    assert found == {
        "paired_fid": (None, "different number of images"),
        "fid": (None, "different number of images"),
        "kid": (True, ""),
        "self_fid": (None, "different number of images"),
        "trajectory_rmse": (None, "different fine-step solver"),
    }


def test_what_an_earlier_configuration_left_is_no_part_of_it(finished):
    cells = {f"d/{solver}/nfe5": {"fid": entry(1.0, 1.1)} for solver in ("s", "old")}
    first = finished("first", cells, provenance(["d/s/nfe5"]))
    second = finished("second", {"d/s/nfe5": cells["d/s/nfe5"]})
    found = comparison.compare(first, second)
    assert (list(first.cells), found.stale) == (["d/s/nfe5"], [f"{first.folder}/d/old/nfe5"])
    assert not found.differs
    assert "Left behind by an earlier configuration" in comparison.markdown(found, ["a", "b"])
    assert [cell["name"] for cell in first.measured("d")] == ["d/s/nfe5"]


def test_what_chance_alone_would_find_is_counted_where_values_differ_and_have_errors(finished):
    scores = [entry(1.0, 1.1), entry(1.0), {"value": None, "error": None, "blocks": [None, None]}]
    others = [entry(1.0, 1.2), entry(1.1), scores[2]]
    runs = [
        finished(name, {"d/s/nfe5": dict(zip(("fid", "kid", "precision"), own, strict=True))})
        for name, own in (("first", scores), ("second", others))
    ]
    assert "nothing changed but rounding or noise, 0.05 would" in comparison.markdown(comparison.compare(*runs), "ab")


def test_the_order_of_environments_is_no_difference(finished):
    metrics, kinds = {"d/s/nfe5": {"fid": entry(1.0)}}, [{"machine": "a"}, {"machine": "b"}]
    runs = []
    for name, environments in (("first", kinds), ("second", kinds[::-1])):
        record = {**provenance(metrics), "environments": environments}
        record["cells"]["d/s/nfe5"]["environments"] = {"samples": [0, 1]}
        runs.append(finished(name, metrics, record))
    assert comparison.compare(*runs).changes == []


def test_a_score_that_became_nan_is_beyond_any_error(finished):
    first = finished("first", {"d/s/nfe5": {"fid": entry(3.0, error=1.0)}})
    second = finished("second", {"d/s/nfe5": {"fid": {"value": None, "error": None, "blocks": [None]}}})
    assert comparison.compare(first, second).rows[0].beyond is not False
    assert not comparison.compare(second, second).differs
    json.dumps(comparison.plain(comparison.compare(first, second)), allow_nan=False)


def test_cells_and_metrics_of_one_alone_are_told(finished):
    first = finished("first", {"d/s/nfe5": {"fid": entry(1.0), "kid": entry(1.0)}, "d/s/nfe10": {"fid": entry(1.0)}})
    second = finished("second", {"d/s/nfe5": {"fid": entry(1.0)}, "d/t/nfe5": {"fid": entry(1.0)}})
    found = comparison.compare(first, second)
    assert (found.only_first, found.only_second) == (["d/s/nfe10"], ["d/t/nfe5"])
    assert [(row.metric, row.beyond) for row in found.rows] == [("fid", False), ("kid", None)]


def test_a_folder_from_before_a_score_is_compared_by_the_others(finished):
    first = finished("first", {"d/s/nfe5": {"fid": entry(1.0)}})
    second = finished("second", {"d/s/nfe5": {"paired_fid": entry(0.1), "fid": entry(1.0)}})
    found = comparison.compare(first, second)
    assert [(row.metric, row.beyond, row.why) for row in found.rows] == [
        ("paired_fid", None, "in one alone"),
        ("fid", False, ""),
    ]
    lines = comparison.markdown(found, ["old", "new"]).splitlines()
    (row,) = [[text.strip() for text in line.split("|")] for line in lines if "paired FID" in line]
    assert row[1:] == ["d/s/nfe5", "paired FID", "–", "0.100", "–", "in one alone", ""]


def test_what_differs_in_the_making_is_told_once_for_all_cells_of_it(finished):
    cells = [f"d/s/nfe{nfe}" for nfe in (5, 6, 7, 8)]
    metrics = {cell: {"fid": entry(1.0)} for cell in cells}
    record = provenance(cells, torch="2.14", numpy="2")
    record["checkpoints"]["digits-edm"]["sha256"] = "2" * 64
    record["datasets"]["digits"]["model"]["network"]["options"]["width"] = 9
    for cell in cells:
        record["cells"][cell]["code"]["score"] = "c"
    record["cells"]["d/s/nfe5"]["run"]["options"] = {"order": 2}
    found = comparison.compare(finished("first", metrics), finished("second", metrics, record))
    assert {(change.part, change.key, change.first, change.second, change.cells) for change in found.changes} == {
        ("software", "torch", "2.13", "2.14", ()),
        ("software", "numpy", None, "2", ()),
        ("checkpoints", "digits-edm.sha256", "1" * 64, "2" * 64, ()),
        ("datasets", "digits.model.network.options.width", 8, 9, ()),
        ("cells", "code.score", "b", "c", tuple(cells)),
        ("cells", "run.options.order", None, 2, ("d/s/nfe5",)),
    }
    assert not found.differs
    text = comparison.markdown(found, ["first", "second"])
    assert "d/s/nfe5, d/s/nfe6, d/s/nfe7 and 1 more" in text


def test_without_a_record_the_scores_are_compared_all_the_same(finished, capsys):
    cells = {"d/s/nfe5": {"fid": entry(1.0, 1.5), "kid": entry(1e-3, 2e-3)}}
    first, second = finished("first", cells), finished("second", cells, record=False)
    assert main(["compare", str(first.folder), str(second.folder)]) == 0
    text = capsys.readouterr().out
    assert "0 of 2 scores differ beyond their error, with 0.95 confidence each; 0 cannot be judged, 2 do not" in text
    assert "of these 2 are equal to the last digit. Had nothing changed but rounding or noise, 0 would be" in text
    assert "| 1.25 ± 0.25 |" in text
    assert "| 1.50 ± 0.50 |" in text  # KID is in thousandths
    assert f"no provenance.json in {second.folder}" in text


def test_the_command_says_what_it_was_asked_for(finished, capsys):
    first = finished("first", {"d/s/nfe5": {"fid": entry(1.0, 1.1)}, "d/t/nfe5": {"fid": entry(5.0, 5.1)}})
    second = finished("second", {"d/s/nfe5": {"fid": entry(1.0, 1.1)}, "d/t/nfe5": {"fid": entry(7.0, 7.11)}})
    folders = [str(first.folder), str(second.folder)]
    assert main(["compare", *folders]) == 0
    assert "d/s/nfe5" in capsys.readouterr().out
    assert main(["compare", *folders, "--changed", "--fail-on-difference"]) == 3
    text = capsys.readouterr().out
    assert "d/s/nfe5" not in text
    assert "| +2.005 ± 0.064 | yes" in text
    assert main(["compare", *folders, "--json"]) == 0
    assert [row["beyond"] for row in json.loads(capsys.readouterr().out)["scores"]] == [False, True]
    assert main(["compare", folders[0], folders[0], "--fail-on-difference"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "not a folder of results"),
        (lambda folder: (folder / "d/s/nfe5/score.json").write_text("{"), "score.json: not JSON"),
        (lambda folder: (folder / "provenance.json").write_text("{}"), "provenance.json: not a record"),
    ],
)
def test_bad_folders_are_one_sentence(finished, tmp_path, capsys, make, says):
    good = finished("good", {"d/s/nfe5": {"fid": entry(1.0)}})
    bad = (
        finished("bad", {"d/s/nfe5": {"fid": entry(1.0)}}).folder
        if says != "not a folder of results"
        else tmp_path / "none"
    )
    make(bad)
    assert main(["compare", str(good.folder), str(bad)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_score_of_another_configuration_than_the_record_is_refused(finished):
    """A cell that was copied from the results of another seed."""
    made = {"cell": {"model": {"any": 1}, "solver": "ddim", "seed": 1}, "samples": {"images": 4}}
    record = {"datasets": {}, "checkpoints": {}, "software": {}, "environments": []}
    cell = {"run": {"solver": "ddim", "seed": 0}, "samples": {"images": 4}}
    found = finished("mixed", one(20.0), record | {"cells": {"d/s/nfe5": cell}})
    path = found.folder / "d/s/nfe5/score.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "made": made}))
    with pytest.raises(
        ValueError, match=r"score\.json was made with seed 1, but provenance\.json says 0: run snakemake"
    ):
        found.scores("d/s/nfe5")
    cell["run"]["seed"] = 1
    assert finished("whole", one(20.0), record | {"cells": {"d/s/nfe5": cell}}).scores("d/s/nfe5")
