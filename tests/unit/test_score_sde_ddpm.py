"""score_sde's ddpm: the repository's own formulas on the same weights, its size, and its files."""

import math

import pytest
import torch

import score_sde_ddpm_reference as reference
from dode import checkpoints, models
from dode.grids.schedules import schedules
from dode.models.networks import networks
from dode.solvers.formulas import vp_time

NAME = "score-sde-ddpm"
SHAPE = [3, 16, 16]
SMALL = {"nf": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1}
KINDS = {
    "vp": {"schedule": {"name": "linear", "steps": 1000}},
    "vp-continuous": {"preconditioning": {"name": "vp"}, "sigma_min": 0.002, "sigma_max": 152.0},
    "ve": {"preconditioning": {"name": "ve"}, "sigma_min": 0.02, "sigma_max": 100.0},
}


def built(kind, attn):
    """The model of a card with random weights, in double precision, and the reference."""
    sizes = [SHAPE[1] >> level for level in range(3)]
    ve = kind == "ve"
    layout = {**SMALL, "channels": 3, "attends": [size in attn for size in sizes], "scale_by_sigma": ve}
    options = {
        "image_shape": SHAPE,
        "attn_resolutions": list(attn),
        **SMALL,
        **({"scale_by_sigma": True} if ve else {}),
    }
    weights = reference.weights(**layout)
    network = networks.create(NAME, **options)
    network.load_state_dict({**weights, "sigmas": torch.ones(1000)})
    card = {"role": "diffusion", "image_shape": SHAPE, "prediction": "noise", **KINDS[kind]}
    card["network"] = {"name": NAME, "options": options}
    return models.of_card(card, network.double()), reference.Reference(weights, **layout)


def levels_of(kind):
    """Noise levels, and what the repository's network is given at them: images in its coordinates, an index."""
    if kind == "ve":
        return [(2 * reference.level_of(index), index) for index in (0, 250, 999)]
    if kind == "vp":
        own = schedules.create("linear", steps=1000)
        return [(float(own.sigma(index)), index) for index in (0, 500, 999)]
    return [(sigma, 999 * float(vp_time(sigma, beta_min=0.1, beta_d=19.9))) for sigma in (0.05, 1.0, 40.0)]


@pytest.mark.parametrize("attn", [(8,), (16, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_it_denoises_as_the_repository_does(kind, attn):
    """By Tweedie's formula from its score, or from its noise."""
    model, theirs = built(kind, attn)
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for sigma, index in levels_of(kind):
        noisy = x * math.hypot(1, sigma)
        if kind == "ve":  # of images in [0, 1]
            level, own = sigma / 2, (noisy + 1) / 2
            expected = 2 * (own + level**2 * theirs.output(own, index)) - 1
        else:
            expected = noisy - sigma * theirs.output(noisy / math.hypot(1, sigma), index)
        found = model(noisy, torch.tensor(sigma, dtype=torch.float64))
        assert (found - expected).abs().max() < 1e-6 * sigma
        assert (expected - noisy).std() > 0.1 * sigma


def test_the_published_network_is_that_of_ddpm_with_less_attention_on_the_way_up():
    with torch.device("meta"):
        own = networks.create(NAME, image_shape=[3, 32, 32])
        options = {"image_size": 32, "multipliers": [1, 2, 2, 2], "attention_resolutions": [16]}
        other = networks.create("ddpm-unet", **options)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (own, other)]
    attention = 4 * (256 * 256 + 256) + 2 * 256
    assert sizes == [35_218_947, 35_218_947 + 2 * attention]


def test_the_averages_of_a_training_are_read_by_their_order(tmp_path):
    """As the repository saves it: the averages are a list without names, and the levels are not among them."""
    options = {**SMALL, "channels": 3, "attends": [False, True, False]}
    last = reference.weights(**options)
    average = {name: value + 1e-3 for name, value in last.items()}
    state = {"module.sigmas": torch.ones(1000), **{f"module.{name}": value for name, value in last.items()}}
    ema = {"decay": 0.999, "num_updates": 9, "shadow_params": list(average.values())}
    torch.save({"optimizer": {}, "model": state, "ema": ema, "step": 9}, tmp_path / "checkpoint_8.pth")
    how = {"format": "torch", "key": ["ema", "shadow_params"], "names": "model"}
    found = checkpoints.read(tmp_path / "checkpoint_8.pth", **how)[0]
    network = networks.create(NAME, image_shape=SHAPE, attn_resolutions=[8], **SMALL)
    network.load_state_dict({name.removeprefix("module."): value for name, value in found.items()})
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"conditional": False}, "unknown option 'conditional'"),
        ({"attn_resolutions": [5]}, "attention_resolutions: 5 is not one of"),
        ({"nf": 48}, "nf: 48 is not allowed; allowed: a multiple of 32"),
    ],
)
def test_what_it_does_not_have_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        networks.create(NAME, image_shape=[3, 32, 32], **options)
