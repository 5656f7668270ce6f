"""A wrong flag that loads without a word shows as soon as a model denoises real images."""

import numpy as np
import pytest
import torch
from PIL import Image

from dode import __main__ as command_line
from dode import models
from dode.commands import check_model
from dode.fetching.cards import load_card
from dode.images import examples, pixels
from dode.models import checking
from workspace import REPOSITORY, change

DIGITS = {"digits-edm": {"name": "residual-mlp"}, "digits-ddpm": {"name": "residual-mlp-velocity"}}


def faults(name, changes=(), *, images=None):
    """What is said of each noise level, the card of an embedded model changed."""
    card = load_card(REPOSITORY, name, "card")
    for key, value in dict(changes).items():
        change(card, key, value)
    own = images if images is not None else examples.of_card(card, statistics=check_model._statistics(card)).images
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
    assert any(faults(name, changes)), "it loads, and nothing is said"


def test_images_of_another_range_show():
    card = load_card(REPOSITORY, "mnist-ddpm", "card")
    inverted = 255 - examples.of_card(card, statistics=check_model._statistics(card)).images
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
    level = checking.Level(0.1, float("nan"), 1.0, (1.0, 1.0))
    assert level.fault(0.8)
    assert checking.Level(0.1, 0.5, 1.0, (float("nan"), 1.0)).fault(0.8)


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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "card: unknown card 'nothing'"),
        (["digits-classifier"], "has the role 'features', not 'diffusion'"),
        (["digits-edm", "--images", "1"], "--images: 1 is not allowed; allowed: 2 to 10000"),
        (["digits-edm", "--data", "nowhere"], "there is no zip 'nowhere'"),
        (["digits-edm", "--device", "tpu"], "--device: 'tpu' is not allowed; allowed: auto, cpu,"),
        (["digits-edm", "--data", str(REPOSITORY / "config/models/mnist-real-statistics.npz")], "says (1, 8, 8)"),
    ],
)
def test_the_command_refuses_in_one_sentence(working_directory, capsys, arguments, says):
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
