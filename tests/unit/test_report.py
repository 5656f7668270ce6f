"""Tables and figures of the report."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dode.report import frame as frames
from dode.report import numbers, tables
from dode.report.figures import curves, fitted, style
from dode.report.figures import images as pictures

NFES = (5, 7)


def entry(blocks):
    """An entry of score.json from the values of the seed blocks."""
    values = np.array([np.nan if value is None else value for value in blocks], dtype=float)
    error = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"value": float(values.mean()), "error": error, "error_kind": "seeds", "blocks": blocks}


def cell(solver, label, nfe, fid, *, method=None, dataset="digits-edm", distilled=False, reference=False, **metrics):
    return {
        "dataset": dataset,
        "solver": solver,
        "label": label,
        "method": method or solver,
        "distilled": distilled,
        "reference": reference,
        "nfe": nfe,
        "images": 5000,
        "seeds": len(fid),
        "metrics": {name: entry(blocks) for name, blocks in {"fid": fid, **metrics}.items()},
    }


@pytest.fixture
def scores():
    """Out of order on purpose: the distilled DDIM comes after Heun. Heun makes 9 evaluations instead of 7."""
    return [
        cell("ddim", "DDIM", 5, [9.0, 9.1, 9.2], kid=[2e-3, 2.1e-3, 2.2e-3], trajectory_rmse=[0.2, 0.21, 0.22]),
        cell("ddim", "DDIM", 7, [7.0, 7.1, 7.2]),
        cell("heun", "Heun", 5, [12.0, 12.1, 12.2]),
        cell("heun", "Heun", 9, [6.0, 6.1, 6.2]),
        cell("d-ddim", "D-DDIM", 7, [4.0, 4.1, 4.2], method="ddim", distilled=True),
        cell("d-ddim", "D-DDIM", 5, [5.0, 5.1, 5.2], method="ddim", distilled=True),
        cell("d-heun", "D-Heun", 5, [8.0, 8.1, 8.2], method="heun", distilled=True),
        cell("fine", "Heun, fine steps", 39, [2.0, 2.1, 2.2], method="heun", reference=True),
        cell("ddim", "DDIM", 5, [3.0, 3.1, 3.2], dataset="cifar"),
    ]


@pytest.fixture
def halves():
    return [{"dataset": "digits-edm", "images": 2500, "halves": {"fid": [0.9, 1.0, 1.1, 1.0]}}]


@pytest.fixture
def frame(scores, halves):
    return frames.tidy(scores, halves)


@pytest.fixture
def fits():
    def fit(solver, nfe, columns):
        return {
            "dataset": "digits-edm",
            "solver": solver,
            "label": solver.upper(),
            "method": "ddim",
            "nfe": nfe,
            "sigmas": [80.0 * 0.5**k for k in range(nfe)],
            "lambdas": [[0.1 * k + column for column in range(columns)] for k in range(nfe)],
            "rms_before": [None, *(0.5**k for k in range(1, nfe))],
            "rms_after": [None, *(0.3**k for k in range(1, nfe))],
        }

    return [fit("d-ddim", 7, 1), fit("d-ddim", 5, 1), fit("d-ddim-m3", 5, 3)]


def markdown(frame, path):
    """The first table of the Markdown file, ``{label: cells}``, the header under ``"solver"``."""
    tables.write_markdown(frame, path, title="Test")
    table = path.read_text(encoding="utf-8").split("### ")[1]
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {line[0].strip(): [text.strip() for text in line[1:]] for i, line in enumerate(lines) if i != 1}


def latex(frame, path):
    tables.write_latex(frame, path)
    return path.read_text(encoding="utf-8")


def test_tidy_statistics_and_order(frame):
    assert list(frame["dataset"].unique()) == ["digits-edm", "cifar"]
    assert list(frame["solver"].unique()) == ["ddim", "heun", "d-ddim", "d-heun", "fine", "real-halves"]
    first = frame.iloc[0]
    assert (first["solver"], first["nfe"], first["metric"], first["seeds"], first["images"]) == (
        "ddim",
        5,
        "fid",
        3,
        5000,
    )
    assert first["value"] == pytest.approx(9.1)
    assert first["error"] == pytest.approx(0.1)
    assert list(frame.loc[frame["solver"] == "d-ddim", "nfe"]) == [5, 7]
    halves = frame[frame["solver"] == "real-halves"].iloc[0]
    assert halves["label"] == "real halves (2,500 images each)"
    assert halves["nfe"] is pd.NA
    assert halves["seeds"] == 4


def test_tidy_refuses_unknown_metrics_and_twins(scores):
    with pytest.raises(ValueError, match=r"unknown metric 'fidd' \(did you mean 'fid'"):
        frames.tidy([{**scores[0], "metrics": {"fidd": entry([1.0])}}], [])
    with pytest.raises(ValueError, match="two scores for solver 'ddim' on 'digits-edm' at NFE 5"):
        frames.tidy([*scores, scores[0]], [])


def test_csv_round_trip(frame, tmp_path):
    path = tmp_path / "scores.csv"
    frames.write_csv(frame, path)
    pd.testing.assert_frame_equal(frames.read_csv(path), frame, check_exact=True)


def test_csv_round_trip_keeps_a_solver_called_na(tmp_path):
    frame = frames.tidy([cell("NA", "nan", 5, [1.0])], [])
    frames.write_csv(frame, tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(frames.read_csv(tmp_path / "scores.csv"), frame)


def test_markdown_table(frame, tmp_path):
    table = markdown(frame, tmp_path / "t.md")
    assert list(table) == [
        "solver",
        "DDIM",
        "D-DDIM",
        "Heun",
        "D-Heun",
        "Heun, fine steps (NFE 39)",
        "real halves (2,500 images each)",
    ]
    assert table["solver"] == ["NFE 5", "NFE 7", "NFE 9", "reference"]
    assert table["DDIM"] == ["9.10 ± 0.10", "*7.10 ± 0.10*", "–", ""]
    assert table["D-DDIM"] == ["**5.10 ± 0.10**", "**4.10 ± 0.10**", "–", ""]
    assert table["Heun"] == ["12.10 ± 0.10", "–", "6.10 ± 0.10", ""]  # alone in its column
    assert table["Heun, fine steps (NFE 39)"] == ["", "", "", "2.10 ± 0.10"]
    assert table["real halves (2,500 images each)"] == ["", "", "", "1.000 ± 0.082"]


def test_markdown_note_scale_and_headings(frame, tmp_path):
    markdown(frame, tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "5,000 images per cell, 3 seeds; ± is the sample standard deviation over seeds" in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Test",
        "## digits-edm",
        "### FID",
        "### KID × 10³",
        "### trajectory RMSE",
        "## cifar",
        "### FID",
    ]
    assert "2.10 ± 0.10" in text.split("### KID")[1]


def test_bold_never_on_real_images_or_reference(frame, tmp_path):
    text = latex(frame, tmp_path / "t.tex")
    bold = [line for line in text.splitlines() if r"\textbf" in line]
    assert {line.split(" &")[0] for line in bold} == {"D-DDIM"}
    assert r"Heun, fine steps (NFE 39) & \multicolumn{6}{c}{2.10\,$\pm$\,0.10} \\" in text
    assert r"DDIM & 9.10 & $\pm$\,0.10 & \underline{7.10} & $\pm$\,0.10 & \multicolumn{2}{c}{--} \\" in text


def test_a_reference_at_a_column_of_the_table_has_no_part_in_it(scores, tmp_path):
    fine = cell("fine", "fine", 5, [0.1, 0.1, 0.1], reference=True)
    table = markdown(frames.tidy([*scores[:7], fine], []), tmp_path / "t.md")
    assert table["D-DDIM"][0] == "**5.10 ± 0.10**"
    assert table["fine (NFE 5)"][:3] == ["", "", ""]


def test_latex_escapes(tmp_path):
    scores = [cell("a", "A_1 & 50% {x} #2 $ ~ ^ \\", 5, [1.0, 2.0], dataset="ffhq_64")]
    text = latex(frames.tidy(scores, []), tmp_path / "t.tex")
    escaped = r"A\_1 \& 50\% \{x\} \#2 \$ \textasciitilde{} \textasciicircum{} \textbackslash{} & 1.50"
    assert escaped in text
    assert r"on ffhq\_64." in text
    assert r"\label{tab:ffhq-64-fid}" in text
    for command in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(command) == 1


def test_markdown_escapes(tmp_path):
    table = markdown(frames.tidy([cell("a", "a|b*c", 5, [1.0, 2.0])], []), tmp_path / "t.md")
    assert r"a\|b\*c" in table


def test_every_number_has_the_digits_of_its_error(tmp_path):
    scores = [cell(name, name, nfe, [x, 1.1 * x]) for name in ("a", "b") for nfe, x in ((5, 30.0), (10, 0.03))]
    fine = cell("fine", "fine", 79, [1.0, 1.1], reference=True)
    table = markdown(frames.tidy([*scores, fine], []), tmp_path / "t.md")
    assert table["a"] == ["31.5 ± 2.1", "0.0315 ± 0.0021", ""]
    assert table["fine (NFE 79)"] == ["", "", "1.050 ± 0.071"]
    assert r"a & 31.5 & $\pm$\,2.1 & 0.0315 & $\pm$\,0.0021 \\" in latex(frames.tidy(scores, []), tmp_path / "t.tex")


def test_an_unknown_error_is_not_printed(tmp_path):
    frame = frames.tidy([cell("ddim", "DDIM", 5, [7.123])], [])
    assert math.isnan(frame["error"].iloc[0])
    assert markdown(frame, tmp_path / "t.md")["DDIM"] == ["7.12"]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "nan" not in text
    assert "±" not in text
    assert "1 seed;" in text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([100.0, 130.0], "115 ± 21"),
        ([1.0, 1.03], "1.015 ± 0.021"),
        ([1.0, 1.00000003], "1.0000000 ± 2.1e-8"),
        ([-0.001, 0.0005], "-0.0003 ± 0.0011"),
        ([2.0, 2.0], "2.00 ± 0.00"),
        ([2e-5, 2.2e-5], "2.10e-5 ± 1.4e-6"),
        ([1e30, 1.01e30], "1.0050e30 ± 7.1e27"),
        ([12345.0, 14000.0], "13200 ± 1200"),
        ([0.0, 0.0], "0.00 ± 0.00"),
        ([9.0, 9.1, 9.2], "9.10 ± 0.10"),  # whose deviation is 0.0999… in binary
    ],
)
def test_digits(values, text, tmp_path):
    frame = frames.tidy([cell("ddim", "DDIM", 5, values)], [])
    assert markdown(frame, tmp_path / "t.md")["DDIM"] == [text]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.5e-300, 7e-301, ("1.50e-300", "7.0e-301")),
        (0.0, 1.4e300, ("0", "1.4e300")),
        (1e-300, 1e30, ("1e-300", "1.0e30")),
        (1.7e308, 5e-324, ("1.7000000e308", "4.9e-324")),
        (5e-324, None, ("4.94e-324", "")),
        (-2e-5, 0.0, ("-2.00e-5", "0")),
        (9999999.6, 1.0, ("9999999.6", "1.0")),
        (99999996.0, 10.0, ("9.9999996e7", "1.0e1")),
        (12345678.0, None, ("1.23e7", "")),
        (1234.5, None, ("1234", "")),
        (-0.0, None, ("0.00", "")),
        (1.0, math.inf, ("1.00", "")),
        (math.nan, 1.0, ("", "")),
        (None, None, ("", "")),
    ],
)
def test_a_number_of_any_size_has_its_digits(value, error, text):
    assert numbers.measured(value, error) == text


def test_numbers_of_all_sizes_stand_in_one_table(tmp_path):
    """A solver that has diverged, or is far better, takes no digits from the others."""
    sizes = {"A": (0.101, 0.001), "B": (1010.0, 10.0), "C": (2e-5, 1e-6), "D": (4e-5, 1e-6), "E": (1e30, 1e28)}
    scores = [cell(name, name, 5, [value - error, value, value + error]) for name, (value, error) in sizes.items()]
    table = markdown(frames.tidy(scores, []), tmp_path / "t.md")
    found = {name: table[name][0].strip("*") for name in sizes}
    assert found == {
        "A": "0.1010 ± 0.0010",
        "B": "1010 ± 10",
        "C": "2.00e-5 ± 1.0e-6",
        "D": "4.00e-5 ± 1.0e-6",
        "E": "1.000e30 ± 1.0e28",
    }
    text = latex(frames.tidy(scores, []), tmp_path / "t.tex")
    assert r"A & 0.1010 & $\pm$\,0.0010 \\" in text
    assert r"B & 1010\phantom{.0000} & $\pm$\,10 \\" in text
    assert r"D & \underline{4.00$\cdot10^{-5}$} & $\pm$\,1.0$\cdot10^{-6}$ \\" in text
    assert r"E & 1.000$\cdot10^{30}$ & $\pm$\,1.0$\cdot10^{28}$ \\" in text


@pytest.mark.parametrize("value", [float("nan"), None, float("inf")])
def test_a_diverged_cell_is_named_and_not_best(value, tmp_path):
    scores = [cell("a", "A", 5, [value, 1.0]), cell("b", "B", 5, [3.0, 3.1]), cell("c", "C", 5, [9.0, 9.1])]
    table = markdown(frames.tidy(scores, []), tmp_path / "t.md")
    assert table["A"] == ["not finite"]
    assert table["B"][0].startswith("**")


def test_nothing_to_report(tmp_path):
    frame = frames.tidy([], [])
    tables.write_markdown(frame, tmp_path / "t.md", title="Empty")
    assert (tmp_path / "t.md").read_text() == "# Empty\n"
    frames.write_csv(frame, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(frames.read_csv(tmp_path / "t.csv"), frame)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept instead of written."""
    kept = []
    for module in (curves, fitted, pictures):
        monkeypatch.setattr(module, "save", lambda figure, paths: kept.append(figure))
    return kept


