"""Published FIDs beside the measured ones in CSV, Markdown and LaTeX."""

import re

import numpy as np
import pandas as pd
import pytest

from dode.report import frame as frames
from dode.report import tables

EDM = {"fid": "1.97", "source": "NVlabs/edm README.md (min of 3_seeds)"}
OTHER = {"fid": "1.98", "source": "Another paper & code, Table 1 #2"}
LEGEND = "in brackets: published for the same checkpoint, solver, NFE and convention"


def entry(blocks):
    """An entry of score.json from the values of the seed blocks."""
    values = np.array(blocks, dtype=float)
    error = float(values.std(ddof=1))
    return {"value": float(values.mean()), "error": error, "error_kind": "seeds", "blocks": blocks}


def cell(solver, nfe, fid, *, reference=False, **facts):
    method = {"label": solver.upper(), "method": solver, "distilled": False, "reference": reference}
    metrics = {name: entry(blocks) for name, blocks in {"fid": fid, "trajectory_rmse": [0.2, 0.21]}.items()}
    return {"dataset": "cifar10", "solver": solver, "nfe": nfe, "images": 50_000, **method, **facts, "metrics": metrics}


@pytest.fixture
def frame_of():
    def make(heun=(), fine=()):
        cells = [
            cell("ddim", 35, [4.0, 4.02]),
            cell("heun", 35, [2.0, 2.02], published=list(heun)),
            cell("heun", 9, [7.0, 7.02], published=[]),
            cell("fine", 79, [1.9, 1.92], reference=True, published=list(fine)),
        ]
        return frames.tidy(cells, [{"dataset": "cifar10", "images": 9, "halves": {"fid": [0.9, 1.0]}}])

    return make


def markdown(frame, path, **options):
    tables.write_markdown(frame, path, title="Test", **options)
    return path.read_text(encoding="utf-8")


def rows(text):
    """The first table of a Markdown text by label."""
    lines = [line.strip("|").split(" | ") for line in text.split("### ")[1].splitlines() if line.startswith("|")]
    return {line[0].strip(): [part.strip() for part in line[1:]] for line in lines}


def test_the_published_number_stands_beside_the_measured_one(frame_of, tmp_path):
    text = markdown(frame_of([EDM], [OTHER]), tmp_path / "t.md")
    table = rows(text)
    assert table["HEUN"] == ["7.010 ± 0.014", "**2.010 ± 0.014** [1.97]", ""]
    assert table["DDIM"] == ["–", "*4.010 ± 0.014*", ""]
    assert table["FINE (NFE 79)"] == ["", "", "1.910 ± 0.014 [1.98]"]
    fid, rmse = text.split("### trajectory RMSE")
    assert fid.count(LEGEND) == 1
    assert fid.rstrip().endswith(
        "Published:\n\n"
        "- NVlabs/edm README.md (min of 3\\_seeds): 1.97 (HEUN, NFE 35)\n"
        "- Another paper & code, Table 1 #2: 1.98 (FINE, NFE 79)"
    )
    assert "[1.9" not in rmse
    assert "Published" not in rmse


def test_several_sources_are_all_shown_equal_values_once(frame_of, tmp_path):
    frame = frame_of([EDM, OTHER, {**OTHER, "fid": "1.97"}])
    text = markdown(frame, tmp_path / "t.md")
    assert "± 0.014** [1.97, 1.98] |" in text
    assert "- Another paper & code, Table 1 #2: 1.98 (HEUN, NFE 35); 1.97 (HEUN, NFE 35)" in text


def test_nothing_changes_where_nothing_is_published(frame_of, tmp_path):
    frame = frame_of()
    plain = frame.drop(columns=["published", "published_source"])
    assert set(frame["published"]) == set(frame["published_source"]) == {""}
    texts = [markdown(frame, tmp_path / "t.md", incomparable={"other": 3})]
    tables.write_latex(frame, tmp_path / "t.tex")
    texts.append((tmp_path / "t.tex").read_text(encoding="utf-8"))
    for text in texts:
        assert "ublished" not in text
        assert not re.search(r"\[\d", text)
    frames.write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frames.read_csv(tmp_path / "t.csv")[list(plain)], plain)


def test_what_cannot_be_compared_is_counted_under_its_dataset(frame_of, tmp_path):
    text = markdown(frame_of(), tmp_path / "t.md", incomparable={"cifar10": 231})
    assert text[text.index("##") :].startswith(
        "## cifar10\n\nNot shown, because not comparable: 231 FIDs of this checkpoint in "
        "`config/published_fids.csv`, published under other or unstated conventions.\n\n### FID\n"
    )
    assert text.count("Not shown") == 1
    assert ": 1 FID of" in markdown(frame_of(), tmp_path / "t.md", incomparable={"cifar10": 1})


def test_csv_has_values_and_sources_of_the_fid_alone_and_gives_them_back(frame_of, tmp_path):
    frame = frame_of([EDM, OTHER])
    frames.write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frames.read_csv(tmp_path / "t.csv"), frame, check_exact=True)
    shown = frame[frame["published"] != ""]
    assert list(zip(shown["solver"], shown["nfe"], shown["metric"], strict=True)) == [("heun", 35, "fid")]
    assert list(shown["published"]) == ["1.97 | 1.98"]
    assert list(shown["published_source"]) == [f"{EDM['source']} | {OTHER['source']}"]


def test_a_cell_that_diverged_keeps_its_published_number(tmp_path):
    frame = frames.tidy([cell("heun", 35, [float("nan"), 1.0], published=[EDM])], [])
    assert rows(markdown(frame, tmp_path / "t.md"))["HEUN"] == ["not finite [1.97]"]


def latex(frame, path):
    tables.write_latex(frame, path)
    return path.read_text(encoding="utf-8")


def test_latex_has_brackets_legend_and_escaped_sources(frame_of, tmp_path):
    text = latex(frame_of([EDM, OTHER], [EDM]), tmp_path / "t.tex")
    assert r"\textbf{2.010} & $\pm$\,0.014 [1.97, 1.98] \\" in text
    assert r"\multicolumn{4}{c}{1.910\,$\pm$\,0.014 [1.97]} \\" in text
    assert text.count(LEGEND) == 1
    assert (
        r"\par\medskip{\raggedright Published: NVlabs/edm README.md (min of 3\_seeds): 1.97 (HEUN, NFE 35); "
        r"1.97 (FINE, NFE 79). Another paper \& code, Table 1 \#2: 1.98 (HEUN, NFE 35).\par}"
    ) in text
