"""``python -m dode init``: from a checkpoint to a card, a configuration and a plan that hold together."""

import builtins
import json
import shutil
import sys
import types
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import families
import pipeline_folders
from checkouts import CONFIG, SCHEDULER
from dode import checkpoints, models
from dode.__main__ import main
from dode.benchmark.cells import Benchmark
from dode.commands import add, audit, check_model, init, plan
from dode.fetching import identified
from dode.fetching.cards import load_card, names
from workspace import REPOSITORY

MODELS = REPOSITORY / "config" / "models"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with the cards of the embedded models, in which the commands work."""
    root = tmp_path / "root"
    (root / "config" / "models").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "config" / "schemas", root / "config" / "schemas")
    shutil.copytree(REPOSITORY / "config" / "prompts", root / "config" / "prompts")
    names = ("mnist-real-statistics", "mnist-classifier", "digits-classifier", "digits-edm", "edm-cifar10-uncond")
    for name in (*names, "inception-clean", "cifar10-edm-statistics", "inception-tensorflow"):
        for path in MODELS.glob(f"{name}.*"):
            shutil.copy(path, root / "config" / "models")
    for module in (add, audit, check_model, init, plan):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(identified.places, "workflow", lambda: root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def run(root, capsys):
    """``run(*arguments, status=0)``: what ``init`` prints."""

    def command(*arguments, status=0):
        found = main(["init", *map(str, arguments)])
        said = capsys.readouterr()
        assert found == status, said.out + said.err
        return said.out + said.err

    return command


def unet(folder, *, scheduler=SCHEDULER, weights="diffusion_pytorch_model.safetensors", **config):
    """A folder of diffusers whose weights are empty."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **CONFIG, **config}))
    (folder / weights).touch()
    if scheduler is not None:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def mnist(folder):
    """``mnist-ddpm`` as diffusers saves a pipeline of one network."""
    card = yaml.safe_load((MODELS / "mnist-ddpm.yaml").read_text())
    for part, name, value in (
        ("unet", "config.json", {"_class_name": "UNet2DModel", **card["network"]["options"]["config"]}),
        ("scheduler", "scheduler_config.json", SCHEDULER),
        ("", "model_index.json", {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / name).write_text(json.dumps(value))
    shutil.copy(MODELS / "mnist-ddpm.safetensors", folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


def written(root, name):
    """Card as it is read, and the configuration, checked."""
    config = yaml.safe_load((root / "config" / f"{name}.yaml").read_text())
    Benchmark(config, root)
    return load_card(root, name, "card"), config


def test_a_checkpoint_of_ones_own_is_tried_timed_and_planned(run, root, tmp_path):
    pytest.importorskip("diffusers")
    with (
        np.load(MODELS / "mnist-real-statistics.npz") as file,
        zipfile.ZipFile(tmp_path / "images.zip", "w") as archive,
    ):
        for index, image in enumerate(file["arr_0"][:64]):
            data = BytesIO()
            Image.fromarray(image[..., 0]).save(data, "PNG")
            archive.writestr(f"{index}.png", data.getvalue())
    said = run(mnist(tmp_path / "My Model"), "--data", tmp_path / "images.zip", "--nfe", 4, 7, "--images", 20)
    assert "is a UNet2DModel of diffusers" in said
    assert "Right: the card agrees with its network and its file, and the model denoises." in said
    assert "GPU hours" in said
    assert "Next: python -m dode run" in said
    card, config = written(root, "my-model")
    assert card["image_shape"] == [1, 28, 28]
    assert (card["prediction"], card["schedule"]["name"]) == ("noise", "linear")
    assert config["datasets"][0]["data"] == {"zip": str(tmp_path / "images.zip")}
    assert config["datasets"][0]["images"] == 20
    assert [entry["nfe"] for entry in config["solvers"]][:2] == [[4, 7], [5, 7]]
    assert config["execution"]["evaluations_per_second"] > 0
    text = (root / "config" / "models" / "my-model.yaml").read_text()
    assert "#   prediction: noise" in text
    assert (root / "config" / "my-model.yaml").read_text().count("#") > 8


def test_a_model_that_does_not_denoise_is_said_to(run, tmp_path):
    pytest.importorskip("diffusers")
    folder = mnist(tmp_path / "mine")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER | {"prediction_type": "sample"}))
    assert "WRONG: it does not denoise" in run(folder, status=1)


@pytest.mark.parametrize(
    ("scheduler", "prediction", "grid"),
    [
        (SCHEDULER, "noise", None),
        (SCHEDULER | {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}, "v", None),
        (SCHEDULER | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "v", None),
        (SCHEDULER | {"_class_name": "DEISMultistepScheduler"}, "noise", "uniform-index"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "flow", None),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "flow", "flow-linear"),
    ],
)
def test_what_the_scheduler_says_decides_solvers_and_grid(run, root, tmp_path, scheduler, prediction, grid):
    said = run(unet(tmp_path / "mine", scheduler=scheduler, sample_size=32), "--no-check")
    assert "No GPU hours" in said
    card, config = written(root, "mine")
    assert card["prediction"] == prediction
    assert config["datasets"][0].get("grid", {}).get("name") == grid
    assert ("The grid is not the model's own, which is none of this project's: " in said) == (grid is not None)
    spaced = {entry["id"]: entry["grid"]["options"]["spacing"] for entry in config["solvers"] if "grid" in entry}
    others, own = (
        dict.fromkeys(("heun", "dpmpp-2m", "unipc"), "trailing"),
        dict.fromkeys(("ddim", "ipndm", "j-ipndm"), "leading"),
    )
    linear = card["schedule"].get("name") == "linear" and "rescale_betas_zero_snr" not in card["schedule"]
    assert spaced == ({} if not linear else own if grid else others)
    assert config["datasets"][0]["statistics"] == "cifar10-edm-statistics"  # those of 32x32 pixels in colour
    assert ("flow-heun" in {entry["id"] for entry in config["solvers"]}) == (prediction == "flow")


