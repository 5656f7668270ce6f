"""Scores against published statistics and against images in a file: the same as against the same images by name."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dode import data
from dode.metrics import features
from dode.metrics.distances import Statistics
from workspace import REPOSITORY, TINY, Workspace

MODELS = REPOSITORY / "config" / "models"


def run(folder):
    """The tiny benchmark's DDIM against statistics, and once more against a zip of the digits."""
    workspace = Workspace.fresh(folder)
    digits, _ = data.sources.create("digits")
    card = yaml.safe_load((MODELS / "digits-classifier.yaml").read_text())
    extract = features.create(card, MODELS / "digits-classifier.safetensors")
    whole = Statistics.of(features.stream(extract, digits, 500))
    np.savez(folder / "config/models/statistics.npz", mu=whole.mean, sigma=whole.covariance)
    about = {"role": "statistics", "urls": ["file:statistics.npz"], "licence": "any"}
    about |= {"features": "digits-classifier", "data": "digits", "images": len(digits)}
    (folder / "config/models/digits-statistics.yaml").write_text(yaml.safe_dump(about))
    with zipfile.ZipFile(folder / "digits.zip", "w") as archive:
        for index, image in enumerate(digits):
            with archive.open(f"{index:04}.png", "w") as file:
                Image.fromarray(image[0]).save(file, "png")
    config = yaml.safe_load(TINY.read_text())
    (dataset,) = config["datasets"]
    known = {key: value for key, value in dataset.items() if key not in ("id", "data", "features")}
    zipped = {**known, "id": "zipped", "data": {"zip": "digits.zip"}, "features": "digits-classifier"}
    config["datasets"] = [{**known, "id": "published", "statistics": "digits-statistics"}, zipped]
    config["solvers"] = config["solvers"][:1]
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    workspace.snakemake()


@pytest.fixture(scope="module")
def scored(once):
    return once("statistics", run)


def metrics(workspace, dataset):
    return json.loads((workspace.results / dataset / "ddim/nfe2/score.json").read_text())["metrics"]


def test_scores_are_those_against_the_same_images_by_name(scored, finished):
    expected = metrics(finished, "digits-edm")
    assert metrics(scored, "zipped") == expected
    found = metrics(scored, "published")
    assert found["fid"] == pytest.approx(expected["fid"], rel=1e-6)
    assert set(expected) - set(found) == {"kid"}


def test_the_table_has_a_floor_for_images_alone(scored):
    frame = pd.read_csv(scored.results / "table.csv")
    assert set(frame[frame.solver == "floor"].dataset) == {"zipped"}
    assert {"published", "zipped"} == set(frame.dataset)
    assert (scored.results / "report.html").stat().st_size > 100_000


def test_statistics_of_other_features_are_refused_by_a_score(scored, folder):
    workspace = scored.copy(folder)
    path = workspace.results / "published" / "published-statistics.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **{**content, "extractor": "another"})
    status, _, errors = workspace.attempt()
    assert status != 0
    assert "score/published/ddim/2" in errors
    assert "cannot be compared" in errors


def test_a_changed_archive_makes_new_statistics_and_scores(scored, folder):
    workspace = scored.copy(folder)
    with zipfile.ZipFile(workspace.folder / "digits.zip", "a") as archive, archive.open("more.png", "w") as file:
        Image.new("L", (8, 8)).save(file, "png")
    named = {line for line in workspace.plan() if "real" in line or "statistics" in line}
    assert named == {"real_statistics", "real_images"}
