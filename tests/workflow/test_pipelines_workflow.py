"""A text-to-image pipeline from its folder to the page: encoded, sampled and fitted in latents, decoded, scored."""

import json
import os
import re
import signal
import zipfile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

import dode
from dode import grids, solvers, storage
from dode.__main__ import main
from dode.benchmark import pipeline_ends
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.catalogue import METRICS
from dode.metrics.prompt_scores import scorers
from dode.pipelines import family, model

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import forked_python
import pipeline_workspaces as tiny
import tiny_clip
from test_interruptions import end, wait_for
from workspace import Workspace

CELLS = ("ddim/nfe2", "d-ddim/nfe2", "j-ddim/nfe2", "reference/nfe7")


@pytest.fixture(scope="module")
def sampled(once):
    """The tiny pipeline's benchmark, run to its end; leave it as it is."""

    def make(folder):
        workspace = Workspace.fresh(folder, python=forked_python.executable("pipelines"))
        tiny.prepare(workspace)
        workspace.snakemake()

    return once("sampled-pipeline", make, "pipelines")


@pytest.fixture
def copied(sampled, folder):
    """The same, to do anything with."""
    return sampled.copy(folder)


@pytest.fixture(scope="module")
def by_hand():
    """``by_hand(prompts)``: the family and its guided denoiser of these prompts."""
    own = family.of(tiny.pipeline(), length=16)
    plain = model.denoiser(own, batch_size=10)
    return lambda prompts: (own, model.guided(own, plain, own.encode(prompts), scale=3.0))


def test_every_cell_has_images_latents_and_a_score(sampled):
    assert (sampled.results / "index.html").is_file()
    for cell in CELLS:
        folder = sampled.cell(cell)
        assert (folder / "score.json").is_file()
        shapes = {name: np.load(folder / f"{name}.npy").shape for name in ("samples", "ends", "latents", "latent-ends")}
        images, kept = 2 * tiny.IMAGES, 2 * 10
        assert shapes == {
            "samples": (images, 1, 8, 8),
            "ends": (kept, 1, 8, 8),
            "latents": (images, 4, 4, 4),
            "latent-ends": (kept, 4, 4, 4),
        }
    assert sampled.plan() == set()


def test_tables_and_page_say_that_guidance_doubles_the_passes(sampled):
    for cell, passes in (("ddim/nfe2", 4), ("j-ddim/nfe2", 4), ("reference/nfe7", 14)):
        assert json.loads((sampled.cell(cell) / "score.json").read_text())["passes"] == passes
    for name in ("table.md", "table.tex", "index.html"):
        assert "each evaluation (NFE) is 2 network passes" in (sampled.results / name).read_text()


def test_prompts_that_an_encoder_cuts_are_named_in_what_was_encoded(sampled, tmp_path, caplog):
    own, path = family.of(tiny.pipeline(), length=16), tmp_path / "encoded.safetensors"
    texts = ["a cat", " ".join(["a red cat on the table"] * 9)]
    pipeline_ends.write_conditions(path, own, texts, "", 1, {})
    with safe_open(path, framework="pt") as file:
        (number, fault), *others = json.loads(file.metadata()["encoded"])["cut"].items()
    assert (number, others) == ("2", [])
    assert "tokens of tokenizer, which takes 16" in fault
    assert "1 of 2 prompts are cut; row 2: it has" in caplog.text
    said = []  # those of fitting images are further down in the file
    pipeline_ends.write_conditions(path, own, texts, "", 1, {}, first=20, say=said.append)
    assert [line.startswith("1 of 2 prompts are cut; row 22: it has") for line in said] == [True]


def test_a_cells_latents_and_images_are_those_made_by_hand(sampled, by_hand):
    folder = sampled.cell("ddim/nfe2")
    own, denoise = by_hand(tiny.prompts(10))
    sigmas = grids.for_model(denoise, "flow-linear", 2, shift=3.0)
    latents = np.load(folder / "latents.npy")
    for block in (0, 1):
        start = noise.latents(range(10), (4, 4, 4), seed=0, block=block)
        found = dode.sample(solvers.create("ddim"), denoise, start, sigmas)
        first = block * tiny.IMAGES
        np.testing.assert_allclose(latents[first : first + 10], found.float().numpy(), rtol=0, atol=1e-5)
        images = own.decode(torch.from_numpy(latents[first : first + 10].copy()))
        samples = np.load(folder / "samples.npy")[first : first + 10].astype(int)
        assert np.abs(samples - pixels.to_bytes(images)).max() <= 1  # of rounding


