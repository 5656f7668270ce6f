"""One small model of each published family through the whole workflow, from the URL of its card to the table."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import faulty_server
import forked_python
from dode.fetching import checksums
from dode.images import noise
from families import CLASSES, FAMILIES, SENTINEL, SIZE, denoised
from workspace import Workspace

CONFIG = Path(__file__).parent / "configs" / "families.yaml"
CLASSIFIER = "adm-imagenet128-classifier"
MODELS = [dataset["model"] for dataset in yaml.safe_load(CONFIG.read_text())["datasets"]]
WITH_SHA256, WITH_MD5 = "edm-imagenet64", "ddpm-cifar10"
CELLS = ["ddim/nfe2", "d-ddim/nfe2", "reference/nfe3"]
PAIRED = ["paired_fid", "trajectory_rmse"]
TABLE = "results/families/table.csv"


def card_path(workspace, name):
    return workspace.folder / "config" / "models" / f"{name}.yaml"


def published(workspace, name):
    """Write the file of a model beside its card and return its content; the card is that of the small model."""
    family = FAMILIES[name](channels=1)
    path = workspace.folder / family.card["file"]
    family.write(path, family.weights)
    content = path.read_bytes()
    path.unlink()
    known = {"size": len(content)}
    if name == WITH_MD5:
        known["md5"] = hashlib.md5(content).hexdigest()
    if name == WITH_SHA256:
        known["sha256"] = hashlib.sha256(content).hexdigest()
    card = {**family.card, "urls": [f"http://127.0.0.1:9/{name}"], **known}
    card_path(workspace, name).write_text(yaml.safe_dump(card))
    return content


def serve(workspace, server, files):
    """Let the cards have the URLs of ``server``, and the server the files."""
    for name, content in files.items():
        card = yaml.safe_load(card_path(workspace, name).read_text())
        server.files[name] = content
        card_path(workspace, name).write_text(yaml.safe_dump({**card, "urls": [f"{server.url}/files/{name}"]}))


def run(folder):
    workspace = Workspace.fresh(folder, config=CONFIG, python=forked_python.executable())
    (folder / checksums.NAME).unlink(missing_ok=True)
    files = {name: published(workspace, name) for name in [*MODELS, CLASSIFIER]}
    with faulty_server.serving() as server:
        serve(workspace, server, files)
        workspace.snakemake(TABLE)
        assert sorted(path for path, _ in server.asked) == sorted(f"/files/{name}" for name in files)


@pytest.fixture(scope="module")
def finished_families(once):
    """All of them, run; leave it as it is."""
    return once("families", run)


@pytest.fixture
def families_workspace(finished_families, folder):
    return finished_families.copy(folder)


def cell(workspace, model, name):
    return workspace.folder / "results" / "families" / model / name


def test_the_table_has_a_row_for_each_cell_and_metric(finished_families):
    frame = pd.read_csv(finished_families.folder / TABLE)
    for model in MODELS:
        for solver, more in (("ddim", PAIRED), ("d-ddim", PAIRED), ("reference", [])):
            rows = frame[(frame.dataset == model) & (frame.solver == solver)]
            assert {"fid", "self_fid", "kid", *more} <= set(rows.metric)
            assert rows.metric.is_unique
            assert np.isfinite(rows["value"]).all()
            assert (rows.images == 12).all()
    assert set(frame.dataset) == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_samples_are_finite_and_the_distilled_solver_is_another(finished_families, model):
    found = []
    for name in CELLS:
        images, ends = (np.load(cell(finished_families, model, name) / f"{part}.npy") for part in ("samples", "ends"))
        assert images.shape == (24, 1, SIZE, SIZE)
        assert images.dtype == np.uint8
        assert ends.shape == (8, 1, SIZE, SIZE)
        assert np.isfinite(ends).all()
        assert images.std() > 1
        found.append(ends)
    assert len({array.tobytes() for array in found}) == len(CELLS)
    fit = json.loads((cell(finished_families, model, "d-ddim/nfe2") / "lambdas.json").read_text())
    assert np.isfinite(fit["lambdas"]).all()
    assert sum(fit["rms_after"]) < sum(fit["rms_before"])


def grid(family):
    """(sigma, options of ``denoised``) of two evaluations, and the noise that they begin with."""
    if family.levels is None:  # the ends of Karras et al.'s grid
        return [(80.0, {}), (0.002, {})], 80.0
    indices = (len(family.levels) // 2, 0)  # the released DDIM code's
    levels = [(float(family.levels[index]), {"index": index}) for index in indices]
    return levels, math.hypot(1, levels[0][0])


@pytest.mark.parametrize("model", MODELS)
def test_samples_are_those_of_the_published_equations(finished_families, model):
    """DDIM, the network and its guidance by code that is not dode's, on the noise and classes of the run."""
    family, options, labels = FAMILIES[model](channels=1), {}, None
    if "classes" in family.card:
        draw = "balanced" if model == "edm-cifar10-cond" else "uniform"
        labels = noise.labels(range(4), CLASSES, seed=0, draw=draw)
    if model == "adm-imagenet128":
        options = {"guided_by": FAMILIES[CLASSIFIER](channels=1), "scale": 1.25}
    levels, spread = grid(family)
    x = spread * noise.latents(range(4), (1, SIZE, SIZE), seed=0)
    for (sigma, where), below in zip(levels, [levels[1][0], 0.0], strict=True):
        image = denoised(family, x, sigma, labels, **where, **options)
        x = image + below / sigma * (x - image)
    found = torch.from_numpy(np.load(cell(finished_families, model, "ddim/nfe2") / "ends.npy")[:4]).double()
    assert x.std() > 0.001
    torch.testing.assert_close(found, x, rtol=0, atol=1e-4 * float(x.std()))


