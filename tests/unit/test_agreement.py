"""A card that contradicts its network's options, its file, or the files beside its weights is refused with both."""

import hashlib
import inspect
import json
import re
import shutil

import pytest
import torch
import yaml

from checkouts import CONFIG, SCHEDULER, Checkout
from dode import checkpoints, models
from dode.benchmark.cells import Benchmark
from dode.fetching import acquire, cards
from dode.fetching.cards import load_card
from dode.models import agreement, torchvision_operators
from dode.models.edm import recorded
from dode.models.hub import repository
from dode.models.networks import networks
from families import FAMILIES
from workspace import REPOSITORY

pytestmark = pytest.mark.usefixtures("here")

torchvision_operators.declare()

CARDS = {path.stem: load_card(REPOSITORY, path.stem, "card") for path in (REPOSITORY / "config/models").glob("*.yaml")}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def published(name):
    return yaml.safe_load((REPOSITORY / f"config/models/{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("ddpm-ema-cifar10-32", {"image_shape": [3, 64, 64]}, "image_shape: [3, 64, 64], but the network's options"),
        ("ddpm-ema-cifar10-32", {"image_shape": [1, 32, 32]}, "(config) say [3, 32, 32]"),
        ("ddpm-ema-cifar10-32", {"network__options__config__sample_size": [32, 64]}, "(config) say [3, 32, 64]"),
        ("ddpm-ema-cifar10-32", {"network__options__config__out_channels": 5}, "say out_channels 5; allowed: 3, or 6"),
        ("ddpm-ema-cifar10-32", {"classes": 3}, "classes: 3, but the network's options (config) say none"),
        (
            "ddpm-ema-cifar10-32",
            {"classes": 3, "network__options__config__num_class_embeds": 5},
            "classes: 3, but the network's options (config) say 4 or 5",
        ),
        (
            "ddpm-ema-cifar10-32",
            {"network__options__config__num_class_embeds": 5},
            "classes: the key is missing, but the network's options (config) say 4 or 5",
        ),
        ("digits-edm", {"classes": 10}, "classes: 10, but the network's options say none"),
        (
            "digits-edm",
            {"image_shape": [1, 16, 16]},
            "image_shape: [1, 16, 16], but the network's options say [1, 8, 8]",
        ),
        ("digits-ddpm", {"classes": 10}, "classes: 10, but the network's options say none"),
        (
            "iddpm-imagenet64",
            {"network__options__index_scale": 0},
            "index_scale: 0 is not allowed; allowed: a number above",
        ),
        ("iddpm-imagenet64", {"network__options__index_scale": "0.25"}, "index_scale: '0.25' is not allowed"),
        (
            "mnist-ddpm",
            {"network__options__config": "config.json"},
            "network.options.config: 'config.json' is not allowed; allowed: the keys of a config.json",
        ),
        (
            "mnist-ddpm",
            {"network__options__config__flip_sin_to_cos": "no"},
            "network.options.config.flip_sin_to_cos: 'no' is not allowed; allowed: true or false",
        ),
        ("ddpm-cifar10", {"classes": 10}, "classes: 10, but the network's options say none"),
        ("iddpm-imagenet64", {"classes": 1000}, "classes: 1000, but the network's options say none"),
        ("edm-cifar10-uncond", {"classes": 10}, "classes: 10, but the network's options say none"),
        ("edm-cifar10-cond", {"image_shape": [3, 64, 64]}, "image_shape: [3, 64, 64], but the network's options say"),
        (
            "mnist-ddpm",
            {"image_shape": [1, 32, 32]},
            "image_shape: [1, 32, 32], but the network's options (config) say",
        ),
    ],
)
def test_a_card_is_held_against_the_options_of_its_network(checkout, name, changes, says):
    card = published(name)
    checkout.read(card)
    assert says in checkout.refusal(card, **changes)


def test_a_hub_network_that_leaves_the_size_open_takes_any(checkout):
    card = published("ddpm-ema-cifar10-32")
    checkout.read(card, image_shape=[3, 64, 64], network__options__config__sample_size=None)


