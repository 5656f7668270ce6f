"""The figure of costs: which seconds a fit took, and published costs beside those measured here."""

import itertools
from pathlib import Path

import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dode import storage
from dode.benchmark import figure_cells, published_costs
from dode.benchmark.cells import Benchmark
from dode.benchmark.workloads import Workloads
from dode.report.figures import cost_figure

ROOT = Path(__file__).parents[2]
LINE = {"color": "C0", "marker": "o", "linestyle": "-"}


def job(path, own, start):
    """What a job leaves that took ``own`` seconds after its start."""
    storage.write_json(path, {"seconds": own, "start": start})


def test_seconds_are_of_the_latest_whole_set_of_shards_and_without_starts(tmp_path):
    job(tmp_path / "0-of-1.json", 5.0, 2.0)
    assert cost_figure.seconds(cost_figure.sampling_jobs(tmp_path)) == (5.0, [2.0])
    job(tmp_path / "0-of-3.json", 1.0, 3.0)
    assert cost_figure.seconds(cost_figure.sampling_jobs(tmp_path)) == (5.0, [2.0])
    job(tmp_path / "1-of-3.json", 2.0, 2.0)
    job(tmp_path / "2-of-3.json", 3.0, 1.0)
    assert cost_figure.seconds(cost_figure.sampling_jobs(tmp_path))[0] == 6.0
    assert cost_figure.seconds(cost_figure.sampling_jobs(tmp_path / "none")) is None
    (tmp_path / "1-of-3.json").unlink()
    assert cost_figure.seconds(cost_figure.sampling_jobs(tmp_path)) == (5.0, [2.0])


def test_a_fit_takes_the_seconds_of_its_own_jobs_and_is_unknown_without_one_of_them(tmp_path):
    """A local fit has its teacher with it: a file of a teacher is of an alignment that the cell had before."""
    benchmark = Benchmark(yaml.safe_load((ROOT / "config/ablation.yaml").read_text()), ROOT)
    found = {
        cell["solver"]: cell["times"]["fit"] for cell in figure_cells.costs(benchmark, Workloads(benchmark), "logs")
    }
    for name, rules in (("released", ["teacher", "distill"]), ("local", ["distill"])):
        assert found[name] == [f"logs/{rule}/digits-edm/{name}/nfe5.json" for rule in rules]
    teacher, distill = tmp_path / "teacher.json", tmp_path / "distill.json"
    job(teacher, 4.0, 3.0)
    assert cost_figure.seconds([teacher, distill]) is None
    job(distill, 0.5, 2.0)
    assert cost_figure.seconds([teacher, distill]) == (4.5, [3.0, 2.0])
    teacher.unlink()
    assert cost_figure.seconds([teacher, distill]) is None


def published(method, dataset, shape=(3, 64, 64), **values):
    row = dict.fromkeys(("nfe", "fid", "hours", "device", "images"))
    return {**row, "method": method, "dataset": dataset, "image_shape": shape, **values}


PUBLISHED = [
    published("PD", "ImageNet 64", hours=4611.0, device="A100", nfe=2, fid="8.95", images=716_800_000),
    published("GS", "FFHQ 64", hours=1.5, device="H100", nfe=10, fid="2.67", images=240_000),
    published("GS", "FFHQ 64", hours=0.7, device="H100", nfe=4, fid="10.70", images=240_000),
    published("LD3", "FFHQ 64", hours=0.2, device="A100"),
    published("BNS", "ImageNet 64", nfe=16, fid="1.76"),
    published("ECT", "CIFAR-10", (3, 32, 32), hours=1.0, device="A100", nfe=2, fid="2.73", images=1_000_000),
]


@pytest.fixture
def costs_drawn(monkeypatch):
    """The figure of costs of images of a shape, drawn."""

    def draw(shape, rows, counts=(5_000, 800_000)):
        kept = []
        monkeypatch.setattr(cost_figure, "save", lambda figure, paths: kept.append(figure))
        style = {("ddim", "D-DDIM"): LINE, ("heun", "D-Heun"): LINE}
        cells = [
            {"method": method, "label": label, "fit": fit, "sample": 2.0, "starts": [1.5], "images": 10, "seeds": 3}
            | {"shape": list(shape), "evaluations": evaluations}
            for (method, label), fit, evaluations in zip(style, (0.01, 40.0), counts, strict=True)
        ]
        cost_figure.draw(cells, rows, style, [])
        (figure,) = kept
        figure.draw(FigureCanvasAgg(figure).get_renderer())
        return figure

    return draw


def names_of(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 64), (3, 256, 256)], ids=str)
def test_nothing_is_cut_in_the_figure_of_costs(costs_drawn, shape):
    figure = costs_drawn(shape, published_costs.read(ROOT / published_costs.FILE))
    for axis in figure.axes:
        frame = axis.get_window_extent()
        for line in (line for line in axis.lines if line.get_marker() not in ("", "None", None)):
            half = line.get_markersize() / 72 * figure.dpi / 2
            places = axis.transData.transform(line.get_xydata())
            assert (places - half > frame.min).all()
            assert (places + half < frame.max).all()
        for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
            extents = [label.get_window_extent() for label in labels if label.get_text()]
            assert not any(one.overlaps(other) for one, other in itertools.pairwise(extents))
            assert all(each.x0 >= 0 and each.x1 <= figure.bbox.width for each in extents)


@pytest.mark.parametrize("counts", [(0, 800_000), (0, 0)], ids=str)
def test_a_fit_without_evaluations_stands_at_the_left(costs_drawn, counts):
    """Printed coefficients are taken as they are."""
    _, right = costs_drawn((1, 8, 8), PUBLISHED, counts).axes
    ticks = dict(zip(right.get_xticks(), (text.get_text() for text in right.get_xticklabels()), strict=True))
    places = [line.get_xdata()[0] for line in right.lines]
    left, most = right.get_xlim()
    assert ticks[places[0]] == "none"
    assert left < places[0] < min(tick for tick, text in ticks.items() if text != "none")
    assert places[1] == (counts[1] or places[0])
    assert places[1] < most


def test_costs_are_compared_on_images_of_one_shape(costs_drawn):
    left, right = costs_drawn((1, 8, 8), PUBLISHED).axes
    assert "not counted: 1.5 s (median) to start a job" in left.get_xlabel()
    assert "no published training on 1×8×8 images" in right.get_xlabel()
    assert names_of(right) == ["fits,\n1×8×8"]


def test_published_costs_stand_apart_from_those_measured_here(costs_drawn):
    """Training images beside evaluations, one point where costs differ in NFE alone; hours in a panel of their own."""
    left, right, hours, reached = costs_drawn((3, 64, 64), PUBLISHED).axes
    assert names_of(right) == ["fits,\n3×64×64", "PD,\nImageNet 64", "GS,\nFFHQ 64"]
    assert [line.get_xdata()[0] for line in right.lines[2:]] == [716_800_000, 240_000]
    assert len(left.lines) == 3  # the two fits, and where fitting takes as long as sampling
    assert names_of(hours) == ["LD3, FFHQ 64 (A100)", "GS, FFHQ 64 (H100)", "PD, ImageNet 64 (A100)"]
    assert names_of(reached) == ["", "10.70 (4), 2.67 (10)", "8.95 (2)"]
    assert [sorted(line.get_xdata()) for line in hours.lines] == [[0.2], [0.7, 1.5], [4611.0]]
    assert "other devices" in hours.get_title()
