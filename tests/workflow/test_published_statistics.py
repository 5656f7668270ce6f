"""A finished benchmark whose real images become published statistics, a folder or a zip file: scores are made again."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from dode.benchmark import records
from workspace import RESULTS

SCORE = f"{RESULTS}/digits-edm/ddim/nfe2/score.json"
PUBLISHED = f"{RESULTS}/digits-edm/published-statistics.npz"
CARD = {
    "role": "statistics",
    "urls": ["file:digits-reference.npz"],
    "licence": "Apache-2.0",
    "data": "scikit-learn's digits",
    "images": 1797,
    "features": "digits-classifier",
}


def digits():
    """The images of the data set ``digits``, (n, 8, 8) uint8."""
    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8)


def with_statistics(workspace, arrays, **card):
    """Let the tiny configuration's dataset have a card of statistics, with these arrays, and no images."""
    models = workspace.folder / "config" / "models"
    np.savez(models / "digits-reference.npz", **arrays)
    (models / "digits-statistics.yaml").write_text(yaml.safe_dump({**CARD, **card}))
    workspace.config({"datasets[0].data": None, "datasets[0].features": None})
    workspace.config({"datasets[0].statistics": "digits-statistics"})
    return workspace


def measured(finished):
    """Mean and covariance that the finished benchmark measured on the real digits."""
    with np.load(finished.results / "real" / "digits" / "digits-classifier.npz", allow_pickle=False) as arrays:
        return {"mu": arrays["mu"], "sigma": arrays["sigma"]}


def metrics(workspace):
    frame = pd.read_csv(workspace.results / "table.csv")
    return frame, set(frame["metric"])


@pytest.fixture(scope="module")
def by_statistics(finished, tmp_path_factory):
    """The tiny benchmark against the digits' own moments as a published file has them."""
    workspace = finished.copy(tmp_path_factory.mktemp("statistics") / "repository")
    with_statistics(workspace, measured(finished))
    workspace.snakemake()
    return workspace


def test_published_moments_give_the_fids_of_the_images_they_are_of(finished, by_statistics):
    (before, known), (after, found) = metrics(finished), metrics(by_statistics)
    assert known - found == {"kid", "precision", "recall", "density", "coverage"}
    fids = [
        frame[(frame["metric"] == "fid") & (frame["solver"] != "real-halves")]["value"].to_numpy()
        for frame in (before, after)
    ]
    assert len(fids[0]) == 4
    np.testing.assert_array_equal(*fids)


def test_a_run_with_statistics_is_finished_when_it_has_run(by_statistics):
    assert by_statistics.plan() == set()


def test_the_file_that_scores_read_says_whose_features_it_is_of(by_statistics):
    with np.load(by_statistics.folder / PUBLISHED, allow_pickle=False) as arrays:
        assert "digit-classifier" in str(arrays["extractor"])
        assert "features" not in arrays


def test_a_score_refuses_fine_step_statistics_of_another_extractor(by_statistics, folder):
    workspace, file = by_statistics.copy(folder), f"{RESULTS}/digits-edm/reference-statistics.npz"
    with np.load(workspace.folder / file, allow_pickle=False) as arrays:
        changed = {**arrays, "extractor": '{"network": {"name": "inception"}}'}
    np.savez(workspace.folder / file, **changed)
    records.write(workspace.folder / file, None)
    (workspace.folder / SCORE).unlink()
    status, output, errors = workspace.attempt("--force", "--allowed-rules", "score", "--", SCORE)
    text = output + errors
    assert status != 0
    message = next((line for line in text.splitlines() if line.startswith("score/")), text)
    assert "digit-classifier" in message
    assert "inception" in message
    assert not (workspace.folder / SCORE).exists()


def test_other_published_moments_run_the_scores_again_and_nothing_before_them(by_statistics, finished, folder):
    workspace = by_statistics.copy(folder)
    moments = measured(finished)
    with_file = workspace.folder / "config" / "models" / "digits-reference.npz"
    np.savez(with_file, mu=moments["mu"] + 1, sigma=moments["sigma"])
    card = yaml.safe_load((with_file.parent / "digits-statistics.yaml").read_text())
    (with_file.parent / "digits-statistics.yaml").write_text(yaml.safe_dump({**card, "md5": "0" * 32}))
    plan = {name.split()[0] for name in workspace.plan()}
    assert {"published_statistics", "score", "tables"} <= plan
    assert not plan & {"sample", "gather", "teacher", "distill", "reference_statistics"}


def test_images_in_a_published_file_are_scored_with_the_datasets_own_features(finished, folder):
    workspace = with_statistics(finished.copy(folder), {"arr_0": digits()[:200, :, :, None]})
    workspace.snakemake(SCORE)
    with np.load(workspace.folder / PUBLISHED, allow_pickle=False) as arrays:
        assert arrays["features"].shape == (200, 64)
        np.testing.assert_allclose(arrays["mu"], arrays["features"].mean(axis=0), rtol=1e-5)
    assert '"kid"' in (workspace.folder / SCORE).read_text()


def test_a_published_file_that_cannot_be_right_ends_in_one_sentence(finished, folder):
    workspace = with_statistics(finished.copy(folder), {"mu": np.zeros(63), "sigma": np.eye(63)})
    status, output, errors = workspace.attempt(PUBLISHED)
    assert status != 0
    messages = [line for line in (output + errors).splitlines() if line.startswith("published_statistics/")]
    assert len(messages) == 1, output + errors
    for part in ("63", "64", "digits-reference.npz"):
        assert part in messages[0]
    assert not (workspace.folder / PUBLISHED).exists()


def save_digits(folder):
    """The digits as PNG files, in an order of names that is theirs."""
    folder.mkdir()
    for index, image in enumerate(digits()):
        Image.fromarray(image).save(folder / f"{index:04}.png")


def zipped(folder):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)


def test_a_folder_and_a_zip_file_have_the_statistics_of_the_same_images_in_memory(finished, folder):
    workspace = finished.copy(folder)
    save_digits(workspace.folder / "images")
    zipped(workspace.folder / "images")
    with np.load(finished.results / "real" / "digits" / "digits-classifier.npz") as arrays:
        expected = dict(arrays)
    for source in ({"folder": "images"}, {"zip": "images.zip"}):
        workspace.config({"datasets[0].data": source})
        workspace.snakemake(SCORE)
        (kind,) = source
        (path,) = workspace.results.glob(f"real/{kind}-*/digits-classifier.npz")
        with np.load(path) as arrays:
            assert set(arrays) == set(expected)
            for name in expected:
                np.testing.assert_array_equal(arrays[name], expected[name])
    scores = [json.loads((each.folder / SCORE).read_text()) for each in (workspace, finished)]
    sources = [(score["reference"].pop("file"), score["made"]["scoring"].pop("real")) for score in scores]
    assert all(one != other for one, other in zip(*sources, strict=True))
    assert scores[0] == scores[1]
    workspace.snakemake(f"{RESULTS}/table.md", f"{RESULTS}/figures/real-{path.parent.name}.png")
    assert "real images (`zip images.zip`, SHA-256" in (workspace.results / "table.md").read_text()
