"""score_sde's networks: the published sizes, the repository's own formulas on the same weights, and its files."""

import collections
import math

import pytest
import torch
import yaml

import score_sde_reference
from dode import checkpoints, models
from dode.checkpoints import CheckpointError
from dode.fetching.cards import load_card, reading
from dode.models.networks import networks
from dode.solvers.formulas import vp_time
from workspace import REPOSITORY

pytestmark = pytest.mark.usefixtures("here")

NAME = "score-sde-ncsnpp"
SMALL = {"nf": 16, "ch_mult": [1, 2, 2], "num_res_blocks": 1}
KINDS = {
    "ncsnpp": {"embedding_type": "fourier", "progressive_input": "residual", "fir": True},
    "ncsnpp-256": {
        "embedding_type": "fourier",
        "progressive_input": "input_skip",
        "progressive": "output_skip",
        "fir": True,
    },
    "ddpmpp": {"embedding_type": "positional", "progressive_input": "none", "fir": False},
}
VE = {"preconditioning": {"name": "ve"}, "sigma_min": 0.02, "sigma_max": 100.0}
CARDS = {
    "ncsnpp": VE,
    "ncsnpp-256": VE,
    "ddpmpp": {"preconditioning": {"name": "vp"}, "sigma_min": 0.002, "sigma_max": 152.0},
}
SHAPE = [3, 16, 16]


def layout(kind, attn):
    own = KINDS[kind]
    sizes = [SHAPE[1] >> level for level in range(len(SMALL["ch_mult"]))]
    facts = {"fourier": own["embedding_type"] == "fourier", "side": own["progressive_input"]}
    facts["sums"] = "progressive" in own
    return {**SMALL, **facts, "fir": own["fir"], "channels": SHAPE[0], "attends": [size in attn for size in sizes]}


def card_of(kind, attn=(8,)):
    options = {"image_shape": SHAPE, "attn_resolutions": list(attn), **SMALL, **KINDS[kind]}
    network = {"name": NAME, "options": options}
    return {"role": "diffusion", "image_shape": SHAPE, "prediction": "noise", "network": network, **CARDS[kind]}


def denoised(kind, reference, x, sigma):
    """``E[image | x]`` by Tweedie's formula from the repository's score, x = image + sigma noise."""
    if kind != "ddpmpp":  # of images in [0, 1]; x is of [-1, 1]
        level = sigma / 2
        x = (x + 1) / 2
        return 2 * (x + level**2 * reference.output(x, level)) - 1
    scale = 1 / math.sqrt(1 + sigma**2)
    deviation = sigma * scale
    time = float(vp_time(sigma, beta_min=0.1, beta_d=19.9))
    score = -reference.output(scale * x, 999 * time) / deviation
    return (scale * x + deviation**2 * score) / scale


@pytest.mark.parametrize("attn", [(8,), (16, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_it_denoises_as_the_repository_does(kind, attn):
    weights = score_sde_reference.weights(**layout(kind, attn))
    card = card_of(kind, attn)
    network = networks.create(NAME, **card["network"]["options"])
    network.load_state_dict({**weights, "sigmas": torch.ones(1000)})
    model = models.of_card(card, network.eval().requires_grad_(False))
    reference = score_sde_reference.Reference(weights, **layout(kind, attn))
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for sigma in (0.05, 1.0, 40.0):
        noisy = x * math.hypot(1, sigma)
        found, expected = model(noisy, torch.tensor(sigma)), denoised(kind, reference, noisy, sigma)
        assert (found - expected).abs().max() < 2e-5 * sigma
        assert (expected - noisy).std() > 0.1 * sigma


@pytest.mark.parametrize("kind", ["ncsnpp", "ddpmpp"])
def test_the_published_networks_have_as_many_parameters_as_those_of_edm(kind):
    """Its table 7 has the same kinds; there the frequencies W are a buffer."""
    with torch.device("meta"):
        own = networks.create(NAME, image_shape=[3, 32, 32], **KINDS[kind])
        fourier = kind == "ncsnpp"
        edm = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"} if fourier else {}
        edm |= {"resample_filter": [1, 3, 3, 1]} if fourier else {}
        other = networks.create("edm-song-unet", image_shape=[3, 32, 32], channel_mult=[1, 2, 2, 2], **edm)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (own, other)]
    assert sizes[0] == sizes[1] + (128 if fourier else 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"embedding_type": "learned"}, "embedding_type: 'learned' is not allowed; allowed: fourier, positional"),
        (
            {"progressive_input": "output_skip"},
            "progressive_input: 'output_skip' is not allowed; allowed: none, residual, input_skip",
        ),
        ({"fir": False}, "progressive_input: 'residual' is not allowed without fir; allowed: 'none', 'input_skip'"),
        ({"progressive": "residual"}, "progressive: 'residual' is not allowed; allowed: none, output_skip"),
        ({"progressive_combine": "cat"}, "unknown option 'progressive_combine'"),
        ({"attn_resolutions": [5]}, "attention_resolutions: 5 is not one of"),
    ],
)
def test_what_it_does_not_have_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        networks.create(NAME, image_shape=[3, 32, 32], **options)