def test_a_classifier_is_of_the_images_that_it_guides(tmp_path):
    checkout = Checkout(tmp_path)
    for name in ("adm-imagenet128", "inception-tensorflow", "imagenet128-openai-statistics"):
        shutil.copy(REPOSITORY / f"config/models/{name}.yaml", checkout.folder)
    judge = published("adm-imagenet128-classifier")
    judge["network"]["options"]["image_size"] = 64
    (checkout.folder / "adm-imagenet128-classifier.yaml").write_text(yaml.safe_dump(judge), encoding="utf-8")
    dataset, solver = {"id": "d", "model": "adm-imagenet128"}, {"id": "ddim", "solver": "ddim", "nfe": [5]}
    with pytest.raises(cards.ConfigError, match=r"the classifier is of images \[3, 64, 64\], but the model of"):
        Benchmark({"benchmark": "b", "datasets": [dataset], "solvers": [solver]}, tmp_path)


def test_a_dictionary_that_contradicts_itself_is_refused_without_a_file_of_cards():
    card = {**CARDS["digits-edm"], "classes": 10}
    with pytest.raises(ValueError, match="classes: 10, but the network's options say none"):
        models.load(card, REPOSITORY / "config/models/digits-edm.safetensors")


def edm_file(tmp_path, name="edm-cifar10-uncond", *, class_name="EDMPrecond", **arguments):
    """(card, converted file) of a pickle of EDM's whose recorded class and arguments are these."""
    family = FAMILIES[name](channels=3)

    def changed(data):
        data["ema"]._init_kwargs.update(arguments)

    family.write(tmp_path / "file.pkl", family.weights, changed=changed, name=class_name)
    checkpoints.convert(tmp_path / "file.pkl", tmp_path / "file.safetensors", format="edm-pickle", key="ema")
    return {**family.card, "role": "diffusion"}, tmp_path / "file.safetensors"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("edm-") and "openai" not in name])
def test_what_an_edm_pickle_records_agrees_with_its_card(tmp_path, name):
    card, path = edm_file(tmp_path, name)
    header = checkpoints.header(path)
    assert header["class_name"] == "EDMPrecond"
    assert header["init_kwargs"]["img_resolution"] == 8
    models.load(card, path)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (
            {"class_name": "VPPrecond"},
            "preconditioning.name: edm, but the file records the class VPPrecond, which is 'vp'",
        ),
        ({"class_name": "VEPrecond"}, "preconditioning.name: edm, but the file records the class VEPrecond"),
        ({"class_name": "iDDPMPrecond"}, "preconditioning.name: edm, but the file records the class iDDPMPrecond"),
        ({"sigma_data": 1.0}, "preconditioning.sigma_data: 0.5, but the file records sigma_data 1.0 of EDMPrecond"),
        ({"sigma_max": 40.0}, "sigma_max: 80.0, but the file records noise levels up to 40 of EDMPrecond"),
        ({"sigma_min": 0.01}, "sigma_min: 0.002, but the file records noise levels from 0.01 of EDMPrecond"),
        ({"img_resolution": 16}, "image_shape: [3, 8, 8], but the file records images [3, 16, 16] of EDMPrecond"),
        ({"img_channels": 1}, "image_shape: [3, 8, 8], but the file records images [1, 8, 8] of EDMPrecond"),
        ({"label_dim": 10}, "classes: none, but the file records label_dim 10 of EDMPrecond"),
        (
            {"model_type": "DhariwalUNet"},
            "network.name: edm-song-unet, but the file records the model_type DhariwalUNet",
        ),
        ({"resample_filter": [1, 3, 3, 1]}, "network.options.resample_filter: [1, 1], but the file records"),
        ({"embedding_type": "fourier"}, "network.options.embedding_type: positional, but the file records"),
        ({"attn_resolutions": [8]}, "network.options.attn_resolutions: [4], but the file records attn_resolutions [8]"),
    ],
)
def test_a_pickle_that_records_another_network_than_its_card_is_refused_with_both(tmp_path, file, says):
    card, path = edm_file(tmp_path, **file)
    with pytest.raises(ValueError, match="the card contradicts") as caught:
        models.load(card, path)
    assert says in str(caught.value)


VP = {"class_name": "VPPrecond", "init_kwargs": {"img_resolution": 32, "img_channels": 3, "label_dim": 0}}
BEHIND_VP = {
    "role": "diffusion",
    "image_shape": [3, 32, 32],
    "preconditioning": {"name": "vp"},
    "sigma_min": 0.002,
    "sigma_max": 152,
    "network": {"name": "edm-song-unet", "options": {}},
}