def test_the_lock_has_what_no_card_has(finished_families):
    entries = checksums.read(finished_families.folder)
    unknown = [name for name in [*MODELS, CLASSIFIER] if name != WITH_SHA256]
    names = {name: FAMILIES[name](channels=1).card["file"] for name in unknown}
    assert set(entries) == {f"{name}/{file}" for name, file in names.items()}
    for key, entry in entries.items():
        content = (finished_families.folder / "resources" / "checkpoints" / key).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size"] == len(content)


def test_nothing_in_the_files_was_run(finished_families):
    assert (
        SENTINEL.encode() in next((finished_families.folder / "resources/checkpoints").glob("edm*/*.pkl")).read_bytes()
    )
    assert not list(finished_families.folder.rglob(SENTINEL))


def test_a_second_run_has_nothing_to_do(families_workspace):
    before = families_workspace.contents("re*/**/*")
    assert "Nothing to be done" in families_workspace.snakemake(TABLE)
    assert families_workspace.contents("re*/**/*") == before


@pytest.mark.parametrize("model", ["edm-cifar10-cond", "ddpm-celeba64"])
def test_a_file_that_has_changed_on_its_server_is_refused_by_the_lock(families_workspace, model):
    workspace = families_workspace
    lock = (workspace.folder / checksums.NAME).read_bytes()
    path = workspace.folder / "resources" / "checkpoints" / model / FAMILIES[model](channels=1).card["file"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    shutil.rmtree(workspace.folder / "resources")
    with faulty_server.serving() as server:
        serve(workspace, server, {model: bytes(content)})
        status, _, errors = workspace.attempt(f"resources/models/{model}.safetensors")
    assert status != 0
    (line,) = [line for line in errors.splitlines() if line.startswith(f"fetch_checkpoint/{model}/{path.name}: ")]
    for part in (checksums.NAME, checksums.read(workspace.folder)[f"{model}/{path.name}"]["sha256"]):
        assert part in line
    assert not workspace.contents("resources/**/*")
    assert (workspace.folder / checksums.NAME).read_bytes() == lock