def test_classes_and_weights_of_other_names_are_found(run, root, tmp_path):
    folder = unet(
        tmp_path / "mine", weights="ema.bin", sample_size=8, in_channels=1, out_channels=1, num_class_embeds=10
    )
    run(folder, "--no-check", "--name", "mine-2", "--licence", "MIT")
    card, config = written(root, "mine-2")
    assert (card["format"], card["classes"], card["licence"]) == ("torch", 10, "MIT")
    assert config["datasets"][0]["data"] == "digits"
    assert config["datasets"][0]["features"] == "digits-classifier"


def test_what_a_checkpoint_does_not_say_can_be_given(run, root, tmp_path):
    folder = unet(tmp_path / "mine", scheduler=None, sample_size=32)
    said = run(folder, "--no-check", status=1)
    assert "the key 'prediction' is missing; the checkpoint does not say it: --prediction epsilon" in said
    assert not (root / "config" / "models" / "mine.yaml").exists()
    run(folder, "--no-check", "--prediction", "v_prediction", "--schedule", "squaredcos_cap_v2")
    card, _ = written(root, "mine")
    assert card["schedule"] == {"name": "cosine", "steps": 1000}


def test_a_pipeline_gets_prompts_and_guidance(run, root):
    said = run(MODELS / "text-to-digit", "--name", "words", "--images", 100)
    assert "is a StableDiffusion3Pipeline of diffusers" in said
    assert "The weights are not tried" in said
    card, config = written(root, "words")
    assert card["latent_shape"] == [4, 7, 7]
    (dataset,) = config["datasets"]
    assert dataset["guidance"]["name"] == "classifier-free"
    assert (root / dataset["prompts"]["file"]).is_file()
    assert config["solvers"][-1]["distill"]["budget"] == 40_000
    run(MODELS / "text-to-digit", "--name", "alone", "--data", "none")
    (dataset,) = written(root, "alone")[1]["datasets"]
    assert not {"data", "statistics"} & set(dataset)
    assert dataset["features"] == "mnist-classifier"
    assert dataset["images"] == 200  # of the 400 prompts that it comes with, 200 are fitted on


