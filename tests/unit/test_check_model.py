"""A wrong flag that loads without a word shows as soon as a model denoises real images."""

import functools
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from dode import __main__ as command_line
from dode import models
from dode.commands import check_model
from dode.fetching.cards import load_card
from dode.images import examples, pixels
from dode.models import checking
from workspace import REPOSITORY, change

pytestmark = pytest.mark.usefixtures("here")

DIGITS = {"digits-edm": {"name": "residual-mlp"}, "digits-ddpm": {"name": "residual-mlp-velocity"}}


@functools.cache
def real(name, count=None):
    """Real images for an embedded model's card, as many as a check takes or ``count``."""
    card = load_card(REPOSITORY, name, "card")
    return examples.of_card(card, statistics=check_model.statistics_of(card.get("statistics")), count=count).images


def faults(name, changes=(), *, images=None):
    """What is said of each noise level, the card of an embedded model changed."""
    card = load_card(REPOSITORY, name, "card")
    for key, value in dict(changes).items():
        change(card, key, value)
    own = images if images is not None else real(name)
    model = models.load(card, REPOSITORY / f"config/models/{name}.safetensors")
    found = checking.levels(model, torch.from_numpy(pixels.from_bytes(own)).double(), None, checking.MARGINS)
    assert [level.sigma for level in found] == [0.1, 0.3, 1.0, 3.0]
    return [level.fault(checking.MARGINS[level.sigma]) for level in found]


@pytest.mark.parametrize("name", ["digits-edm", "digits-ddpm", "mnist-ddpm"])
def test_the_embedded_models_are_right(name):
    assert faults(name) == [None] * 4


CONFIG = "network.options.config"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits-edm", {"preconditioning.sigma_data": 0.5}),
        ("digits-edm", {"preconditioning.sigma_data": 1.0}),
        ("digits-edm", {"network.options.max_frequency": 32.0}),
        ("digits-edm", {"preconditioning": {"name": "ve"}}),
        ("digits-ddpm", {"schedule": {"name": "cosine", "steps": 1000}}),
        ("digits-ddpm", {"schedule": {"name": "linear", "steps": 1000, "beta_max": 0.03}}),
        ("digits-ddpm", {"network.options.schedule": {"name": "cosine", "steps": 1000}}),
        ("mnist-ddpm", {f"{CONFIG}.flip_sin_to_cos": False}),
        ("mnist-ddpm", {f"{CONFIG}.freq_shift": 1}),
        ("mnist-ddpm", {f"{CONFIG}.act_fn": "gelu"}),
        ("mnist-ddpm", {f"{CONFIG}.norm_num_groups": 4}),
        ("mnist-ddpm", {f"{CONFIG}.center_input_sample": True}),
        ("mnist-ddpm", {f"{CONFIG}.downsample_padding": 0}),
        ("mnist-ddpm", {"schedule": {"name": "linear", "steps": 1000, "beta_max": 0.01}}),
        ("mnist-ddpm", {"schedule": {"name": "linear", "steps": 4000, "beta_min": 2.5e-5, "beta_max": 0.005}}),
    ],
)
def test_a_wrong_flag_shows_at_once(name, changes):
    """On a part of the images that a check takes."""
    assert any(faults(name, changes, images=real(name, 12))), "it loads, and nothing is said"


def faults_of_ends(**bounds):
    card = {**load_card(REPOSITORY, "digits-edm", "card"), **bounds}
    model = models.load(card, REPOSITORY / "config/models/digits-edm.safetensors")
    images = torch.from_numpy(pixels.from_bytes(examples.of_card(card).images)).double()
    least, most = checking.ends(model, images, None)
    assert (least.sigma, most.sigma) == (card["sigma_min"], card["sigma_max"])
    return least.fault_of_least() or "right", most.fault_of_most(noise=False) or "right"


@pytest.mark.parametrize("least", [0.002, 0.001, 0.02])
@pytest.mark.parametrize("most", [80.0, 40.0, 100.0])
def test_a_range_like_that_of_the_training_is_right(least, most):
    assert faults_of_ends(sigma_min=least, sigma_max=most) == ("right", "right")


@pytest.mark.parametrize(
    ("least", "says"),
    [
        (0.5, "sigma_min: 0.5 is too high: 21.4 of 255 levels of noise are left there; allowed: at most 4"),
        (0.1, "sigma_min: 0.1 is too high"),
        (2e-5, "sigma_min: 2e-05 is too low: 1.52 of the noise is left there"),
        (2e-7, "sigma_min: 2e-07 is too low"),
    ],
)
def test_a_wrong_sigma_min_shows(least, says):
    assert faults_of_ends(sigma_min=least)[0].startswith(says)