@pytest.mark.parametrize(
    ("header", "own", "says"),
    [
        ({"beta_d": 15.0}, {}, "preconditioning.beta_d: 19.9, but the file records beta_d 15.0 of VPPrecond"),
        ({"M": 4000}, {"steps": 2000}, "preconditioning.steps: 2000, but the file records M 4000"),
        ({}, {"beta_min": 0.2}, "preconditioning.beta_min: 0.2, but the file records beta_min 0.1"),
    ],
)
def test_the_numbers_of_a_preconditioning_are_compared_with_their_defaults(header, own, says):
    assert recorded.fault(BEHIND_VP, VP) is None
    card = {**BEHIND_VP, "preconditioning": {"name": "vp", **own}}
    assert recorded.fault(card, {**VP, "init_kwargs": {**VP["init_kwargs"], **header}}) == says + (
        "" if says.endswith("VPPrecond") else " of VPPrecond"
    )


def test_arguments_that_a_file_has_in_their_order_are_compared_too():
    header = {"class_name": "EDMPrecond", "init_args": [32, 3, 10, False, 0, "inf", 1.0], "init_kwargs": None}
    card = {**BEHIND_VP, "classes": 10, "preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_max": 80}
    assert recorded.fault(card, header).startswith(
        "preconditioning.sigma_data: 0.5, but the file records sigma_data 1.0"
    )


def test_the_published_range_of_the_baselines_is_within_what_their_classes_know():
    """vp: sigma(1e-5) to sigma(1); iddpm: u_(M-1) to u_0 (Karras et al. 2022, table 1)."""
    assert "sigma_max: 200" in recorded.fault({**BEHIND_VP, "sigma_max": 200}, VP)
    iddpm = {"class_name": "iDDPMPrecond", "init_kwargs": {**VP["init_kwargs"], "model_type": "SongUNet"}}
    card = {**BEHIND_VP, "preconditioning": {"name": "iddpm"}, "sigma_min": 0.0064, "sigma_max": 20000}
    assert recorded.fault(card, iddpm) is None
    assert "sigma_min: 0.002" in recorded.fault({**card, "sigma_min": 0.002}, iddpm)


@pytest.mark.parametrize("name", recorded.NETWORKS)
def test_defaults_of_recorded_arguments_are_those_of_the_networks_here(name):
    own = inspect.signature(networks.get(recorded.NETWORKS[name])).parameters
    for option, default in recorded._NETWORK[name].items():
        value = own[option].default
        assert (list(value) if isinstance(value, tuple) else value) == default, option


BY_OPTIONS = {"role": "diffusion", "preconditioning": {"name": "vp"}, "sigma_min": 0.002, "sigma_max": 152.0}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"sigma_min": 152.0}, "sigma_min: 152.0 is not below sigma_max: 152.0"),
        ({"sigma_max": 500.0}, "sigma_max: 500.0, but the preconditioning {'name': 'vp'} knows levels up to 152.1"),
        ({"sigma_min": 0.0005}, "sigma_min: 0.0005, but the preconditioning {'name': 'vp'} knows levels from 0.001"),
        ({"preconditioning": {"name": "vp", "beta_d": 9.9}}, "knows levels up to 12.4"),
        ({"preconditioning": {"name": "iddpm"}}, "sigma_min: 0.002, but .* knows levels from 0.006"),
        ({"preconditioning": {"name": "iddpm"}, "sigma_min": 0.0064, "sigma_max": 20000}, None),
        ({"preconditioning": {"name": "iddpm"}, "sigma_min": 0.0064, "sigma_max": 30000}, "knows levels up to 20"),
        ({"preconditioning": {"name": "ve"}, "sigma_max": 380}, None),
        ({"preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_max": 1e5}, None),
        ({"preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_max": 1e-5}, "is not below sigma_max: 1e-05"),
    ],
)
def test_a_range_that_the_preconditioning_does_not_have_is_refused(changes, says):
    found = agreement.fault_of_range({**BY_OPTIONS, **changes})
    assert found is None if says is None else re.search(says, found), found


def test_a_range_is_compared_as_a_card_is_read(checkout):
    card = published("digits-edm")
    says = "config/models/mine.yaml: sigma_min: 80.0 is not below sigma_max: 0.002"
    assert checkout.refusal(card, sigma_min=80.0, sigma_max=0.002) == says
    card |= {"prediction": "noise", "preconditioning": {"name": "iddpm", "steps": 10**6}}
    assert "preconditioning: steps" in checkout.refusal(card, sigma_min=0.01, sigma_max=80.0)