def test_a_pipeline_needs_no_features(run, root, tmp_path):
    folder = pipeline_folders.make(tmp_path / "mine")
    said = run(folder, "--name", "loaded", "--nfe", 3)
    assert (
        "The run downloads inception-clean, whose features images are scored by. --features none leaves them out"
        in said
    )
    assert written(root, "loaded")[1]["datasets"][0]["features"] == "inception-clean"
    said = run(folder, "--nfe", 3, "--features", "none")
    assert "inception" not in said
    _, config = written(root, "mine")
    assert config["datasets"][0]["features"] is None
    assert "features: null # so there is no paired FID; with a card" in (root / "config" / "mine.yaml").read_text()
    run(folder, "--name", "chosen", "--nfe", 3, "--features", "inception-tensorflow")
    assert written(root, "chosen")[1]["datasets"][0]["features"] == "inception-tensorflow"


def test_a_pipeline_that_does_not_say_its_size_is_given_it(run, root, tmp_path):
    dynamic = {"use_dynamic_shifting": True}
    folder = pipeline_folders.make(
        tmp_path / "flux", "flux", scheduler=dynamic, decoder={"block_out_channels": [8] * 4}
    )
    said = run(folder, status=1)
    assert "the key 'image_shape' is missing; the checkpoint does not say it: --image-shape 3 1024 1024" in said
    said = run(folder, "--image-shape", 3, 512, 256)
    assert "of a pipeline it follows from the log of a sampling job" in said
    card, config = written(root, "flux")
    assert card["image_shape"] == [3, 512, 256]
    assert card["sampling"]["grid"]["options"]["shift"] == pytest.approx(
        1.7217, abs=1e-4
    )  # e^(.5 + .65 (512 - 256) / 3840)
    assert "grid" not in config["datasets"][0]


def test_a_pipeline_of_classes_has_no_prompts_to_encode(run, tmp_path):
    said = run(pipeline_folders.make(tmp_path / "dit", "dit"), "--nfe", 3)
    assert "Besides, 10,500 latents are decoded." in said  # 500 images x 3 seeds of seven cells


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["edm-cifar10-cond", "edm-imagenet64"])
def test_a_pickle_of_edms_says_all_itself(run, root, tmp_path, name):
    family = families.FAMILIES[name](3)
    path = tmp_path / "network-snapshot.pkl"
    family.write(path, family.weights)
    data = tmp_path / "data"
    data.mkdir()
    channels, size, _ = family.card["image_shape"]
    for index in range(4):
        Image.fromarray(np.zeros((size, size, channels), dtype=np.uint8).squeeze()).save(data / f"{index}.png")
    run(path, "--no-check", "--data", data)
    card, _ = written(root, "network-snapshot")
    assert card["network"]["name"] == yaml.safe_load((MODELS / f"{name}.yaml").read_text())["network"]["name"]
    assert card["preconditioning"] == {"name": "edm", "sigma_data": 0.5}
    assert (card["sigma_min"], card["sigma_max"]) == (0.002, 80.0)
    assert card.get("classes") == family.card.get("classes")
    if name == "edm-cifar10-cond":  # of the other, the small one has heads of another width
        converted = tmp_path / "converted.safetensors"
        checkpoints.convert(path, converted, format="edm-pickle", key="ema")
        models.load(card, converted)


def test_a_published_file_is_known_by_its_name(run, root, tmp_path):
    path = tmp_path / "edm-cifar10-32x32-uncond-vp.pkl"
    path.touch()
    assert "the published file of the card edm-cifar10-uncond" in run(path, "--no-check", "--name", "mine")
    card, _ = written(root, "mine")
    assert card["urls"] == [f"file:{path}"]
    assert card["statistics"] == "cifar10-edm-statistics"


def test_a_file_is_known_by_its_configuration_beside_it(run, root, tmp_path):
    folder = unet(tmp_path / "mine", sample_size=32)
    run(folder / "diffusion_pytorch_model.safetensors", "--no-check", "--name", "mine")
    assert written(root, "mine")[0]["image_shape"] == [3, 32, 32]