@pytest.mark.parametrize(
    ("most", "says"),
    [
        (
            0.5,
            "sigma_max: 0.5 is too low: the model still knows 0.91 of the images' variance there; allowed: at most 0.1",
        ),
        (2.0, "sigma_max: 2 is too low"),
        (800.0, "sigma_max: 800 is too high"),
        (1e5, "sigma_max: 100000 is too high"),
    ],
)
def test_a_wrong_sigma_max_shows(most, says):
    assert faults_of_ends(sigma_max=most)[1].startswith(says)


def test_a_network_that_predicts_noise_is_held_against_the_noise():
    level = checking.Level(100.0, 2.0, 1.0, 1.0)
    assert level.fault_of_most(noise=True) is None
    assert "too high" in level.fault_of_most(noise=False)
    assert level.fault_of_most(noise=False, alike=False) is None
    assert "too high" in checking.Level(100.0, 200.0, 1.0, 1.0).fault_of_most(noise=True)


def test_images_of_another_range_show():
    card = load_card(REPOSITORY, "mnist-ddpm", "card")
    inverted = 255 - examples.of_card(card, statistics=check_model.statistics_of(card.get("statistics"))).images
    assert all(faults("mnist-ddpm", images=inverted))


def test_a_network_of_random_weights_is_no_better_than_chance():
    class Noise(torch.nn.Linear):
        def forward(self, x, condition):
            return torch.randn_like(x)

    card = load_card(REPOSITORY, "digits-edm", "card")
    model = models.of_card(card, Noise(1, 1))
    images = torch.from_numpy(pixels.from_bytes(examples.of_card(card).images)).double()
    found = checking.levels(model, images, None, checking.MARGINS)
    assert all("of chance, above" in level.fault(0.8) for level in found)


def test_nan_is_no_right_answer():
    level = checking.Level(0.1, float("nan"), 1.0, 1.0, (1.0, 1.0))
    assert level.fault(0.8)
    assert level.fault_of_least()
    assert level.fault_of_most(noise=False)
    assert checking.Level(0.1, 0.5, 1.0, 1.0, (float("nan"), 1.0)).fault(0.8)


def run(*arguments):
    return command_line.main(["check-model", *arguments])


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_fetches_what_it_needs_and_says_what_it_found(working_directory, capsys):
    assert run("digits-edm") == 0
    printed = capsys.readouterr().out
    assert "digits-edm: residual-mlp, 128 images of digits" in printed
    assert "| 0.1 | 0.2" in printed
    assert "| 0.002 | 1.206 |  |  | right |" in printed
    assert "| 80 | 1.139 |  |  | right |" in printed
    assert "Right: the card agrees" in printed
    assert (working_directory / "resources/checkpoints/digits-edm/digits-edm.safetensors").is_file()


def test_the_command_says_what_is_wrong(working_directory, capsys):
    folder = working_directory / "inverted"
    folder.mkdir()
    card = load_card(REPOSITORY, "digits-edm", "card")
    for index, image in enumerate(255 - examples.of_card(card, count=40).images):
        Image.fromarray(image[0]).save(folder / f"{index}.png")
    assert run("digits-edm", "--data", str(folder)) == 1
    printed = capsys.readouterr().out
    assert "40 images of" in printed
    assert "of chance, above 0.8" in printed
    assert "WRONG" in printed


@pytest.fixture
def own_card(working_directory, monkeypatch):
    """``own_card(**changes)`` writes the card ``mine``, of a file of torch's with right and with random weights."""
    root = working_directory / "root"
    shutil.copytree(REPOSITORY / "config/schemas", root / "config/schemas")
    (root / "config/models").mkdir()
    right = load_file(REPOSITORY / "config/models/digits-edm.safetensors")
    random = {name: torch.randn_like(tensor) / 8 for name, tensor in right.items()}
    flat = {f"ema.{name}": right[name] for name in right} | {f"model.{name}": random[name] for name in right}
    torch.save({"right": right, "random": random, "flat": flat}, root / "config/models/mine.pt")
    monkeypatch.setattr(check_model, "ROOT", root)

    def write(**changes):
        card = {**yaml.safe_load((REPOSITORY / "config/models/digits-edm.yaml").read_text(encoding="utf-8")), **changes}
        card |= {"urls": ["file:mine.pt"], "format": "torch"}
        card = {key: value for key, value in card.items() if key not in ("sha256", "size", "statistics", "sampling")}
        (root / "config/models/mine.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"key": "random"}, {"key": "right"}),
        ({"key": "flat", "prefix": "model."}, {"key": "flat", "prefix": "ema."}),
        ({"key": "flat", "prefix": "model."}, {"key": "right"}),
    ],
)
def test_a_file_that_was_converted_for_the_card_before_is_made_again(own_card, capsys, before, after):
    own_card(**before)
    assert run("mine") == 1
    own_card(**after)
    assert run("mine") == 0
    assert "resources/models/mine.safetensors was not made from" in capsys.readouterr().out
    assert run("mine") == 0
    assert "made" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_converted_file_is_made_again(own_card, working_directory, content):
    own_card(key="right")
    (working_directory / "resources/models").mkdir(parents=True)
    (working_directory / "resources/models/mine.safetensors").write_bytes(content)
    assert run("mine") == 0