LEVELS = {"real halves (2,500 images each)", "Heun, fine steps (NFE 39)"}


def test_curves_plain_dashed_distilled_solid(frame, drawn):
    curves.curves(frame, "fid", [])
    (figure,) = drawn
    panel = figure.axes[0]
    lines = [line for line in panel.lines if line.get_marker() in style.MARKERS]
    shown = {tuple(np.round(line.get_ydata().astype(float), 2)): line.get_linestyle() for line in lines}
    assert shown == {(9.1, 7.1): "--", (12.1, 6.1): "--", (5.1, 4.1): "-", (8.1,): "-"}
    assert panel.get_yscale() == "log"
    # Levels are named in the legend: text on the panel would cover curves.
    assert {text.get_text() for text in figure.legends[0].get_texts()[4:]} == LEVELS
    assert [text.get_text() for text in figure.legends[0].get_texts()[:4]] == ["DDIM", "D-DDIM", "Heun", "D-Heun"]
    assert not panel.texts
    assert [axis.get_title() for axis in figure.axes] == ["digits-edm", "cifar"]
    assert {tick.get_text() for tick in panel.get_xticklabels()} == {"5", "7", "9"}


def test_curves_with_a_mean_below_zero(drawn):
    scores = [cell("a", "A", nfe, [10.0], kid=[kid, kid + 1e-5]) for nfe, kid in ((5, 3e-3), (7, -1e-4))]
    halves = [{"dataset": "digits-edm", "images": 2500, "halves": {"kid": [-1e-5, 1e-6], "fid": [0.1]}}]
    frame = frames.tidy(scores, halves)
    curves.curves(frame, "kid", [])
    curves.curves(frame, "fid", [])
    kid, fid = (figure.axes[0] for figure in drawn)
    assert kid.get_yscale() == "symlog"
    assert kid.get_ylim()[0] < -0.1
    # The halves are a hundred times below: written under the axis instead of pressing the curves together.
    assert fid.get_ylim()[0] > 1
    assert fid.get_xlabel().splitlines()[1:] == ["↓ real halves (2,500 images each): 0.1"]
    assert "real halves" not in {text.get_text() for text in drawn[1].legends[0].get_texts()}