@pytest.fixture
def repository_like(checkout):
    """``repository_like(config, scheduler, pipeline=False)`` makes a folder as of the hub; it returns a card."""
    pytest.importorskip("diffusers")
    return checkout.downloaded


@pytest.mark.parametrize("pipeline", [False, True])
def test_a_card_takes_what_it_leaves_out_from_the_files_beside_the_weights(checkout, repository_like, pipeline):
    card = checkout.read(repository_like({"num_class_embeds": 4}, {"beta_end": 0.01}, pipeline=pipeline))
    assert card["image_shape"] == [3, 8, 8]
    assert card["classes"] == 4
    assert card["prediction"] == "noise"
    assert card["schedule"] == {"name": "linear", "steps": 1000, "beta_min": 0.0001, "beta_max": 0.01}
    assert card["network"]["options"]["config"]["block_out_channels"] == [32, 64]
    denoise = models.load(card, card["urls"][0].removeprefix("file:")).conditioned([0, 3])
    assert denoise(torch.zeros(2, 3, 8, 8), torch.tensor(1.0)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("own", "files", "says"),
    [
        (
            {"prediction": "noise"},
            [{}, {"prediction_type": "v_prediction"}],
            "prediction: noise, but .* says v_prediction",
        ),
        ({"prediction": "noise"}, [{}, {"prediction_type": "sample"}], "prediction: noise, but .* says sample"),
        ({"classes": 3}, [{"num_class_embeds": 5}], r"classes: 3, but .* say 4 or 5"),
        ({"image_shape": [3, 16, 16]}, [{}], r"image_shape: \[3, 16, 16\], but .* say \[3, 8, 8\]"),
        ({"schedule": {"name": "linear"}}, [{}, {"beta_end": 0.03}], r"schedule: \{'name': 'linear'\}, but .*0\.03"),
        ({"schedule": {"name": "linear"}}, [{}, {"beta_schedule": "scaled_linear"}], "schedule: .*'scaled_linear'"),
        ({"schedule": {"name": "linear"}}, [{}, {"beta_schedule": "squaredcos_cap_v2"}], "schedule: .*'cosine'"),
        ({"schedule": {"name": "linear"}}, [{}, {"num_train_timesteps": 500}], "schedule: .*'steps': 500"),
        ({"schedule": {"name": "linear"}}, [{}, {"trained_betas": [0.1, 0.2]}], "schedule: .*trained_betas"),
        ({"schedule": {"name": "linear"}}, [{}, {"rescale_betas_zero_snr": True}], "schedule: .*zero_snr': True"),
        ({"schedule": {"name": "linear"}}, [{}, {"beta_schedule": "laplace"}], "beta_schedule: laplace"),
        ({"schedule": {"name": "linear"}}, [{}, {"_class_name": "EDMEulerScheduler"}], "preconditioning.name: none"),
        ({}, [{"_class_name": "UNet2DConditionModel"}], "is a UNet2DModel, but .* is of a UNet2DConditionModel"),
    ],
)
def test_a_card_that_contradicts_the_files_beside_the_weights_is_refused(checkout, repository_like, own, files, says):
    complete = checkout.read(repository_like())
    card = {**repository_like(*files), **own}
    card = {**card, **{key: complete[key] for key in ("prediction", "schedule") if key not in card}}
    sentence = checkout.refusal(card)
    assert re.search(says, sentence), sentence


def test_a_config_that_was_retyped_wrongly_is_refused_with_the_key(checkout, repository_like):
    card = checkout.read(repository_like())
    checkout.read(card)
    left_out = dict(card["network"]["options"]["config"])
    del left_out["norm_eps"]
    says = "network.options.config.norm_eps: 1e-05, but config.json beside the weights says 1e-06"
    assert says in checkout.refusal(card, network__options__config=left_out)
    with pytest.raises(ValueError, match=r"network\.options\.config\.norm_eps"):
        models.load(card, card["urls"][0].removeprefix("file:"))


