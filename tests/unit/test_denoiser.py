"""The wrappers that make a network a denoiser: their algebra, their batches, the index they call a network at."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import dode
from dode import grids, models, solvers
from dode.directions import Directions
from dode.grids import schedules
from dode.grids.facts import ModelFacts, vp_prior
from dode.models import mixture
from dode.models.denoiser import prediction_of, prior_std
from dode.models.loading import ON_A_SCHEDULE
from dode.models.predictions import DataPrediction, NoisePrediction

LINEAR = schedules.schedules.create("linear")
IMAGES = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 2, 3, 3)))


class Known(nn.Module):
    """``F(x; c) = gain x + c``, which remembers what it is called with."""

    def __init__(self, gain=0.7, dtype=torch.float64):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=dtype))
        self.inputs, self.conditions = [], []

    def forward(self, x, condition):
        self.inputs.append(x)
        self.conditions.append(condition)
        return self.gain * x + condition


@pytest.mark.parametrize("sigma", [0.002, 0.5, 3.0, 80.0])
def test_edm_preconditioning_is_the_published_algebra(sigma):
    known = Known()
    result = DataPrediction(known, sigma_data=0.5)(IMAGES, torch.tensor(sigma, dtype=torch.float64))
    total = sigma**2 + 0.25
    skip, out, scale = 0.25 / total, sigma * 0.5 / math.sqrt(total), 1 / math.sqrt(total)
    expected = skip * IMAGES + out * (0.7 * scale * IMAGES + math.log(sigma) / 4)
    torch.testing.assert_close(result, expected, rtol=1e-13, atol=1e-13)
    assert known.conditions[0].ndim == 0


def test_edm_preconditioning_of_a_silent_network_denoises_a_gaussian_exactly():
    """Posterior mean of a normal of standard deviation sigma_data: x sigma_data^2 / (sigma_data^2 + sigma^2)."""

    class Silent(Known):
        def forward(self, x, condition):
            return torch.zeros_like(x)

    result = DataPrediction(Silent(), sigma_data=2.0)(IMAGES, torch.tensor(1.0))
    torch.testing.assert_close(result, 0.8 * IMAGES, rtol=1e-14, atol=0)


@pytest.mark.parametrize("index", [0, 1, 250, 500.5, 999])
def test_vp_wrapper_is_x_minus_sigma_times_noise(index):
    known, sigma = Known(), torch.tensor(float(LINEAR.sigma(index)), dtype=torch.float64)
    result = NoisePrediction(known, schedule=LINEAR)(IMAGES, sigma)
    root_abar = math.exp(LINEAR.log_abar(index) / 2)
    torch.testing.assert_close(known.inputs[0], root_abar * IMAGES, rtol=1e-12, atol=1e-14)
    assert float(known.conditions[0]) == pytest.approx(index, abs=1e-9)
    noise = 0.7 * root_abar * IMAGES + index
    torch.testing.assert_close(result, IMAGES - float(sigma) * noise, rtol=1e-9, atol=1e-9)


def test_a_network_is_called_at_the_very_integer_that_a_level_was_made_of():
    known = Known(dtype=torch.float32)
    denoise = NoisePrediction(known, schedule=LINEAR)
    for index in range(1000):
        denoise(IMAGES[:1], torch.tensor(float(LINEAR.sigma(index)) * (1 + 1e-12), dtype=torch.float64))
    assert [float(condition) for condition in known.conditions] == list(range(1000))


@pytest.mark.parametrize("share", [0.999, 0.5, 1e-3])
def test_a_level_below_the_smallest_is_given_to_the_network_as_index_zero(share):
    known, sigma = Known(), share * LINEAR.sigma_min
    result = NoisePrediction(known, schedule=LINEAR)(IMAGES, torch.tensor(sigma, dtype=torch.float64))
    assert float(known.conditions[0]) == 0
    torch.testing.assert_close(result, IMAGES - sigma * 0.7 * IMAGES / math.sqrt(1 + sigma**2), rtol=1e-12, atol=0)


def wrapped(prediction, known, **options):
    """A denoiser of either kind around ``known``."""
    if prediction == "data":
        return DataPrediction(known, sigma_data=0.5, **options)
    return ON_A_SCHEDULE[prediction](known, schedule=LINEAR, **options)


@pytest.mark.parametrize("prediction", ON_A_SCHEDULE)
def test_what_a_network_says_of_the_image_is_the_image(prediction):
    """Each quantity of the exact toy, and all give its denoised image; greedy fits follow from that alone."""

    class Exact(torch.nn.Linear):
        def forward(self, x, index):
            sigma = float(LINEAR.sigma(float(index)))
            alpha = (1 + sigma**2) ** -0.5
            image = mixture.denoise(x / alpha, torch.tensor(sigma).double())
            noise = (x - alpha * image) / (alpha * sigma)
            return {"noise": noise, "v": alpha * noise - alpha * sigma * image, "image": image}[prediction]

    denoise = ON_A_SCHEDULE[prediction](Exact(1, 1).double(), schedule=LINEAR)
    x = mixture.latents(8, 1)
    for sigma in (150.0, 3.0, 0.02):
        expected = mixture.denoise(sigma * x, torch.tensor(sigma).double())
        torch.testing.assert_close(denoise(sigma * x, torch.tensor(sigma)), expected, rtol=0, atol=1e-9)
    assert denoise.facts == ModelFacts(prediction, schedule=LINEAR, prior_std=vp_prior)
    sigmas = grids.for_model(denoise, "uniform-index", 4)
    fit = dode.distill(solvers.create("ddim"), denoise, mixture.latents(16, 1), sigmas, fit="greedy")
    assert fit.directions == Directions(outputs="data" if prediction == "image" else "noise")
    if prediction != "noise":
        with pytest.raises(ValueError, match=f"recipes for noise and data prediction, not for '{prediction}'"):
            dode.released.recipe("ddim", None, denoise, 4, 10)
        with pytest.raises(ValueError, match=f"'released' has no recipe for 'ddim' with {prediction} prediction"):
            dode.distill(
                solvers.create("ddim"), denoise, mixture.latents(16, 1), sigmas, fit="greedy", alignment="released"
            )


def test_what_no_network_predicts_is_refused():
    with pytest.raises(ValueError, match="must be one of 'data', 'noise', 'v', 'image', 'flow', not 'velocity'"):
        ModelFacts("velocity")
    for prediction, schedule in (("flow", "linear"), ("noise", "flow"), ("v", "flow")):
        with pytest.raises(ValueError, match=f"prediction '{prediction}' is not allowed on this schedule; prediction"):
            models.of_card({"prediction": prediction, "schedule": {"name": schedule}}, Known())
    with pytest.raises(ValueError, match=r"prediction 'flow' needs a schedule: \{name: flow\}"):
        ModelFacts.of_card({"prediction": "flow", "preconditioning": {"name": "edm"}})
    with pytest.raises(ValueError, match="prediction 'noise' is not allowed on a schedule with rescale_betas_zero_snr"):
        models.of_card({"prediction": "noise", "schedule": {"name": "linear", "rescale_betas_zero_snr": True}}, Known())
    learned = {"options": {"config": {"time_embedding_type": "learned", "num_train_timesteps": 1000}}}
    with pytest.raises(ValueError, match="the network has embeddings of whole times alone"):
        ModelFacts.of_card({"prediction": "flow", "schedule": {"name": "flow"}, "network": learned})
    with pytest.raises(ValueError, match="prediction 'data' needs a preconditioning; allowed on a schedule: 'noise', "):
        models.of_card({"prediction": "data", "schedule": {"name": "linear"}}, Known())


@pytest.mark.parametrize("prediction", ["data", *ON_A_SCHEDULE])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
def test_batches_give_the_same_bits_and_are_no_larger_than_asked(prediction, batch_size):
    whole, parts, sigma = Known(), Known(), torch.tensor(1.5)
    expected = wrapped(prediction, whole)(IMAGES, sigma)
    result = wrapped(prediction, parts, batch_size=batch_size)(IMAGES, sigma)
    assert torch.equal(result, expected)
    assert len(whole.inputs) == 1
    sizes = [len(x) for x in parts.inputs]
    assert sum(sizes) == 5
    assert max(sizes) <= batch_size
    assert len(sizes) == math.ceil(5 / batch_size)


@pytest.mark.parametrize("prediction", ["data", *ON_A_SCHEDULE])
@pytest.mark.parametrize("network_dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_runs_in_its_own_precision_and_the_result_has_that_of_the_state(prediction, network_dtype, dtype):
    known = Known(dtype=network_dtype)
    result = wrapped(prediction, known)(IMAGES.to(dtype), torch.tensor(1.0))
    assert known.inputs[0].dtype == network_dtype
    assert known.conditions[0].dtype == torch.float32  # half precision cannot tell times such as 998 and 999 apart
    assert result.dtype == dtype
    exact = wrapped(prediction, Known())(IMAGES, torch.tensor(1.0))
    torch.testing.assert_close(result.double(), exact, rtol=1e-2, atol=2e-2 * float(exact.abs().max()))


@pytest.mark.parametrize("prediction", ["data", *ON_A_SCHEDULE])
def test_a_network_of_higher_precision_than_the_state_leaves_the_state_its_dtype(prediction):
    assert wrapped(prediction, Known())(IMAGES.float(), torch.tensor(1.0)).dtype == torch.float32


@pytest.mark.parametrize("prediction", ["data", *ON_A_SCHEDULE])
def test_the_state_is_left_as_it_was(prediction):
    x = IMAGES.clone()
    wrapped(prediction, Known(), batch_size=2)(x, torch.tensor(1.0))
    assert torch.equal(x, IMAGES)


def test_networks_are_used_for_inference_alone():
    known = Known()
    known.train()
    result = DataPrediction(known, sigma_data=0.5)(IMAGES.clone().requires_grad_(True), torch.tensor(1.0))
    assert not known.training
    assert not known.gain.requires_grad
    assert not result.requires_grad


def test_what_a_model_says_of_itself_and_a_plain_function_leaves_out():
    noise, data = NoisePrediction(Known(), schedule=LINEAR), DataPrediction(Known(), sigma_data=0.5)
    assert (prediction_of(noise), prediction_of(data), prediction_of(lambda x, sigma: x)) == ("noise", "data", "data")
    assert prior_std(noise, 3.0) == pytest.approx(math.sqrt(10.0), rel=1e-15)
    assert prior_std(data, 3.0) == prior_std(lambda x, sigma: x, 3.0) == 3.0
    assert noise.schedule is LINEAR
    assert data.schedule is None
    own = ModelFacts.of(lambda x, sigma: x)
    assert (own.prediction, own.schedule, own.sigma_max, own.classes) == ("data", None, None, None)