@pytest.mark.parametrize("solver", ["d-ddim", "j-ddim"])
def test_an_exported_cell_gives_its_latents(sampled, by_hand, tmp_path, solver):
    path = tmp_path / "mine.json"
    assert main(["export", str(sampled.results), "digits-edm", solver, "2", "--output", str(path)]) == 0
    sampler = dode.load(path)
    assert sampler.record["model"]["image_shape"] == [4, 4, 4]
    _, denoise = by_hand(tiny.prompts(10))
    found = sampler.sample(denoise, noise.latents(range(10), (4, 4, 4), seed=0))
    expected = np.load(sampled.cell(f"{solver}/nfe2") / "latent-ends.npy")[:10]
    np.testing.assert_allclose(found.float().numpy(), expected, rtol=0, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_images(sampled, folder):
    workspace = Workspace.fresh(folder, python=forked_python.executable("pipelines"))
    tiny.prepare(workspace)
    targets = [str((workspace.cell(cell) / "samples.npy").relative_to(folder)) for cell in CELLS]
    for moment in ("conditions/*.safetensors", "*/*/ends.npy"):
        process = workspace.start(*targets)
        wait_for(workspace, f"results/tiny/digits-edm/{moment}", process)
        os.killpg(process.pid, signal.SIGKILL)
        end(process)
    workspace.snakemake(*targets)
    for cell in CELLS:
        for name in ("samples.npy", "latent-ends.npy"):
            assert (workspace.cell(cell) / name).read_bytes() == (sampled.cell(cell) / name).read_bytes()


def rules_of(plan):
    """The rules of cells and of what comes before them, without what is made of scores."""
    before = {"encode", "fine_ends"}
    return {each for each in plan if each in before or each.split()[0] in ("teacher", "distill", "gather_latents")}


def test_a_changed_prompt_reruns_what_depends_on_it_and_nothing_else(copied):
    samples = {f"gather_latents {cell}" for cell in CELLS}
    fits = {"distill d-ddim/nfe2", "teacher d-ddim/nfe2", "distill j-ddim/nfe2"}
    tiny.change_row(copied, 3)
    assert rules_of(copied.plan()) == {"encode", *samples}
    (copied.folder / "prompts.txt").write_text("\n".join(tiny.prompts()) + "\n")
    assert copied.plan() == set()
    tiny.change_row(copied, tiny.IMAGES + 3)
    fitted = {"gather_latents d-ddim/nfe2", "gather_latents j-ddim/nfe2"}
    assert rules_of(copied.plan()) == {"encode", "fine_ends", *fits, *fitted}
    (copied.folder / "prompts.txt").write_text("\n".join(tiny.prompts()) + "\n")
    tiny.change_row(copied, tiny.IMAGES + tiny.FITTED)
    assert copied.plan() == set()


def test_the_rest_of_a_fitting_set_that_only_one_cell_has_leaves_the_others(copied):
    """The greedy cell is fitted on 12 images, the joint one on 16."""
    tiny.change_row(copied, tiny.IMAGES + 14)
    plan = rules_of(copied.plan())
    assert {"encode", "fine_ends", "distill j-ddim/nfe2", "gather_latents j-ddim/nfe2"} == plan


def test_other_weights_in_the_folder_run_everything_again_and_a_copy_of_it_nothing(copied):
    path = copied.folder / "config/models/tiny-sd3/transformer/diffusion_pytorch_model.safetensors"
    os.utime(path)
    assert copied.plan() == set()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert {f"gather_latents {cell}" for cell in CELLS} <= copied.plan()


def test_cells_of_the_same_pipeline_and_prompts_are_the_same_once_it_is_fetched(copied):
    """What is known of them beforehand is what was written, the digests of all code included."""
    copied.command("pack", "results/tiny", "--output", "theirs.zip")
    add = ("add", "theirs.zip", "config/config.yaml", "--dry-run")
    cells = ", ".join(f"digits-edm/{cell}" for cell in CELLS[:3])
    assert f"The same as here, and therefore no rows: {cells}." in copied.command(*add)
    made = storage.read_json(copied.results / "provenance.json")["cells"]["digits-edm/ddim/nfe2"]
    assert set(made["code"]) == {"sample", "encode", "decode", "pipeline", "score"}
    tiny.change_row(copied, tiny.IMAGES)
    assert "| fit.prompts " in copied.command(*add)
    (copied.folder / "resources/pipelines/made/tiny-sd3.json.json").unlink()
    assert re.search(r"\| checkpoints\.model .*not fetched yet", copied.command(*add, status=1))


def test_distances_are_of_latents_and_of_decoded_images(sampled):
    cell, fine = sampled.cell("ddim/nfe2"), sampled.cell("reference/nfe7")
    metrics = storage.read_json(cell / "score.json")["metrics"]
    latents = [np.split(np.load(folder / "latent-ends.npy").astype(np.float64), 2) for folder in (cell, fine)]
    rmse = [np.sqrt(np.square(one - other).mean()) for one, other in zip(*latents, strict=True)]
    assert metrics["trajectory_rmse"]["blocks"] == pytest.approx(rmse, rel=1e-9)
    assert metrics["trajectory_rmse"]["of"] == "latents"
    images = [np.split(np.load(folder / "ends.npy").astype(np.float64).clip(-1, 1), 2) for folder in (cell, fine)]
    errors = [np.square(one - other).mean(axis=(1, 2, 3)) for one, other in zip(*images, strict=True)]
    assert metrics["decoded_psnr"]["blocks"] == pytest.approx([(10 * np.log10(4 / each)).mean() for each in errors])
    assert "trajectory_psnr" not in metrics
    own = storage.read_json(fine / "score.json")["metrics"]
    assert "fid" in own
    assert not {"paired_fid", "trajectory_rmse", "decoded_psnr"} & set(own)
    table = (sampled.results / "table.md").read_text()
    assert "### decoded PSNR" in table
    assert "of a pipeline per entry of the latents" in table


SCORE = "results/tiny/digits-edm/ddim/nfe2/score.json"


def test_a_scorer_that_is_added_looks_at_the_images_and_their_prompts_and_nothing_runs_again(copied):
    models = copied.folder / "config/models"
    tiny_clip.save(models / "tiny-clip")
    (models / "tiny-clip.yaml").write_text(yaml.safe_dump(tiny_clip.CARD))
    copied.config({"datasets[0].prompt_scores": ["tiny-clip"]})
    plan = {each for each in copied.plan() if " " in each}
    assert plan == {f"{rule} {cell}" for rule in ("prompt_score", "score_pipeline") for cell in CELLS}
    copied.snakemake(SCORE)
    images, prompts = np.load(copied.cell("ddim/nfe2") / "samples.npy"), tiny.prompts(tiny.IMAGES)
    score = scorers.create("clip", card=tiny_clip.CARD, folder=models / "tiny-clip", device="cpu")
    found = storage.read_json(copied.folder / SCORE)
    blocks = [score(block, prompts).double().mean().item() for block in np.split(images, 2)]
    assert found["metrics"]["clip_score"]["blocks"] == pytest.approx(blocks, rel=1e-4)
    assert max(blocks) > 0
    assert "transformers" in found["prompt_scores"][0]["software"]
    tiny.change_row(copied, 3)
    assert "prompt_score ddim/nfe2" in copied.plan()


def test_fid_against_a_folder_and_a_zip_file_is_of_decoded_images(copied):
    real = np.load(copied.cell("reference/nfe7") / "samples.npy")
    folder = copied.folder / "real-images"
    folder.mkdir()
    with zipfile.ZipFile(copied.folder / "real-images.zip", "w") as archive:
        for number, image in enumerate(real):
            Image.fromarray(image[0]).save(folder / f"{number}.png")
            archive.write(folder / f"{number}.png", f"{number}.png")
    models = copied.folder / "config/models"
    card = yaml.safe_load((models / "digits-classifier.yaml").read_text())
    extract = features.create(card, models / "digits-classifier.safetensors")
    statistics = [
        distances.Statistics.of(features.stream(extract, images, 100))
        for images in (real, *np.split(np.load(copied.cell("ddim/nfe2") / "samples.npy"), 2))
    ]
    expected = [distances.fid(each.gaussian, statistics[0].gaussian) for each in statistics[1:]]
    for source in ({"folder": "real-images"}, {"zip": "real-images.zip"}):
        copied.config({"datasets[0].data": source})
        copied.snakemake(SCORE)
        found = storage.read_json(copied.folder / SCORE)
        assert found["metrics"]["fid"]["blocks"] == pytest.approx(expected, rel=1e-6)
        assert found["reference"]["images"] == len(real)


def test_without_real_images_the_scores_that_need_them_are_left_out(copied):
    """Nothing is sampled or decoded again, and the other scores stay as they were."""
    before = storage.read_json(copied.folder / SCORE)["metrics"]
    copied.config({"datasets[0].data": None})
    plan = {each.split()[0] for each in copied.plan()}
    assert {"score_images", "tables", "page"} <= plan
    assert not {"encode", "gather_latents", "decode", "distill", "real_statistics"} & plan
    shown = [f"results/tiny/{name}" for name in ("table.md", "index.html", "figures/paired_fid.png")]
    copied.snakemake(*shown)
    found = storage.read_json(copied.folder / SCORE)
    assert found["reference"] is None
    assert set(before) - set(found["metrics"]) == {name for name, kind in METRICS.items() if kind.of_real}
    assert all(found["metrics"][key] == before[key] for key in found["metrics"])
    assert "Scored without real images by features of digit-classifier" in (copied.results / "table.md").read_text()
    assert "The data set has no real images" in (copied.results / "index.html").read_text()
    assert copied.plan(*shown) == set()
    # Without features, too, the distances to the fine solution stay as they were.
    config = copied.folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("features: digits-classifier", "features: null"))
    plan = {each.split()[0] for each in copied.plan()}
    assert {"score_ends", "score_pipeline", "page"} <= plan
    assert not {"fetch_checkpoint", "decode", "score_images", "reference_statistics"} & plan
    copied.snakemake(*shown[:2])
    left = storage.read_json(copied.folder / SCORE)["metrics"]
    assert set(found["metrics"]) - set(left) == {"paired_fid", "self_fid"}
    assert all(left[key] == before[key] for key in left)
    assert "Scored without features and real images" in (copied.results / "table.md").read_text()
    assert copied.plan(*shown[:2]) == set()