def test_a_repository_of_the_hub_is_of_its_commit(run, root, tmp_path, monkeypatch):
    folder = unet(tmp_path / "there", sample_size=32)

    class HfApi:
        def model_info(self, name, revision=None):
            assert (name, revision) == ("owner/model", "main")
            siblings = [types.SimpleNamespace(rfilename=path.name) for path in folder.iterdir()]
            return types.SimpleNamespace(
                sha="1a2b", siblings=siblings, card_data=types.SimpleNamespace(get={"license": "mit"}.get)
            )

    monkeypatch.setattr(identified.downloads, "optional", lambda *named: types.SimpleNamespace(HfApi=HfApi))
    here = lambda name, wanted, commit, online: path if (path := folder / wanted).is_file() else None  # noqa: E731
    monkeypatch.setattr(identified.downloads, "of_the_hub", here)
    said = run("owner/model@main")
    assert "Right" not in said  # its weights are not here
    text = (root / "config" / "models" / "model.yaml").read_text()
    assert "hf:owner/model/diffusion_pytorch_model.safetensors@1a2b" in text
    assert "licence: mit" in text


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (None, ["nowhere/at/all"], "there is no file or folder 'nowhere/at/all'; allowed: a folder of diffusers"),
        (None, ["./gone"], "there is no file or folder './gone'"),
        (None, [], "checkpoint: name one; allowed: a folder, a file, or owner/name"),
        (lambda path: path.mkdir(), [], "has no model_index.json and no config.json"),
        (lambda path: unet(path, _class_name="UNet2DConditionModel"), [], "is a UNet2DConditionModel, which is none"),
        (lambda path: (unet(path) / "diffusion_pytorch_model.safetensors").unlink(), [], "one file of weights"),
        (lambda path: path.write_bytes(b"x"), [], "nothing says which network it is of"),
        (unet, ["--name", "digits-edm"], "there is a card 'digits-edm' already"),
        (unet, ["--name", "../x"], "--name: '../x' is not allowed; allowed: letters"),
        (
            unet,
            ["--data", "gone.zip"],
            "--data: there is no 'gone.zip'; allowed: a folder, a zip file, digits, or of a pipeline none",
        ),
        (unet, ["--data", "none"], "--data: 'none' is allowed for pipelines"),
        (unet, ["--features", "none"], "--features: 'none' is allowed for pipelines without real images"),
        (unet, ["--features", "null"], "--features: 'null' is allowed for pipelines without real images"),
        (unet, ["--features", "incepton", "--data", "digits"], "--features: "),
        (lambda path: unet(path, sample_size=48), [], "this project has no images of the shape [3, 48, 48]"),
        (unet, ["--schedule", "linaer"], "unknown schedule 'linaer' (did you mean 'linear'?)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_leaves_nothing(run, root, tmp_path, make, arguments, says):
    before = sorted(root.rglob("*"))
    if make is not None:
        make(tmp_path / "mine")
        arguments = [tmp_path / "mine", *arguments]
    said = run(*arguments, "--no-check", status=1)
    assert says in said
    assert said.splitlines()[-1].startswith("python -m dode: ")
    assert sorted(path for path in root.rglob("*") if path.is_file()) == [path for path in before if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nfe", "0"], "--nfe: 0 is not allowed; allowed: 1 to 100000"),
        (["--nfe", "5", "8", "5"], "--nfe: 5 is given twice"),
        (["--images", "1"], "--images: 1 is not allowed; allowed: at least 2"),
        (["--image-shape", "3", "0", "8"], "--image-shape: 0 is not allowed; allowed: at least 1"),
        (["--seeds", "0"], "--seeds: 0 is not allowed; allowed: 1 to 1000"),
        (["--data", "gone.zip"], "--data: there is no 'gone.zip'"),
        (["--prompts", "gone.txt"], "--prompts: there is no file 'gone.txt'"),
        (["--name", "../x"], "--name: '../x' is not allowed"),
        (["--name", "x.draft"], "--name: 'x.draft' is not allowed"),
    ],
)
def test_options_are_looked_at_before_a_checkpoint_is(run, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setattr(identified, "identify", lambda checkpoint: pytest.fail("it was read"))
    assert says in run(unet(tmp_path / "mine"), *arguments, status=1)


def test_too_few_prompts_are_those_of_the_option(run, root, tmp_path):
    (tmp_path / "few.txt").write_text("one\ntwo\nthree\n")
    pipeline = MODELS / "text-to-digit"
    said = run(pipeline, "--name", "words", "--prompts", tmp_path / "few.txt", "--images", 5, status=1)
    assert f"python -m dode: --prompts: '{tmp_path / 'few.txt'}' has 3 prompts, but" in said
    assert not list((root / "config").rglob("words*"))


def test_what_is_cut_off_takes_no_name(run, root, tmp_path, monkeypatch):
    folder = unet(tmp_path / "mine", sample_size=32)
    before = sorted(path for path in root.rglob("*") if path.is_file())

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Benchmark, "__init__", die)
        with pytest.raises(KeyboardInterrupt):
            main(["init", str(folder), "--no-check"])
    assert sorted(path for path in root.rglob("*") if path.is_file()) == before
    (root / "config" / "models" / "mine.draft.yaml").write_text("role: diff")  # as SIGKILL may leave it
    assert "mine.draft" not in names(root)
    run(folder, "--no-check")
    written(root, "mine")
    assert not list(root.rglob("*.draft*"))


