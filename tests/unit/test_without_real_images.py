"""A pipeline's dataset without real images: which scores it has, and what tables and page say of the others."""

import re

import pytest
import yaml

import synthetic_pages
from checkouts import Checkout
from dode.benchmark import figure_cells
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.facts import Facts
from dode.metrics import distances, scores
from dode.metrics.catalogue import METRICS
from dode.metrics.statistics_files import Reference
from dode.report import frame as frames
from dode.report import tables
from dode.validation import ConfigError
from pipeline_folders import ENOUGH, configured
from workspace import TINY

OF_REAL = ["fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage"]


def described(tmp_path, monkeypatch, with_data):
    """The configuration of a pipeline without real images, beside which there may be another dataset with some."""
    checkout = Checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = configured(checkout, "sd3", {**ENOUGH, "datasets[0].id": "pipe"})
    del config["datasets"][0]["data"]
    if with_data:
        config["datasets"] += yaml.safe_load(TINY.read_text())["datasets"]
    return config, checkout.root


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """``benchmark(with_data)``."""
    return lambda with_data: Benchmark(*described(tmp_path, monkeypatch, with_data))


def scored(cell, seeds):
    """Made-up scores, of the pipeline's cells without those of real images."""
    found = synthetic_pages.score(cell, seeds)
    if cell.dataset["id"] == "pipe":
        found["metrics"] = {key: entry for key, entry in found["metrics"].items() if not METRICS[key].of_real}
        found |= {"reference": None, "biased": ["generated"]}
    return found


def test_the_scores_of_real_images_are_those_that_real_images_give():
    """The catalogue says which they are, and the file of scores which of them are computed."""
    draw = synthetic_pages.rng_of("features")
    generated, real = draw.normal(size=(30, 40)), draw.normal(size=(50, 40))
    mean, covariance = distances.Statistics.of([real]).moments
    settings = {
        "kid": {"subsets": 2, "subset_size": 10},
        "neighbours": {"precision_recall": 3, "density_coverage": 5, "images": 50},
    }
    blocks = [distances.Statistics.of([generated])]
    found = scores.against_real(blocks, Reference((mean, covariance), real, 50), settings)
    assert sorted(found) == sorted(OF_REAL)
    assert [name for name, kind in METRICS.items() if kind.of_real] == OF_REAL
    assert set(scores.against_real(blocks, Reference((mean, covariance), None, None), settings)) == {
        "fid",
        "fid_infinity",
    }


def test_only_a_pipeline_may_be_without(tmp_path, monkeypatch):
    config, root = described(tmp_path, monkeypatch, True)
    del config["datasets"][1]["data"]
    with pytest.raises(
        ConfigError, match=r"datasets\[1\]\.data: the key is missing, there is no .*statistics, and the"
    ):
        Benchmark(config, root)


def test_features_are_given_up_on_purpose_alone(tmp_path, monkeypatch):
    """With paired FID."""
    config, root = described(tmp_path, monkeypatch, False)
    (dataset,) = config["datasets"]
    del dataset["features"]
    said = r"^datasets\[0\]\.features: the key is missing; name a card, such as inception-clean, or null for the scores"
    with pytest.raises(ConfigError, match=said):
        Benchmark(config, root)
    dataset["features"] = "none"
    with pytest.raises(ConfigError, match=r"^datasets\[0\]\.features: 'none' is no card; write null for the scores"):
        Benchmark(config, root)
    dataset |= {"features": None, "data": {"folder": "images"}}
    with pytest.raises(ConfigError, match=r"^datasets\[0\]\.features: null is not allowed with data, as images are"):
        Benchmark(config, root)
    dataset |= {"model": "digits-edm", "grid": {"name": "karras"}}
    del dataset["data"], dataset["prompts"]
    with pytest.raises(ConfigError, match=r"^datasets\[0\]\.data: the key is missing"):
        Benchmark(config, root)