def test_levels_are_told_apart_and_one_name_has_one_line_in_all_panels(drawn):
    scores = [cell("a", "A", 5, [10.0 + i], dataset=f"d{i}") for i in range(3)]
    halves = [{"dataset": f"d{i}", "images": 10 * min(i, 1), "halves": {"fid": [9.0, 9.1]}} for i in range(3)]
    curves.curves(frames.tidy(scores, halves), "fid", [])
    found = [panel.lines[-1].get_color() for panel in drawn[0].axes if panel.axison]
    assert found[0] != found[1] == found[2]
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["A", "real halves (0 images each)", "real halves (10 images each)"]


def boxes(figure):
    """Of a figure as it is drawn: frames of its panels, its legends, and the texts in and around the panels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    panels = [axis for axis in figure.axes if axis.axison]
    legends = [*figure.legends, *filter(None, (axis.get_legend() for axis in panels))]
    ticks = [label for axis in panels for label in (*axis.get_xticklabels(), *axis.get_yticklabels())]
    names = [text for axis in panels for text in (axis.title, axis.xaxis.label, axis.yaxis.label)]
    texts = [text for text in (*ticks, *names, *figure.texts) if text.get_visible() and text.get_text()]
    return ([each.get_window_extent(renderer) for each in group] for group in (panels, legends, texts))


@pytest.mark.parametrize("draw", ["families", "residuals"])
def test_legends_cover_neither_curves_nor_text(drawn, fits, draw):
    if draw == "families":
        labels = [f"a rather long name {i}" for i in range(9)]
        frame = frames.tidy([cell(f"s{i}", name, nfe, [7.0]) for i, name in enumerate(labels) for nfe in (5, 9)], [])
        curves.families(frame, "fid", "digits-edm", [])
    else:
        fitted.residuals([{**fits[0], "dataset": f"dataset{i}"} for i in range(14)], [])
    panels, legends, texts = boxes(drawn[0])
    assert panels
    assert legends
    assert not [box for box in legends if box.count_overlaps(panels + texts)]


def test_the_text_of_a_wide_grid_of_samples_is_legible_on_a_page(drawn):
    images = np.zeros((16, 3, 256, 256), np.uint8)
    pictures.sample_grid([("D-DDIM (m=3, refined)", images)] * 2, [], "title")
    pictures.real_images(images[:10], ["automobile"] * 10, [], "title")
    for figure in drawn:
        texts = [*figure.axes[0].texts, *figure.texts]
        assert min(text.get_fontsize() for text in texts) * style.PAGE / figure.get_size_inches()[0] > 7


def test_coefficients_one_panel_per_direction(fits, drawn):
    fitted.coefficients(fits, [])
    (figure,) = drawn
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_ylabel().split(" (")[0] for axis in panels] == ["λ", *(f"λ, direction {j}" for j in (1, 2, 3))]
    assert [len(line.get_ydata()) for line in panels[0].lines[:2]] == [5, 7]
    assert list(panels[3].lines[0].get_ydata()) == pytest.approx([2.0, 2.1, 2.2, 2.3, 2.4])


def test_coefficients_symlog_where_one_towers(fits, drawn):
    fits[0]["lambdas"][3] = [500.0]
    fitted.coefficients(fits, [])
    assert [axis.get_yscale() for axis in drawn[0].axes if axis.axison][:2] == ["symlog", "linear"]


def test_residuals_skip_what_has_no_target(fits, drawn):
    fitted.residuals(fits[:2], [])
    (panel,) = drawn[0].axes
    assert [line.get_linestyle() for line in panel.lines] == ["--", "-", "--", "-"]
    assert all(np.isnan(line.get_ydata()[0]) and np.isfinite(line.get_ydata()[1:]).all() for line in panel.lines)


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)


def test_sample_grid_pixels_are_squares(drawn):
    pictures.sample_grid([("DDIM", IMAGES[:3]), ("D-DDIM", IMAGES[3:])], [], "title")
    (figure,) = drawn
    (axis,) = figure.axes
    shown = axis.images[0].get_array()
    assert shown.shape == (2 * 96 + 3, 3 * 96 + 6, 3)
    assert (shown[:96:12, :96:12, 0] == IMAGES[0, 0]).all()
    assert (shown[96:99] == 255).all()
    assert [text.get_text() for text in axis.texts] == ["DDIM", "D-DDIM"]
    box = axis.get_window_extent()
    assert (round(box.width), round(box.height)) == (3 * 96 + 6, 2 * 96 + 3)


def test_images_of_a_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        pictures.sample_grid([("a", IMAGES.astype(float))], [])
    with pytest.raises(ValueError, match="uint8"):
        pictures.real_images(np.zeros((1, 2, 8, 8), np.uint8), None, [])
    with pytest.raises(ValueError, match="different sizes"):
        pictures.sample_grid([("a", IMAGES), ("b", np.zeros((1, 3, 8, 6), np.uint8))], [])


def test_files_are_the_same_on_a_second_run(frame, fits, tmp_path):
    def write(folder):
        folder.mkdir()
        names = ("curves", "coefficients", "residuals", "samples", "real")
        scores, coefficients, residuals, samples, real = ([folder / f"{n}.png", folder / f"{n}.pdf"] for n in names)
        curves.curves(frame, "fid", scores)
        fitted.coefficients(fits, coefficients)
        fitted.residuals(fits, residuals)
        pictures.sample_grid([("DDIM", IMAGES[:3]), ("D-DDIM", IMAGES[3:])], samples, "same noise")
        pictures.real_images(IMAGES.repeat(3, axis=1), ["automobile"] * 6, real, "real")
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert len(first) == 10
    assert all(len(content) > 1000 for content in first.values())
    assert first == second
    assert all(b"CreationDate" not in content and b"Software" not in content for content in first.values())