def test_what_is_cut_off_between_two_renames_is_completed(run, root, tmp_path):
    """As SIGKILL leaves it: a card, and the configuration under the name of its draft."""
    folder = unet(tmp_path / "mine", sample_size=32)
    run(folder, "--no-check")
    card, config = root / "config" / "models" / "mine.yaml", root / "config" / "mine.yaml"
    draft, expected = config.with_name("mine.draft.yaml"), [card.read_text(), config.read_text()]
    config.rename(draft)
    run(folder, "--no-check")
    assert [card.read_text(), config.read_text()] == expected
    assert not list(root.rglob("*.draft*"))
    config.rename(draft)
    said = run(folder, "--no-check", "--licence", "MIT", status=1)
    assert "models/mine.yaml is there already, and not as this init writes it; delete it if one that was" in said
    assert card.read_text() == expected[0]


def test_everything_is_written_where_one_stands(run, root, tmp_path, monkeypatch):
    """Also where dode is imported from a checkout elsewhere."""
    before = sorted(root.rglob("*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(unet(tmp_path / "mine", sample_size=32), "--no-check")
    assert sorted(root.rglob("*")) == before
    found = sorted(str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*.*"))
    assert found == ["config/mine.yaml", "config/models/mine.yaml"]


def test_nothing_is_overwritten(run, root, tmp_path):
    folder = unet(tmp_path / "mine", sample_size=32)
    run(folder, "--no-check")
    assert "there is a card 'mine' already" in run(folder, "--no-check", status=1)
    (root / "config" / "models" / "mine.yaml").unlink()
    assert "mine.yaml is there already" in run(folder, "--no-check", status=1)


def test_a_terminal_is_asked_for_what_is_missing(run, root, tmp_path, monkeypatch):
    folder = unet(tmp_path / "mine", sample_size=32)
    answers = iter(["", str(folder), "", "", "four", "4 6"])
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(builtins, "input", lambda question: next(answers))
    run("--no-check")
    _, config = written(root, "mine")
    assert config["solvers"][0]["nfe"] == [4, 6]
    assert next(answers, None) is None


def test_names_are_made_of_the_checkpoints(tmp_path):
    for checkpoint, name in (
        ("owner/Some_Model.v2@main", "some_model.v2"),
        ("/a/b c/My Model/", "my-model"),
        ("x/diffusion.safetensors", "diffusion"),
        ("/", "model"),
    ):
        assert init._name_of(checkpoint) == name


def test_the_speed_is_that_of_the_second_call():
    from dode.models import checking

    calls = []

    class Denoise:
        device = torch.device("cpu")

        def conditioned(self, labels):
            calls.append(labels.tolist())
            return self

        def __call__(self, x, sigma):
            calls.append(tuple(x.shape))
            return x

    assert checking.speed(Denoise(), [1, 2, 2], 4, classes=3) > 0
    assert calls == [[0, 1, 2, 0], (4, 1, 2, 2), (4, 1, 2, 2)]