# Files


def checkpoint(path, kind, *, wrapped="module."):
    """As the repository saves a training: the averages are a list without names, W and sigmas not among them."""
    options = layout(kind, (8,))
    last, average = (score_sde_reference.weights(**options) for _ in range(2))
    average = {name: value + 1e-3 if name.endswith("weight") else value for name, value in average.items()}
    trained = [name for name in last if not name.endswith("0.W") or ".NIN_" in name]
    state = collections.OrderedDict({f"{wrapped}sigmas": torch.linspace(50, 0.01, 1000)})
    state |= {f"{wrapped}{name}": value for name, value in last.items()}
    ema = {"decay": 0.999, "num_updates": 9, "shadow_params": [average[name] for name in trained]}
    torch.save({"optimizer": {}, "model": state, "ema": ema, "step": 9}, path)
    return {**average, **{name: last[name] for name in last if name not in trained}}


@pytest.mark.parametrize("wrapped", ["module.", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_the_averages_of_a_training_are_read_by_their_order(tmp_path, kind, wrapped):
    root = tmp_path / "config"
    (root / "models").mkdir(parents=True)
    (root / "schemas").symlink_to(REPOSITORY / "config/schemas")
    expected = checkpoint(root / "models/mine.pth", kind, wrapped=wrapped)
    card = {**card_of(kind), "urls": ["file:mine.pth"], "licence": "none", "format": "torch"}
    card |= {"key": ["ema", "shadow_params"], "names": "model"}
    (root / "models/mine.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    card = load_card(tmp_path, "mine", "card")
    checkpoints.convert(root / "models/mine.pth", tmp_path / "converted", **reading(card))
    assert checkpoints.is_of(tmp_path / "converted", root / "models/mine.pth", **reading(card))
    model = models.load(card, tmp_path / "converted")
    found = model.network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    with pytest.raises(ValueError, match="names: 'optimizer', but the file was converted with 'model'"):
        models.load({**card, "names": "optimizer"}, tmp_path / "converted")


def test_a_list_without_names_says_how_to_name_it(tmp_path):
    checkpoint(tmp_path / "mine.pth", "ddpmpp")
    with pytest.raises(CheckpointError, match=r"it is a list of \d+; the card's 'names' says where in the file"):
        checkpoints.read(tmp_path / "mine.pth", format="torch", key=["ema", "shadow_params"])
    with pytest.raises(CheckpointError, match="the card's 'names' is for a list of tensors, but where its 'key' leads"):
        checkpoints.read(tmp_path / "mine.pth", format="torch", key="model", names="model")
    with pytest.raises(CheckpointError, match="the file has no 'net' where the key 'net' leads"):
        checkpoints.read(tmp_path / "mine.pth", format="torch", key=["ema", "shadow_params"], names="net")


@pytest.mark.parametrize(
    ("sizes", "of_list", "says"),
    [
        ({"a": 2, "b": 3, "c": 2}, [2, 3, 2], None),
        ({"fixed": 5, "b": 3, "c": 2}, [3, 2], None),
        ({"a": 2, "b": 3, "c": 2}, [3, 2, 2], "do not have the shapes, in order, of the 3 entries"),
        ({"a": 2}, [2, 2], "do not have the shapes, in order, of the 1 entries"),
        ({"a": 2, "fixed": 2, "b": 3}, [2, 3], "fit the names in more than one way, from 'a' on"),
    ],
)
def test_names_are_given_only_where_the_shapes_leave_no_choice(tmp_path, sizes, of_list, says):
    state = {name: torch.zeros(size) for name, size in sizes.items()}
    torch.save({"model": state, "ema": [torch.ones(size) for size in of_list]}, tmp_path / "file")
    if says is None:
        found = checkpoints.read(tmp_path / "file", format="torch", key="ema", names="model")[0]
        assert {name: value.mean() for name, value in found.items()} == {n: float(n != "fixed") for n in sizes}
    else:
        with pytest.raises(CheckpointError, match=says):
            checkpoints.read(tmp_path / "file", format="torch", key="ema", names="model")