def test_without_features_the_scores_of_the_trajectory_are_left(tmp_path, monkeypatch):
    config, root = described(tmp_path, monkeypatch, True)
    config["datasets"][0]["features"] = None
    made = Benchmark(config, root)
    assert [figure_cells.has_score(made, "pipe", name) for name in ("paired_fid", "self_fid", "fid")] == [False] * 3
    assert figure_cells.curves(made) == ["paired_fid", "fid", "self_fid", "trajectory_rmse"]  # of the other dataset
    monkeypatch.setattr(figure_cells, "CROWD", 1)
    assert figure_cells.panels(made) == [("paired_fid", "digits-edm"), ("fid", "digits-edm")]
    assert Dependencies(made).score("pipe")["card"] == {}

    def without(cell, seeds):
        found = scored(cell, seeds)
        if cell.dataset["id"] == "pipe":
            found["metrics"] = {key: own for key, own in found["metrics"].items() if not METRICS[key].of_features}
            found["biased"] = []
        return found

    path, found, _ = synthetic_pages.write(made, tmp_path, scored=without)
    assert [list(own["choices"]) for own in found["datasets"]] == [
        ["trajectory_rmse"],
        ["paired_fid", "fid", "precision", "trajectory_rmse"],
    ]
    page = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', page, flags=re.S))
    assert "scored without features and real images: paired FID" in blocks["trust/pipe/trajectory_rmse"]
    assert "<dt>features</dt><dd>none</dd>" in blocks["cell/pipe/ddim/nfe2"]
    facts = Facts(made)
    rows = [
        {**facts.of_cell(cell), **without(cell, 2), "real": ""}
        for cell in made.cells_of("pipe")
        if not cell.is_reference
    ]
    tables.write_markdown(frames.tidy(rows, []), tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "Scored without features and real images, so there is no paired FID, FID, FID∞, self-FID, KID" in text


@pytest.mark.parametrize("with_data", [False, True])
def test_figures_are_of_the_scores_that_there_are(benchmark, monkeypatch, with_data):
    made = benchmark(with_data)
    expected = ["paired_fid", *["fid"] * with_data, "self_fid", "trajectory_rmse"]
    assert figure_cells.curves(made) == expected
    monkeypatch.setattr(figure_cells, "CROWD", 1)
    of_real = [("paired_fid", "digits-edm"), ("fid", "digits-edm")]
    assert figure_cells.panels(made) == [("paired_fid", "pipe"), *(of_real if with_data else [])]
    assert [dataset["id"] for dataset in made.with_data()] == ["digits-edm"] * with_data
    assert Dependencies(made).score("pipe")["real"] is None


@pytest.mark.parametrize("with_data", [False, True])
def test_the_page_says_which_scores_are_left_out(benchmark, tmp_path, with_data):
    path, found, _ = synthetic_pages.write(benchmark(with_data), tmp_path, scored=scored)
    page = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', page, flags=re.S))
    assert list(found["datasets"][0]["choices"]) == ["paired_fid", "trajectory_rmse"]
    assert ("fid" in found["metrics"]) is with_data
    assert "table/pipe/fid" not in blocks
    assert ("table/digits-edm/fid" in blocks) is with_data
    for key in ("paired_fid", "trajectory_rmse"):
        trust = blocks[f"trust/pipe/{key}"]
        assert "The data set has no real images, so scores that compare with them are left out" in trust
        assert "Here paired FID is biased" in trust
        assert "FID has both" not in trust
        assert "Published FIDs use" not in trust
    assert "FID says how good" not in blocks["choice/pipe/paired_fid/2"]
    assert "<dt>scored against</dt><dd>no real images</dd>" in blocks["cell/pipe/ddim/nfe2"].replace("\n", "")
    if with_data:
        assert "FID says how good" in blocks["choice/digits-edm/paired_fid/2"]
        assert "Published FIDs use" in blocks["trust/digits-edm/fid"]


def test_the_tables_say_which_scores_are_left_out(benchmark, tmp_path):
    made = benchmark(True)
    facts = Facts(made)
    extractor = '{"network": {"name": "digit-classifier"}}'
    cells = [
        {
            **facts.of_cell(cell),
            **scored(cell, 2),
            **{
                "extractor": extractor,
                "against": scored(cell, 2)["reference"],
                "published": facts.published_fids(cell),
            },
            "real": facts.real_text(cell.dataset["id"]),
        }
        for cell in made.cells.values()
    ]
    tables.write_markdown(frames.tidy(cells, []), tmp_path / "table.md")
    _, first, second = re.split(r"^## (?!Ranks)", (tmp_path / "table.md").read_text(encoding="utf-8"), flags=re.M)
    assert (
        "Scored without real images by features of digit-classifier, so there is no FID, FID∞, KID × 10³, precision or "
        "recall. Here paired FID is biased." in first
    )
    assert "Scored against 10 real images" in second
    assert "### paired FID" in first
    assert "### FID" not in first
    assert "### FID" in second
