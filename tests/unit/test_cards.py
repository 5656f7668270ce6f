"""The cards of the published models: complete, and of the published sizes."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dode import grids
from dode.benchmark import config
from dode.benchmark.cells import Benchmark
from dode.fetching.cards import file_name, load_card
from dode.grids.facts import ModelFacts
from dode.models.networks import networks

ROOT = Path(__file__).parents[2]
CARDS = {path.stem: load_card(ROOT, path.stem, "card") for path in sorted(ROOT.glob("config/models/*.yaml"))}
MODELS = {
    name: card
    for name, card in CARDS.items()
    if card["role"] in ("diffusion", "classifier") and "pipeline" not in card  # test_published_pipelines.py has those
}
# Parameters as published: Karras et al. 2022's networks; the other numbers follow from the published definitions.
PARAMETERS = {
    "ddpm-cifar10": 35_746_307,
    "ddpm-ema-cifar10-32": 35_746_307,
    "ddpm-celeba64": 78_700_803,
    "iddpm-imagenet64": 121_063_942,
    "adm-imagenet128": 421_529_606,
    "adm-imagenet128-classifier": 42_568_040,
    "adm-bedroom256": 552_814_086,
    "edm-cifar10-uncond": 55_733_891,
    "edm-cifar10-cond": 55_735_299,
    "edm-ffhq64": 61_805_571,
    "edm-afhqv2": 61_805_571,
    "edm-imagenet64": 295_899_267,
    **dict.fromkeys(["edm-openai-imagenet64", "cd-imagenet64-l2", "cd-imagenet64-lpips", "ct-imagenet64"], 295_899_267),
    **dict.fromkeys(["edm-openai-bedroom256", "cd-bedroom256-l2", "cd-bedroom256-lpips", "ct-bedroom256"], 526_304_771),
}


def test_every_published_model_is_here():
    """Those of this project are in the repository themselves."""
    assert set(PARAMETERS) == {name for name, card in MODELS.items() if not card["urls"][0].startswith("file:")}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_as_many_parameters_as_the_published_one(name):
    card = MODELS[name]
    with torch.device("meta"):
        network = networks.create(card["network"]["name"], **card["network"]["options"])
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if MODELS[name]["role"] == "diffusion"])
def test_a_card_says_all_that_its_datasets_need(name):
    card = MODELS[name]
    options = card["network"]["options"]
    assert card["image_range"] == [-1, 1]
    assert card.get("classes") == options.get("classes", options.get("label_dim"))
    assert card["image_shape"][1] == options.get("image_size", card["image_shape"][1])
    grid = card["sampling"]["grid"]
    for steps in (2, 10, 50):
        grids.check(grid["name"], steps, ModelFacts.of_card(card), **grid["options"])
    assert CARDS[card["statistics"]]["role"] == "statistics"
    assert file_name(card).endswith({"torch": (".ckpt", ".pt", ".pth", ".bin"), "edm-pickle": ".pkl"}[card["format"]])
    guidance = card["sampling"].get("guidance", {})
    if "classifier" in guidance:
        assert MODELS[guidance["classifier"]]["network"]["options"]["image_size"] == card["image_shape"][1]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if MODELS[name]["network"]["name"].startswith("adm")])
def test_notes_say_the_flags_that_no_file_of_openai_tells(name):
    notes, options = MODELS[name]["notes"], MODELS[name]["network"]["options"]
    assert f"new_attention_order: {str(options.get('new_attention_order', False)).lower()}" in notes
    heads = f"head_channels: {options['head_channels']}" if "head_channels" in options else f"heads: {options['heads']}"
    assert heads in notes
    assert "index_scale" in notes or MODELS[name]["role"] == "classifier"


def test_licences_that_forbid_something_say_so():
    for name, card in CARDS.items():
        if "NC" in card["licence"] or "non-commercial" in card["licence"].lower():
            assert card["restrictions"] == "non-commercial", name
        if "for research" in card["licence"]:
            assert card["restrictions"] == "research-only", name


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("edm-cifar10-cond", {"classes": 20}, "classes: 20, but the network's options say 10"),
        ("ddpm-cifar10", {"image_shape": [3, 64, 64]}, r"image_shape: \[3, 64, 64\], but .* say \[3, 32, 32\]"),
        (
            "ddpm-cifar10",
            {"schedule": {"name": "linnear"}},
            "unknown schedule 'linnear' .did you mean 'linear'",
        ),
        ("ddpm-cifar10", {"prediction": "flow"}, "schedule.name: 'linear' is not one of flow"),
        ("edm-cifar10-cond", {"prediction": "flow"}, "the key 'schedule' is missing"),
        (
            "ddpm-cifar10",
            {"prediction": "velocity"},
            "prediction: 'velocity' is not one of noise, v, image, data, flow",
        ),
        ("ddpm-cifar10", {"prediction": "data"}, "the key 'preconditioning' is missing"),
        ("edm-cifar10-cond", {"prediction": "v"}, "the key 'schedule' is missing"),
        ("edm-cifar10-cond", {"schedule": {"name": "linear"}}, "schedule: the card has a preconditioning too"),
        (
            "ddpm-cifar10",
            {"sigma_max": 80},
            "sigma_max: the noise levels are those of the card's schedule; leave the key",
        ),
        ("edm-cifar10-cond", {"sigma_max": 1e300}, "sigma_max: 1e.300 is not allowed; allowed: at most 1000000000.0"),
        (
            "edm-cifar10-cond",
            {"prediction": "noise", "preconditioning": {"name": "vp", "sigma_data": 0.5}},
            "preconditioning: unknown key 'sigma_data'.*known: beta_d, beta_min, name, steps",
        ),
        ("ddpm-cifar10", {"schedule": {"name": "linear", "steps": 4000}}, "schedule: schedule 'linear' of 4000 steps"),
        ("ddpm-cifar10", {"precision": {"dtype": "float61"}}, "precision.dtype: 'float61' is not one of float32"),
        ("ddpm-cifar10", {"format": "safetensors", "key": -1}, "key: a file of the format safetensors has no keys"),
        ("inception-clean", {"prefix": "model."}, "prefix: the file has no weights by name"),
        ("cifar10-edm-statistics", {"prefix": "model."}, "prefix: the file has no weights by name"),
        ("inception-clean", {"sha256": "f58cb9b6"}, "'torchscript' is a program that will be run"),
        ("cifar10-edm-statistics", {"format": "torch"}, "statistics are an .npz file"),
        ("adm-imagenet128", {"sampling": {"guidance": {"name": "classifier-free", "scal": 2}}}, "unknown key 'scal'"),
    ],
)
def test_a_card_that_does_not_fit_together_is_refused_in_one_sentence(tmp_path, name, changes, said):
    (tmp_path / "config").mkdir()
    shutil.copytree(ROOT / "config" / "schemas", tmp_path / "config" / "schemas")
    (tmp_path / "config" / "models").mkdir()
    card = yaml.safe_load((ROOT / f"config/models/{name}.yaml").read_text())
    (tmp_path / "config" / "models" / "mine.yaml").write_text(yaml.safe_dump({**card, **changes}))
    with pytest.raises(config.ConfigError, match=said) as caught:
        load_card(tmp_path, "mine", "card")
    assert str(caught.value).startswith("config/models/mine.yaml: ")


def dataset(**settings):
    solvers = [{"id": "ddim", "solver": "ddim", "nfe": [5]}]
    entry = {"id": "d", "model": "adm-imagenet128", **settings}
    return Benchmark({"benchmark": "b", "datasets": [entry], "solvers": solvers}, ROOT)


def test_guidance_of_a_card_holds_unless_a_dataset_says_otherwise():
    assert dataset().datasets["d"]["guidance"] == CARDS["adm-imagenet128"]["sampling"]["guidance"]
    plain = dataset(guidance=None)
    assert "guidance" not in plain.datasets["d"]
    assert "adm-imagenet128-classifier" not in plain.cards
    with pytest.raises(config.ConfigError, match="scale: inf is not allowed"):
        dataset(guidance={"name": "classifier-free", "scale": float("inf")})


@pytest.mark.parametrize(
    ("changes", "classes", "said"),
    [
        (
            {"num_class_embeds": 10},
            10,
            "guidance.name: 'classifier-free' is not allowed for 'mine'.* no entry for no class",
        ),
        ({"num_class_embeds": 11}, 10, None),
        (
            {"time_embedding_type": "learned", "num_train_timesteps": 500, "num_class_embeds": 11},
            10,
            r"datasets\[0\].model: schedule: it has 1000 steps, but the network has embeddings of 500 times",
        ),
    ],
)
def test_tables_of_a_hub_network_are_enough(tmp_path, changes, classes, said):
    """Without an entry for no class there is no classifier-free guidance, and every time has its embedding."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    card = yaml.safe_load((ROOT / "config/models/mnist-ddpm.yaml").read_text()) | {"classes": classes}
    card["network"]["options"]["config"] |= changes
    (tmp_path / "config/models/mine.yaml").write_text(yaml.safe_dump(card))
    solvers = [{"id": "ddim", "solver": "ddim", "nfe": [5]}]
    entry = {
        "id": "d",
        "model": "mine",
        "statistics": "mnist-real-statistics",
        "images": 40,
        "grid": {"name": "karras"},
    }
    entry["guidance"] = {"name": "classifier-free", "scale": 2.0}
    made = {"benchmark": "b", "datasets": [entry], "solvers": solvers}
    if said is None:
        Benchmark(made, tmp_path)
    else:
        with pytest.raises(config.ConfigError, match=said):
            Benchmark(made, tmp_path)
