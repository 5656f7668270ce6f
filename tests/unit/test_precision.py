"""Precision, layout, compilation and memory: other ways to the same images."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from dode import models
from dode.grids import schedules
from dode.images import noise
from dode.models import batches, precision
from dode.models.guidance import Classifier
from dode.models.networks import networks

DDPM = {"image_size": 8, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}
CARD = {
    "image_shape": [3, 8, 8],
    "prediction": "noise",
    "schedule": {"name": "linear"},
    "network": {"name": "ddpm-unet", "options": DDPM},
}
SONG = {"image_shape": [3, 8, 8], "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1}
SONG |= {"attn_resolutions": [4]}
DHARIWAL = {**SONG, "head_width": 32, "label_dim": 3}
EDM = {
    "image_shape": [3, 8, 8],
    "prediction": "data",
    "preconditioning": {"name": "edm", "sigma_data": 0.5},
    "sigma_min": 0.002,
    "sigma_max": 80.0,
}
FAMILIES = {
    "ddpm-unet": CARD,
    "edm-song-unet": {**EDM, "network": {"name": "edm-song-unet", "options": SONG}},
    "edm-dhariwal-unet": {**EDM, "classes": 3, "network": {"name": "edm-dhariwal-unet", "options": DHARIWAL}},
}
X, SIGMA = noise.latents(range(6), (3, 8, 8), seed=3).float() * 2, torch.tensor(1.5)


@pytest.fixture
def checkpoint(tmp_path):
    """Function of a card: random weights for its network, in a file."""

    def write(card):
        torch.manual_seed(0)
        network = networks.create(card["network"]["name"], **card["network"]["options"])
        save_file(network.state_dict(), tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return write


def denoised(card, path, x=X, **how):
    denoise = models.load(card, path, **how)
    return (denoise.conditioned(torch.arange(len(x)) % 3) if "classes" in card else denoise)(x, SIGMA)


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.01), ("bfloat16", 0.08)])
@pytest.mark.parametrize("family", FAMILIES)
def test_lower_precision_computes_nearly_the_same_and_not_the_same(checkpoint, family, dtype, bound):
    card = FAMILIES[family]
    path = checkpoint(card)
    exact, rounded = denoised(card, path), denoised({**card, "precision": {"dtype": dtype}}, path)
    assert rounded.dtype == exact.dtype == torch.float32
    share = (exact - X).square().mean().sqrt() if card["prediction"] == "noise" else exact.std()
    assert 0 < (rounded - exact).square().mean().sqrt() / share < bound


@pytest.mark.parametrize("family", FAMILIES)
def test_layout_changes_rounding_at_most(checkpoint, family):
    card = FAMILIES[family]
    path = checkpoint(card)
    torch.testing.assert_close(denoised(card, path, channels_last=True), denoised(card, path), rtol=1e-4, atol=1e-5)


def test_compilation_changes_rounding_at_most(checkpoint, monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("torch compiles with g++, which is not here")
    # Here and not in processes that torch would start for it, each of which imports torch first.
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    card = {**EDM, "network": {"name": "residual-mlp", "options": {"image_shape": [3, 8, 8], "width": 16, "blocks": 1}}}
    path = checkpoint(card)
    plain, compiled = models.load(card, path), models.load(card, path, compile=True)
    assert type(compiled.network).__name__ == "OptimizedModule"
    for images in (6, 2):  # a shard's last batch is smaller
        torch.testing.assert_close(compiled(X[:images], SIGMA), plain(X[:images], SIGMA), rtol=1e-4, atol=1e-5)


@pytest.fixture
def tf32_settings():
    """torch's own, put back after the test."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [setting.fp32_precision for setting in settings]
    yield settings
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value


def test_tensor_float_is_one_setting_for_products_and_convolutions(tf32_settings):
    for allowed, said in ((True, "tf32"), (False, "ieee")):
        precision.allow_tf32(allowed)
        assert [setting.fp32_precision for setting in tf32_settings] == [said, said]