@pytest.mark.parametrize("file", [{"num_train_timesteps": "many"}, {"beta_start": -1}, {"trained_betas": ["a", "b"]}])
def test_a_scheduler_whose_schedule_is_none_is_named(checkout, repository_like, file):
    card = {**checkout.read(repository_like()), "urls": repository_like({}, file)["urls"]}
    assert "scheduler_config.json beside the weights: " in checkout.refusal(card)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"norm_eps": 1e-6, "norm_eps": 1e-5}', 'has the key "norm_eps" twice'),
        ('{"norm_eps": NaN}', "has NaN"),
        ('{"sample_size": 9223372036854775808}', "has the integer 9223372036854775808"),
    ],
)
def test_a_configuration_that_is_none_is_named(checkout, repository_like, content, says):
    card = repository_like()
    (checkout.root / "downloaded" / "config.json").write_text(content, encoding="utf-8")
    assert f"downloaded/config.json {says}" in checkout.refusal(card)


def test_a_hub_card_without_config_needs_one_beside_the_weights(checkout, repository_like):
    card = repository_like()
    (checkout.root / "downloaded" / "config.json").unlink()
    assert "network.options.config: the key is missing, and no config.json" in checkout.refusal(card)


def test_the_defaults_of_a_hub_network_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    own = list(inspect.signature(diffusers.UNet2DModel.__init__).parameters.values())[1:]
    defaults = {
        option.name: list(option.default) if isinstance(option.default, tuple) else option.default for option in own
    }
    assert defaults == repository.DEFAULTS | {"dropout": 0.0}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """``hub(files)``: the hub has these files of ``me/model`` at its revision v1; returns the names asked for."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    cache, asked = tmp_path / "cache", []

    def make(files):
        def kept(repository_id, name, *, revision):
            assert (repository_id, revision) == ("me/model", "v1")
            return str(cache / name) if (cache / name).is_file() else None

        def download(repository_id, name, *, revision, etag_timeout):
            asked.append(name)
            if name not in files:
                raise type("RemoteEntryNotFoundError", (Exception,), {})(name)
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            (cache / name).write_text(json.dumps(files[name]), encoding="utf-8")
            return str(cache / name)

        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", kept, raising=False)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download, raising=False)
        return asked

    return make


def of_the_hub(card):
    return {**card, "urls": ["hf:me/model/unet/diffusion_pytorch_model.safetensors@v1"]}


def test_a_repository_of_the_hub_is_read_once(checkout, repository_like, hub):
    asked = hub({"unet/config.json": CONFIG, "scheduler/scheduler_config.json": SCHEDULER})
    first = checkout.read(card := of_the_hub(repository_like()))
    assert first["image_shape"] == [3, 8, 8]
    names = list(asked)
    assert names == ["unet/config.json", "unet/scheduler_config.json", "scheduler/scheduler_config.json"]
    assert checkout.read(card) == first
    assert asked == [*names, "unet/scheduler_config.json"]  # what is not there is not kept


def test_a_card_that_says_all_asks_the_hub_nothing_until_its_weights_are_fetched(checkout, repository_like, hub):
    asked = hub({"unet/config.json": {**CONFIG, "norm_eps": 1e-5}})
    card = checkout.read(of_the_hub(checkout.read(repository_like())))
    assert asked == []
    with pytest.raises(ValueError, match=r"mine\.yaml: network\.options\.config\.norm_eps: 1e-06, but config\.json"):
        acquire.obtain("mine", card, checkout.root / "weights", root=checkout.root)
    assert not (checkout.root / "weights").exists()


@pytest.mark.parametrize("said", ["by the lock file", "by the card"])
def test_a_file_of_ones_own_that_was_changed_since_it_was_fetched_is_refused(checkout, monkeypatch, said):
    """As one is that is trained on: results would go on with the old weights in silence."""
    monkeypatch.chdir(checkout.root)
    own, target = checkout.root / "config" / "models" / "mine.bin", checkout.root / "fetched" / "mine.bin"
    own.write_bytes(b"weights")
    card = published("digits-edm") | {"urls": ["file:mine.bin"]}
    card["sha256"] = hashlib.sha256(b"weights").hexdigest()
    if said == "by the lock file":
        del card["sha256"]
    card = checkout.read(card)
    acquire.obtain("mine", card, target, root=checkout.root)
    acquire.obtain("mine", card, target, root=checkout.root)
    own.write_bytes(b"others!")
    with pytest.raises(ValueError, match=r"sha256 is .* says .*If the file was changed on purpose, remove the"):
        acquire.obtain("mine", card, target, root=checkout.root)
    assert target.read_bytes() == b"weights"
    own.unlink()  # what was fetched is enough
    acquire.obtain("mine", card, target, root=checkout.root)
