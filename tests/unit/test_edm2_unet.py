"""EDM2's network: the published names and sizes, the paper's equations on the same weights, its pickles."""

import math

import pytest
import torch
from safetensors.torch import save_file

import edm2_reference
from dode import checkpoints, models
from dode.models import precision
from dode.models.edm2 import layers
from dode.models.networks import networks

pytestmark = pytest.mark.usefixtures("here")

SMALL = {"size": 8, "channels": 3, "width": 8, "multipliers": [1, 2], "depth": 1, "attention": [4], "head": 8}
VARIANTS = {
    "unconditional": SMALL,
    "with classes": {**SMALL, "classes": 5},
    "attention everywhere": {**SMALL, "attention": [8, 4, 2], "multipliers": [1, 2, 3], "depth": 2},
    "attention at wide levels alone": {**SMALL, "attention": [8, 4], "head": 16},
}


def options_of(layout):
    return {
        "image_shape": [layout["channels"], layout["size"], layout["size"]],
        "label_dim": layout.get("classes", 0),
        "model_channels": layout["width"],
        "channel_mult": layout["multipliers"],
        "num_blocks": layout["depth"],
        "attn_resolutions": layout["attention"],
        "head_width": layout["head"],
    }


def built(layout, seed=0):
    """(network, reference), with the same random weights."""
    state = edm2_reference.random_state(edm2_reference.shapes(**layout), seed)
    network = networks.create("edm2-unet", **options_of(layout))
    network.load_state_dict(state)
    reference = edm2_reference.Reference(state, depth=layout["depth"], head=layout["head"])
    return network.eval().requires_grad_(False), reference


def images(count=3, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", VARIANTS.values(), ids=VARIANTS)
def test_the_network_computes_the_papers_equations(layout):
    network, reference = built(layout)
    x, condition, labels, hot = images(), torch.tensor([-1.5, 0.1, 1.09]), None, None
    if layout.get("classes"):
        labels, hot = torch.tensor([4, -1, 2]), torch.zeros(3, layout["classes"], dtype=torch.float64)
        hot[0, 4] = hot[2, 2] = 1
    sizes = [8, 4, 2][: len(layout["multipliers"])]
    expected = reference(x.double(), condition.double(), hot, sizes)
    assert expected.std() > 0.1
    unit = float(expected.std())
    torch.testing.assert_close(network(x, condition, labels).double() / unit, expected / unit, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("width", "millions"), [(192, 280.2), (256, 497.8), (320, 777.5), (384, 1119.4)], ids=["S", "M", "L", "XL"]
)
def test_published_networks_have_the_published_number_of_parameters(width, millions):
    """Karras et al. 2024, table 2: 280, 498, 777 and 1119 million of the latent networks, with four channels."""
    with torch.device("meta"):
        network = networks.create("edm2-unet", image_shape=[4, 64, 64], label_dim=1000, model_channels=width)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.6)


@pytest.mark.parametrize("function", [layers.mp_silu, lambda x: layers.mp_sum(x, x.roll(1, 0), 0.3)])
def test_magnitudes_are_kept(function):
    x = torch.randn(100_000, 4, generator=torch.Generator().manual_seed(0))
    assert float(function(x).square().mean()) == pytest.approx(1, abs=0.02)


def test_concatenation_keeps_the_magnitude_and_gives_each_side_its_share():
    a, b = torch.ones(1, 4, 2, 2), torch.ones(1, 12, 2, 2)
    both = layers.mp_cat(a, b, 0.5)
    assert float(both.square().mean()) == pytest.approx(1)
    assert float(both[:, :4].square().sum()) == pytest.approx(float(both[:, 4:].square().sum()))


CARD = {
    "role": "diffusion",
    "image_shape": [3, 8, 8],
    "prediction": "data",
    "preconditioning": {"name": "edm", "sigma_data": 0.5},
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "classes": 5,
    "network": {"name": "edm2-unet", "options": options_of(VARIANTS["with classes"])},
}


@pytest.fixture
def published(tmp_path):
    """``published(**arguments)``: (converted file, reference, the sentinel of code that must not run)."""

    def write(**arguments):
        layout = VARIANTS["with classes"]
        state = edm2_reference.random_state(edm2_reference.shapes(**layout))
        state = {name: value.half().float() for name, value in state.items()}
        recorded = {"img_resolution": 8, "img_channels": 3, "label_dim": 5, "use_fp16": True, "sigma_data": 0.5}
        recorded |= {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
        recorded["channels_per_head"] = 8
        sentinel, path = tmp_path / "sentinel", tmp_path / "edm2.safetensors"
        edm2_reference.write(tmp_path / "edm2.pkl", state, recorded | arguments, sentinel=sentinel)
        checkpoints.convert(tmp_path / "edm2.pkl", path, format="edm-pickle", key="ema")
        assert not sentinel.exists()
        return path, edm2_reference.Reference(state, depth=1, head=8)

    return write


def test_a_published_pickle_becomes_the_denoiser_of_the_equations(published):
    path, reference = published()
    denoise, x = models.load(CARD, path).conditioned([4, 0, 2]), images().double()
    hot = torch.eye(5, dtype=torch.float64)[[4, 0, 2]]
    for sigma in (0.002, 0.7, 80.0):
        state, total = (1 + sigma) * x, math.hypot(sigma, 0.5)
        output = reference(state / total, torch.full((3,), math.log(sigma) / 4, dtype=torch.float64), hot, [8, 4])
        expected = (0.5 / total) ** 2 * state + sigma * 0.5 / total * output
        unit = sigma * 0.5 / total * float(output.std())
        found = denoise(state, torch.tensor(sigma, dtype=torch.float64))
        torch.testing.assert_close(found / unit, expected / unit, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("recorded", "says"),
    [
        ({"sigma_data": 1.0}, "preconditioning.sigma_data: 0.5, but the file records sigma_data 1.0 of Precond"),
        ({"channels_per_head": 64}, r"options\.head_width: 8, but the file records channels_per_head 64 of Precond"),
        ({"clip_act": None}, "edm2-unet, of clip_act 256, but the file records clip_act None of Precond"),
        ({"resample_filter": [1, 3, 3, 1]}, "but the file records resample_filter"),
        ({"label_dim": 10}, "classes: 5, but the file records label_dim 10 of Precond"),
        ({"img_resolution": 64}, r"image_shape: \[3, 8, 8\], but the file records images \[3, 64, 64\] of Precond"),
        (
            {"res_balance": 0.5},
            r"network\.options\.res_balance: 0\.3, but the file records res_balance 0\.5 of Precond",
        ),
    ],
)
def test_a_pickle_that_records_another_network_is_refused(published, recorded, says):
    path, _ = published(**recorded)
    with pytest.raises(ValueError, match=says):
        models.load(CARD, path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near_single(dtype):
    network, _ = built(VARIANTS["with classes"])
    x, condition, labels = images(), torch.tensor(0.1), torch.tensor([4, 0, 2])
    expected = network(x, condition, labels)
    found = precision.lowered(network, dtype)(x, condition, labels)
    assert found.dtype == torch.float32
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert 1e-5 < error < 0.05


def test_weights_of_another_network_are_refused(tmp_path):
    state = edm2_reference.random_state(edm2_reference.shapes(**{**SMALL, "depth": 2}))
    save_file(state, tmp_path / "edm2.safetensors")
    with pytest.raises(ValueError, match=r"22 of the file's 81 not in the network \('dec\.4x4_block2"):
        models.load(CARD, tmp_path / "edm2.safetensors")