class Small(torch.nn.Module):
    """A network on a device that has memory for ``room`` images."""

    def __init__(self, room, error=None):
        super().__init__()
        error = torch.OutOfMemoryError("CUDA out of memory") if error is None else error
        self.scale, self.room, self.error, self.asked = torch.nn.Parameter(torch.ones(())), room, error, []

    def forward(self, x, condition, labels=None):
        self.asked.append(len(x))
        if len(x) > self.room:
            raise self.error
        return x * self.scale if labels is None else x * labels.view(-1, 1, 1, 1)


def test_where_memory_runs_out_batches_are_halved_for_good_and_the_images_are_the_same():
    network = Small(2)
    denoise = models.DataPrediction(network, sigma_data=0.5, batch_size=100, classes=3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    expected = models.DataPrediction(Small(6), sigma_data=0.5, classes=3).conditioned(labels)(X, SIGMA)
    assert denoise.conditioned(labels)(X, SIGMA).equal(expected)
    assert network.asked == [6, 3, 1, 1, 1, 1, 1, 1]
    network.asked.clear()
    denoise.conditioned(labels)(X, SIGMA)  # bound anew, as each batch of a shard is
    assert network.asked == [1] * 6


def test_one_image_that_does_not_fit_is_an_error_and_another_error_is_not_swallowed():
    with pytest.raises(torch.OutOfMemoryError):
        models.DataPrediction(Small(0), sigma_data=0.5)(X, SIGMA)
    network = Small(2, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        models.DataPrediction(network, sigma_data=0.5)(X, SIGMA)
    assert network.asked == [6]


def test_the_classifiers_gradient_is_computed_in_the_same_parts():
    asked = []

    def classifier(x, index):
        asked.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return x.flatten(1)[:, :3] ** 2

    class Zero(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.any = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x, index, labels=None):
            return x * self.any

    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    model = models.NoisePrediction(Zero(), schedule=schedules.schedules.create("linear"), classes=3)
    guided = Classifier(model, scale=1.0, classifier=classifier).conditioned(labels)
    assert guided(X, SIGMA).isfinite().all()
    assert asked == [6, 3, 3]


def test_a_real_allocation_that_fails_is_recognised():
    code = (
        "import resource, torch\n"
        "from dode.models import batches\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "asked = []\n"
        "def double(x):\n"
        "    asked.append(len(x))\n"
        "    torch.empty(len(x) << 30, dtype=torch.uint8)\n"
        "    return 2 * x\n"
        "assert batches.Batches().map(double, torch.ones(40)).equal(torch.full((40,), 2.0))\n"
        "assert asked[:4] == [40, 20, 10, 5] and max(asked[4:]) <= 5, asked\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not batches.out_of_memory(RuntimeError("shapes do not match"))


def test_memory_that_runs_out_within_torchscript_is_known():
    """There it is a plain RuntimeError, with the allocator's words at the end (seen so on an H200)."""

    @torch.jit.script
    def large(size: int):
        return torch.empty([size], dtype=torch.uint8)

    with pytest.raises(RuntimeError) as caught:
        large(1 << 60)
    assert batches.out_of_memory(caught.value)
    said = "The following operation failed in the TorchScript interpreter.\n... try setting PYTORCH_CUDA_ALLOC_CONF=..."
    assert batches.out_of_memory(RuntimeError(said))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("tf32_settings")
def test_a_gpu_computes_what_the_cpu_does(checkpoint, family, dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    precision.allow_tf32(False)  # as a job does; torch itself allows it for convolutions
    card = {**FAMILIES[family], "precision": {"dtype": dtype}}
    path = checkpoint(card)
    found = denoised(card, path, X.cuda(), device="cuda", channels_last=True)
    torch.testing.assert_close(found.cpu(), denoised(card, path), rtol=0, atol={"float32": 1e-3}.get(dtype, 0.1))
