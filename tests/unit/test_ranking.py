"""Best and second best with regard to errors, and ranks over datasets."""

import math

import pytest

from dode.report import frame as frames
from dode.report import preface, ranking, tables

BEST, SECOND, NONE = ranking.BEST, ranking.SECOND, ranking.UNMARKED


def of(values, errors):
    """Entries of a single seed each."""
    pairs = zip(values, errors, strict=True)
    return [{"value": value, "error": error, "blocks": [value]} for value, error in pairs]


@pytest.mark.parametrize(
    ("values", "errors", "lower", "places"),
    [
        ([1.0, 2.0, 3.0], [0.1] * 3, True, [BEST, SECOND, NONE]),
        ([1.0, 2.0, 3.0], [0.1] * 3, False, [NONE, SECOND, BEST]),
        # 0.1 each is told apart from 0.277 on; the second best is the best of the rest.
        ([1.0, 1.27, 1.29, 2.0], [0.1] * 4, True, [BEST, BEST, SECOND, NONE]),
        # One that is tied with a tie of the best but not with the best itself is not best.
        ([1.0, 1.8, 2.4], [0.3] * 3, True, [BEST, BEST, SECOND]),
        # Without errors nothing is told apart.
        ([1.0, 1.0, 1.01], [None] * 3, True, [NONE, NONE, NONE]),
        ([1.0, 2.0, 3.0], [0.1, None, 0.1], True, [BEST, BEST, SECOND]),
        # Where all are tied, and where there is one, there is nothing to mark.
        ([1.0, 1.1], [0.1] * 2, True, [NONE, NONE]),
        ([math.nan, 3.0, math.inf], [None, 0.1, None], True, [NONE, NONE, NONE]),
        ([math.nan, 3.0, 4.0], [None, 0.1, 0.1], True, [NONE, BEST, SECOND]),
        ([math.nan], [None], False, [NONE]),
    ],
)
def test_places(values, errors, lower, places):
    assert ranking.places(of(values, errors), lower_is_better=lower) == places


def test_seeds_that_rise_and_fall_together_are_told_apart_by_their_differences():
    """Spreads of 1 and a difference of 0.1 in each seed: no number of seeds would part the bars."""
    blocks = [10.0, 11.0, 12.0]
    entries = [
        {
            "value": 11.0 + shift,
            "error": 1.0,
            "blocks": [block + shift + noise for block, noise in zip(blocks, jitter, strict=True)],
        }
        for shift, jitter in ((0.0, (0, 0, 0)), (0.1, (0.01, -0.01, 0.0)))
    ]
    assert ranking.places(entries) == [BEST, SECOND]
    assert ranking.ranks(entries) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "errors", "expected"),
    [
        ([3.0, 1.0, 2.0], [0.1] * 3, [3.0, 1.0, 2.0]),
        ([1.0, 1.0, 2.0, 2.0], [0.0] * 4, [1.5, 1.5, 3.5, 3.5]),
        ([1.0, 1.1, 2.0], [0.1] * 3, [1.5, 1.5, 3.0]),
        ([math.nan, 1.0, math.inf], [None] * 3, [2.5, 1.0, 2.5]),
    ],
)
def test_ranks(values, errors, expected):
    assert ranking.ranks(of(values, errors)) == expected
    assert sum(expected) == len(values) * (len(values) + 1) / 2


def cell(dataset, label, nfe, value, error=0.1, **facts):
    entry = {"value": value, "error": error, "error_kind": "seeds", "blocks": [value]}
    known = {"solver": label, "label": label, "method": label, "options": "{}", "distilled": False, "reference": False}
    return {"dataset": dataset, "nfe": nfe, "images": 100, **known, "metrics": {"fid": entry}, **facts}


CELLS = [
    *(cell("one", label, 5, value) for label, value in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 9.0))),
    *(cell("two", label, 5, value) for label, value in (("a", 2.0), ("b", 1.0), ("c", 1.1))),
    cell("one", "a", 9, 1.0),
    cell("two", "a", 9, 1.0),
]


def test_mean_ranks_are_of_what_all_datasets_have():
    """d is on one dataset alone; at NFE 9 there is nobody to be better than."""
    found = ranking.mean_ranks(frames.tidy(CELLS, []))
    assert found == {"a": {5: (2.0, 3)}, "b": {5: (1.75, 3)}, "c": {5: (2.25, 3)}}


def test_ranks_stand_before_the_tables_best_first(tmp_path):
    tables.write_markdown(frames.tidy(CELLS, []), tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    section = text[text.index("## Ranks") : text.index("## one")]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert "NFE 5 (of 3)" in rows[0]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["b", "a", "c"]
    assert "**1.75**" in rows[2]
    one = frames.tidy([each for each in CELLS if each["dataset"] == "one"], [])
    tables.write_markdown(one, tmp_path / "t.md")
    assert "## Ranks" not in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(("having", "name", "best"), [(("one", "two"), "paired FID", "c"), (("one",), "FID", "b")])
def test_ranks_are_by_the_first_score_that_every_dataset_has(having, name, best):
    lost = {"a": 0.3, "b": 0.2, "c": 0.1, "d": 0.4}
    cells = []
    for each in CELLS:
        value = lost[each["label"]]
        metrics = {"paired_fid": {"value": value, "error": 0.0, "error_kind": "seeds", "blocks": [value]}}
        cells.append({**each, "metrics": each["metrics"] | (metrics if each["dataset"] in having else {})})
    section = "\n".join(preface.opening(frames.tidy(cells, [])))
    assert f"of the rank by {name} (1 is best)" in section
    assert [line for line in section.splitlines() if line.startswith("| ")][1].startswith(f"| {best} ")


def test_what_scores_are_against_is_said_and_when_they_are_biased():
    against = {"file": "real/x.npz", "sha256": "ab" * 32, "images": 1797}
    known = {"against": against, "extractor": '{"network": {"name": "inception"}, "sha256": "%s"}' % ("cd" * 32)}
    (text,) = preface.against(frames.tidy([cell("one", "a", 5, 1.0, **known)], []))
    assert text == (
        "Scored against 1,797 real images (`real/x.npz`, SHA-256 of their statistics abababababab…) by features of "
        "inception, SHA-256 cdcdcdcdcdcd…."
    )
    (text,) = preface.against(frames.tidy([cell("one", "a", 5, 1.0, **known, real="folder pictures/cats")], []))
    assert "(`folder pictures/cats`, SHA-256 of their statistics ab" in text
    unknown = {**known, "against": {**against, "images": None}, "biased": ["generated"]}
    (text,) = preface.against(frames.tidy([cell("one", "a", 5, 1.0, **unknown)], []))
    assert "an unstated number of real images" in text
    assert "Here FID is biased. There are no more generated images than features" in text
    lost = cell("one", "a", 5, 1.0, **unknown)
    lost["metrics"] |= {"paired_fid": lost["metrics"]["fid"]}
    (text,) = preface.against(frames.tidy([lost], []))
    assert "Here paired FID is biased. There are no more images than features" in text
    (text,) = preface.against(frames.tidy([cell("one", "a", 5, 1.0, **{**known, "biased": ["real"]})], []))
    assert "Here FID is biased. There are no more real images than features" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [("images", "± is the standard error over images"), ("seeds", "± is the sample standard deviation over seeds")],
)
def test_the_note_says_what_the_error_is_of(kind, words, tmp_path):
    one = cell("one", "a", 5, 1.0)
    one["metrics"]["fid"]["error_kind"] = kind
    tables.write_markdown(frames.tidy([one], []), tmp_path / "t.md")
    assert words in (tmp_path / "t.md").read_text()