def test_a_file_that_was_converted_for_another_card_is_not_loaded(own_card, working_directory):
    own_card(key="random")
    assert run("mine") == 1
    card = load_card(check_model.ROOT, "mine", "card")
    with pytest.raises(ValueError, match="key: 'right', but the file was converted with 'random'; convert it again"):
        models.load({**card, "key": "right"}, working_directory / "resources/models/mine.safetensors")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "card: unknown card 'nothing'"),
        (["config/models/digits-edm.yaml"], "is a path; allowed: the name of a card in config/models, without .yaml: "),
        (["digits-edm.yaml"], "card: 'digits-edm.yaml' is a path; allowed: the name of a card"),
        (["../models/digits-edm"], "card: '../models/digits-edm' is a path"),
        (["digits-classifier"], "has the role 'features'; allowed: a card with the role 'diffusion'"),
        (
            ["cd-imagenet64-l2"],
            "is of a consistency model, which makes images and does not denoise; allowed: a diffusion",
        ),
        (["digits-edm", "--images", "1"], "--images: 1 is not allowed; allowed: 2 to 10000"),
        (
            ["digits-edm", "--data", "nowhere"],
            "--data: there is no 'nowhere'; allowed: digits, a folder, a zip file or an",
        ),
        (["digits-edm", "--data", "no.npz"], "--data: there is no 'no.npz'; allowed: digits, "),
        (["digits-edm", "--data", "empty.npz"], "--data: empty.npz: not an .npz file of plain arrays (BadZipFile)"),
        (["digits-edm", "--data", "single.npz"], "--data: single.npz: not an .npz file of plain arrays (BadZipFile)"),
        (["digits-edm", "--data", "images"], "--data: there are no images (files that end in .png"),
        (["digits-edm", "--device", "tpu"], "--device: 'tpu' is not allowed; allowed: auto, cpu,"),
        (["digits-edm", "--device", "cuda:99"], "--device: 'cuda:99' is not allowed; allowed: "),
        (["digits-edm", "--data", str(REPOSITORY / "config/models/mnist-real-statistics.npz")], "says (1, 8, 8)"),
    ],
)
def test_the_command_refuses_in_one_sentence(working_directory, capsys, arguments, says):
    (working_directory / "empty.npz").touch()
    (working_directory / "images").mkdir()
    with (working_directory / "single.npz").open("wb") as file:
        np.save(file, np.ones(3))
    assert run(*arguments) == 1
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
    assert not (working_directory / "resources").exists()


@pytest.mark.parametrize("size", [32, 64, 256])
def test_photographs_stand_in_for_colour_images(size):
    own = examples.of_card({"image_shape": [3, size, size]})
    assert own.images.shape == (max(4, 2**15 // (3 * size**2)), 3, size, size)
    assert not own.alike
    assert all(image.std() > 10 for image in own.images.astype(np.float64))
    with pytest.raises(ValueError, match=r"no images of the shape \(1, 16, 16\) are at hand"):
        examples.of_card({"image_shape": [1, 16, 16]})


def test_a_few_images_of_a_file_are_read_without_the_others(tmp_path):
    """What such a file unpacks to may be a thousand times its size."""
    count, path = 200_000, tmp_path / "many.npz"
    whole = np.zeros((count, 8, 8, 1), dtype=np.uint8)
    whole[:, 0, 0, 0] = np.arange(count) % 251
    np.savez_compressed(path, arr_0=whole, labels=np.arange(count) % 10)
    tracemalloc.start()
    own = examples.of_card({"image_shape": [1, 8, 8]}, named=str(path), count=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    chosen = [0, 99_999, 199_999]
    assert own.images[:, 0, 0, 0].tolist() == [each % 251 for each in chosen]
    assert own.labels.tolist() == [each % 10 for each in chosen]
    assert peak < whole.nbytes / 2
    with pytest.raises(ValueError, match=r"has images of the shape \(1, 8, 8\), but the card says \(3, 8, 8\)"):
        examples.of_card({"image_shape": [3, 8, 8]}, named=str(path))
