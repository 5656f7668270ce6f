"""Figures of trajectories and ablations, which cells they are of; the colours and ticks of all figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dode.benchmark import figure_cells
from dode.benchmark.cells import Benchmark
from dode.benchmark.config import ConfigError
from dode.benchmark.dependencies import Dependencies
from dode.report import frame as frames
from dode.report.figures import (
    ablation_figure,
    curves,
    fitted,
    joint_figure,
    scales,
    style,
    trajectory_figure,
)

ROOT = Path(__file__).parents[2]
LINE = {"color": "C0", "marker": "o", "linestyle": "-"}
SHAPE = (1, 2, 2)


def configured(name, **changes):
    config = yaml.safe_load((ROOT / "config" / name).read_text())
    return Benchmark({**config, **changes}, ROOT)


def exact(sigmas, noise):
    """The trajectory of unit-normal data: x is proportional to sqrt(1 + sigma^2)."""
    return noise[:, None] * np.sqrt(1 + np.asarray(sigmas) ** 2).reshape(1, -1, 1, 1, 1)


def bent(sigmas, noise):
    """As :func:`exact`, with data of another variance in half of the pixels: not straight in standardised states."""
    scale = np.array([1.0, 1.0, 0.1, 0.3]).reshape(SHAPE)
    return noise[:, None] * np.sqrt(scale**2 + np.asarray(sigmas).reshape(1, -1, 1, 1, 1) ** 2)


LEVELS = np.append(np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 40) ** 7, 0.0)
NOISE = np.random.default_rng(0).standard_normal((4, *SHAPE))


def test_the_plane_holds_a_flat_trajectory():
    """Standardised states a cos t + b sin t stay in their plane, and noise lies to the left of the image."""
    t = np.linspace(0, 2, len(LEVELS)).reshape(-1, 1, 1, 1)
    states = NOISE[0] * np.cos(t) + NOISE[1] * np.sin(t)
    centre, axes = trajectory_figure.plane(np.zeros(len(LEVELS)), states)
    flat = states.reshape(len(LEVELS), -1)
    places = (flat - centre) @ axes.T
    np.testing.assert_allclose(places @ axes + centre, flat, atol=1e-12)
    assert places[-1, 0] > places[0, 0]


def test_pixels_that_stay_are_not_shown():
    states = exact(LEVELS, NOISE)[0]
    states[:, 0, 0, 1] += np.linspace(0, 1, len(LEVELS)) * np.sqrt(1 + LEVELS**2)
    states[:, 0, 1, 0] -= np.linspace(0, 1, len(LEVELS)) * np.sqrt(1 + LEVELS**2)
    assert trajectory_figure.pixels(LEVELS, states) == [1, 2]


def test_trajectories_draw_each_solver_once_in_every_panel(monkeypatch):
    kept = []
    monkeypatch.setattr(trajectory_figure, "save", lambda figure, paths: kept.append(figure))
    levels = np.array([80.0, 3.0, 0.0])
    solvers = [("A", LINE, levels, bent(levels, NOISE)), ("B", LINE, levels, 1.1 * bent(levels, NOISE))]
    trajectory_figure.draw((LEVELS, bent(LEVELS, NOISE)), solvers, [], "title")
    assert [len(axis.lines) for axis in kept[0].axes] == [3, 3, 3, 2]
    assert [text.get_text() for text in kept[0].legends[0].get_texts()] == ["A", "B", "fine steps"]


def test_followed_are_pairs_at_the_lowest_distilled_nfe():
    """By default the first distilled solver of each of three methods, with its plain one, wherever both stand."""
    benchmark, names = configured("config.yaml"), ["ddim", "d-ddim", "ipndm", "d-ipndm", "heun", "d-heun"]
    for dataset, count in (("digits-ddpm", 4), ("digits-edm", 6)):
        found = [str(cell) for cell in figure_cells.followed(benchmark, dataset)]
        assert found == [f"{dataset}/{name}/nfe5" for name in names[:count]]


def test_followed_are_those_that_are_chosen():
    chosen = configured("config.yaml", figures={"trajectories": {"solvers": ["dpmpp-2m", "heun"], "nfe": 10}})
    assert [str(cell) for cell in figure_cells.followed(chosen, "digits-edm")] == ["digits-edm/dpmpp-2m/nfe10"]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"solvers": ["ddin"]}, r"figures.trajectories.solvers: unknown solver 'ddin' \(did you mean 'ddim'\?\)"),
        ({"nfe": 6}, "figures.trajectories.nfe: 6 is not allowed; allowed: 3, 5, 8, 9, 10, 13, 15, 19, 20"),
        ({"solvers": ["d-heun"], "nfe": 10}, "allowed: 5, 9, 15"),
    ],
)
def test_what_is_followed_must_be_there(chosen, words):
    with pytest.raises(ConfigError, match=words):
        configured("solvers.yaml", figures={"trajectories": chosen})


def test_what_figures_show_decides_no_result():
    plain, chosen = (configured("config.yaml", **more) for more in ({}, {"figures": {"trajectories": {"nfe": 10}}}))
    cell, same = (benchmark.fitted()[0] for benchmark in (plain, chosen))
    for part in ("trajectory", "teacher", "fit", "samples"):
        assert getattr(Dependencies(plain), part)(cell) == getattr(Dependencies(chosen), part)(same)


def test_a_seed_of_the_fit_is_in_its_parameters_alone():
    benchmark = configured("ablation.yaml")
    depends = Dependencies(benchmark)
    one, other = (benchmark.cells["digits-edm", name, 5] for name in ("d-ddim", "seed-1"))
    assert "seed" not in depends.teacher(one).params()
    assert depends.teacher(other).params() == {**depends.teacher(one).params(), "seed": 1}
    for part in (depends.trajectory, depends.fit, depends.samples):
        assert part(one) == part(other)


def test_sweeps_are_found_from_the_entries():
    benchmark = configured("ablation.yaml")
    found = {
        (sweep["dataset"], sweep["key"]): [value for value, _ in sweep["points"]]
        for sweep in figure_cells.sweeps(benchmark)
    }
    for dataset in ("digits-ddpm", "digits-edm"):
        assert sorted(found[dataset, "substeps"]) == [1, 2, 4, 10, 20]
        assert sorted(found[dataset, "images"]) == [5, 10, 25, 100, 400]
        assert sorted(found[dataset, "alignment"]) == ["aligned", "local", "released"]
        assert sorted(found[dataset, "directions"]) == [1, 2, 3, 4]
        assert sorted(found[dataset, "seed"]) == [0, 1, 2, 3, 4]
    assert len(found) == 10


@pytest.mark.parametrize("name", ["config.yaml", "solvers.yaml", "paper.yaml"])
def test_no_sweep_is_seen_where_there_is_none(name):
    assert figure_cells.sweeps(configured(name)) == []


def test_ablations_have_a_panel_for_each_key_and_one_of_coefficients(monkeypatch):
    kept = []
    monkeypatch.setattr(ablation_figure, "save", lambda figure, paths: kept.append(figure))
    facts = {"dataset": "d", "method": "ddim", "nfe": 5}
    sweeps = [
        {"key": "substeps", **facts, "points": [[10, "a"], [1, "b"], [4, "c"]]},
        {"key": "alignment", **facts, "points": [["aligned", "a"], ["local", "b"], ["released", "c"]]},
        {"key": "seed", **facts, "points": [[0, "a"], [1, "b"], [2, "c"]]},
    ]
    scores = {name: {"value": value, "error": 0.1} for name, value in zip("abc", (1.0, 2.0, 3.0), strict=True)}
    lambdas = {name: [[value], [2 * value]] for name, value in zip("abc", (0.0, 1.0, 2.0), strict=True)}
    ablation_figure.draw(sweeps, scores, lambdas, {"ddim": "C0"}, [])
    axes = [axis for axis in kept[0].axes if axis.axison]
    assert len(axes) == 4
    assert list(axes[0].lines[0].get_xdata()) == [1, 4, 10]
    assert list(axes[0].lines[0].get_ydata()) == [2.0, 3.0, 1.0]
    assert [text.get_text() for text in axes[1].get_xticklabels()] == ["aligned", "local", "released"]
    assert list(axes[3].lines[0].get_ydata()) == [0.5, 1.0]  # sd 1 and 2, the largest mean 2


def _cell(label, nfe, value, distilled):
    entry = {"value": value, "error": 0.0, "error_kind": "seeds", "blocks": [value]}
    name = {"dataset": "d", "solver": label, "label": label, "method": label.removeprefix("D-"), "options": "{}"}
    return {**name, "distilled": distilled, "reference": False, "nfe": nfe, "metrics": {"fid": entry}}


def test_of_a_crowd_the_front_and_its_plain_solvers_are_in_colour(monkeypatch):
    kept = []
    monkeypatch.setattr(curves, "save", lambda figure, paths: kept.append(figure))
    cells = [_cell(f"s{i}", nfe, 20.0 + i - nfe, False) for i in range(17) for nfe in (5, 10)]
    cells += [_cell("D-s3", 5, 1.0, True), _cell("D-s4", 10, 2.0, True), _cell("D-s5", 10, 0.5, True)]
    curves.curves(frames.tidy(cells, []), "fid", [])
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    # D-s4 is worse than D-s3, which makes fewer evaluations.
    assert labels == ["s3", "D-s3", "s5", "D-s5", "other solvers"]


def variant(method, label, *, distilled, options="{}"):
    return {"method": method, "label": label, "distilled": distilled, "options": options}


def test_styles_pair_by_colour_and_differ():
    variants = [variant(m, v + m, distilled=v != "") for m in ("ddim", "heun", "dpm") for v in ("", "D-", "m3 ")]
    found = style.styles(variants)
    assert len(found) == 9
    assert found["heun", "heun"]["color"] == found["heun", "D-heun"]["color"] != found["ddim", "ddim"]["color"]
    assert found["heun", "heun"]["linestyle"] == "--"
    assert found["heun", "heun"]["markerfacecolor"] == "white"
    assert found["heun", "D-heun"]["linestyle"] == "-"
    assert len({(s["color"], s["linestyle"]) for s in found.values()}) == 9


@pytest.mark.parametrize(("low", "high"), [(1, 60), (3.1, 3.4), (0.002, 5), (1e-6, 1e5), (0.9, 1.1)])
def test_ticks_are_few_and_within(low, high):
    ticks = scales.log_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert low <= min(ticks) <= max(ticks) <= high


SIZES = [
    [1e-300],
    [1e300],
    [1e-300, 1e300],
    [1e-300, 1.0, 1e300],
    [5e-324, 1.7e308],
    [1.7e308],
    [-1e300, 1.0],
    [-1e-300, 1e-300],
    [-1e300, 1.0, 1e300],
    [0.0, 1e300],
]


@pytest.fixture
def saved(monkeypatch):
    """``saved(module)``: the figures that a module draws, kept and drawn to the end."""

    def kept(module):
        found = []
        monkeypatch.setattr(module, "save", lambda figure, paths: found.append(figure))
        return found

    return kept


def check_axes(figures, log_in):
    """All axes end at numbers, and those that are logarithmic have ticks in between."""
    for figure in figures:
        FigureCanvasAgg(figure).draw()
        for axis in figure.axes:
            low, high = axis.get_ylim()
            assert np.isfinite([low, high]).all()
            if axis.axison and axis.get_yscale() in log_in:
                assert any(min(low, high) <= tick <= max(low, high) for tick in axis.get_yticks())
    assert figures


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_scores_of_any_size_are_drawn(sizes, saved):
    values = [(f"s{i}", nfe, [0.9 * size, size, 1.1 * size]) for i, size in enumerate(sizes) for nfe in (5, 10)]
    scores = [score(name, nfe, blocks) for name, nfe, blocks in values]
    frame = frames.tidy(scores, [{"dataset": "d", "images": 10, "halves": {"fid": [1.0, 1.1]}}])
    figures = saved(curves)
    curves.curves(frame, "fid", [])
    curves.families(frame, "fid", "d", [])
    check_axes(figures, ("log", "symlog"))


def score(name, nfe, blocks):
    entry = {"value": blocks[1], "error": abs(blocks[1]) / 10, "error_kind": "seeds", "blocks": blocks}
    cell = {"dataset": "d", "solver": name, "label": name, "method": name, "distilled": False, "reference": False}
    return {**cell, "nfe": nfe, "images": 10, "metrics": {"fid": entry}}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fits_of_any_size_are_drawn(sizes, saved):
    residuals = [*map(abs, sizes), None]
    rest = {"rms_before": residuals, "rms_after": residuals, "lambdas": [[size] for size in [*sizes, 0.5]]}
    fits = [{"dataset": "d", "solver": "s", "label": "S", "nfe": len(residuals), **rest}]
    figures = saved(fitted)
    fitted.coefficients(fits, [])
    fitted.residuals(fits, [])
    matrix = [[sizes[0], 0.0, 0.0], [1.0, sizes[-1], 0.0], [0.1, sizes[0], sizes[-1]]]
    levels = {"given": [80.0, 1.0, 0.0], "levels": [80.0, 1.0, 0.0], "told": [80.0, 1.0], "coefficients": matrix}
    joint = saved(joint_figure)
    joint_figure.weights([{**fits[0], **levels}], [])
    check_axes(figures + joint, ("log", "symlog"))
    assert all(len(text.get_text()) <= 7 for axis in joint[0].axes for text in axis.texts)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_ablations_of_any_size_are_drawn(sizes, saved):
    names = [f"c{i}" for i in range(len(sizes) + 1)]
    scores = {name: {"value": size, "error": abs(size) / 10} for name, size in zip(names, [*sizes, 1.0], strict=True)}
    lambdas = {name: [[size], [size]] for name, size in zip(names, [*sizes, 1.0], strict=True)}
    common = {"dataset": "d", "method": "m", "nfe": 5, "points": [(i + 1, name) for i, name in enumerate(names)]}
    figures = saved(ablation_figure)
    ablation_figure.draw([{**common, "key": key} for key in ("seed", "images")], scores, lambdas, {"m": "C0"}, [])
    check_axes(figures, ())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("size", [1e-300, 1e154, 1e300, 1.7e308])
def test_states_of_any_size_are_drawn(size, saved):
    states = exact(LEVELS, NOISE)
    strayed = states.copy()
    strayed[:, -1] *= size
    figures = saved(trajectory_figure)
    trajectory_figure.draw((LEVELS, states), [("a", LINE, LEVELS, strayed)], [], "t")
    if size <= 1e300:
        trajectory_figure.draw((LEVELS, strayed), [("a", LINE, LEVELS, states)], [], "t")
    check_axes(figures, ())


def test_report_does_not_import_torch():
    figures = ("fitted", "images", "curves", "ablation_figure", "cost_figure", "trajectory_figure")
    modules = [
        "sys",
        "dode.benchmark.figure_cells",
        "dode.images.trajectories",
        "dode.report.tables",
        "dode.report.page.page",
    ]
    imported = ", ".join([*modules, *(f"dode.report.figures.{name}" for name in figures)])
    code = f"import {imported}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_of_many_fits_those_of_this_project_are_drawn(monkeypatch):
    """And a general form that is told the solver's own levels has no list of told ones."""
    kept = []
    monkeypatch.setattr(joint_figure, "save", lambda figure, paths: kept.append(figure))
    fit = {"dataset": "d", "nfe": 2, "given": [80.0, 1.0, 0.0], "levels": [9.0, 1.0, 0.0], "told": None}
    fit |= {"coefficients": [[9.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.4, 0.5]]}
    others = [{**fit, "label": f"other {number}", "rungs": []} for number in range(40)]
    own = [{**fit, "label": f"J {number}", "rungs": [{}]} for number in range(3)]
    for draw in (joint_figure.levels, joint_figure.weights):
        draw([*others, *own], [])
    levels, weights = kept
    assert [text.get_text() for text in levels.axes[0].get_yticklabels()] == [f"J {n}, NFE 2" for n in range(3)]
    assert sum(axis.axison for axis in weights.axes) == 3
    joint_figure.weights(others, [])
    assert sum(axis.axison for axis in kept[-1].axes) == 16
