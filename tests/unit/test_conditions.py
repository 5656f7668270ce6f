"""What images are conditioned on, and guidance towards it, on a network that says what it was given."""

import itertools

import pytest
import torch

from dode.grids.facts import ModelFacts
from dode.grids.schedules import schedules
from dode.models.conditions import Conditions
from dode.models.denoiser import Denoiser
from dode.models.guidance import ClassifierFree, passes
from dode.models.predictions import FlowPrediction, NoisePrediction, VelocityPrediction

LINEAR = schedules.create("linear", steps=1000)


class Worded(torch.nn.Module):
    """A network of words: output = x * scale of the image + mean of its words."""

    conditioned_on = ("words", "scale")

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.calls = []

    def forward(self, x, time, *, words, scale):
        self.calls.append(len(x))
        return self.weight * x * scale[:, None, None, None] + words.mean((1, 2))[:, None, None, None]


def conditions(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(count, 3, 4, generator=generator, dtype=torch.float64)
    scale = torch.rand(count, generator=generator, dtype=torch.float64)
    return Conditions({"words": words, "scale": scale}, {"words": torch.zeros_like(words), "scale": scale})


def states(count):
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def model(kind=FlowPrediction, **options):
    schedule = schedules.create("flow") if kind is FlowPrediction else LINEAR
    return kind(Worded(), schedule=schedule, **options)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 7])
def test_each_image_has_its_own_conditions_in_every_batch(batch_size):
    own, x, sigma = conditions(7), states(7), torch.tensor(2.0).double()
    whole = model().conditioned(own)(x, sigma)
    denoise = model(batch_size=batch_size).conditioned(own)
    assert torch.equal(denoise(x, sigma), whole)
    assert torch.equal(denoise.for_images(2, 5)(x[2:5], sigma), whole[2:5])
    alone = [model().conditioned(own.part(i, i + 1))(x[i : i + 1], sigma) for i in range(7)]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [FlowPrediction, NoisePrediction, VelocityPrediction])
def test_the_output_is_what_the_network_gave(kind):
    denoise, x = model(kind).conditioned(conditions(3)), states(3)
    denoised = denoise(x, torch.tensor(2.0).double())
    output = denoise.output(x, 2.0, denoised)
    scaled = x / 3 if kind is FlowPrediction else x / 5**0.5
    torch.testing.assert_close(output, denoise.network(scaled, None, **denoise.conditions.values))
    torch.testing.assert_close(denoise.estimated(x, 2.0, output), denoised)


@pytest.mark.parametrize("kind", [FlowPrediction, VelocityPrediction])
def test_guidance_is_that_of_the_networks_outputs(kind):
    """With the formulas of Ho & Salimans 2022 and of Lin et al. 2024, Eq. 15 and 16, on the outputs themselves."""
    own, x, sigma = conditions(4), states(4), torch.tensor(2.0).double()
    plain = model(kind).conditioned(own)
    with_, none = (
        plain.network(x / (3 if kind is FlowPrediction else 5**0.5), None, **each) for each in (own.values, own.without)
    )
    guided = none + 3.0 * (with_ - none)
    spread = [each.flatten(1).std(1)[:, None, None, None] for each in (with_, guided)]
    for rescale in (0.0, 0.7):
        expected = rescale * guided * spread[0] / spread[1] + (1 - rescale) * guided
        found = ClassifierFree(model(kind), scale=3.0, rescale=rescale).conditioned(own)(x, sigma)
        torch.testing.assert_close(found, plain.estimated(x, 2.0, expected))


def test_outside_of_its_interval_guidance_costs_nothing_and_does_nothing():
    own, x = conditions(4), states(4)
    denoise = ClassifierFree(model(), scale=3.0, interval=(0.5, 2.0)).conditioned(own)
    for sigma, count in ((0.5, 1), (0.51, 2), (2.0, 2), (2.01, 1)):
        denoise.model.network.calls.clear()
        found = denoise(x, torch.tensor(sigma, dtype=torch.float64))
        assert (denoise.passes(sigma), denoise.model.network.calls) == (count, [4 * count])
        alone = denoise.model(x, torch.tensor(sigma, dtype=torch.float64))
        assert torch.equal(found, alone) == (count == 1)
    assert [passes(name, 1.0) for name in (None, "classifier", "classifier-free", "autoguidance")] == [1, 1, 2, 2]


def test_guidance_of_scale_1_is_the_conditional_model_and_costs_no_more():
    own, x, shared = conditions(4), states(4), torch.tensor(1.0, dtype=torch.float64)
    for rescale, sigma in itertools.product((0.0, 0.7), (shared, shared.expand(4, 1, 1, 1))):
        denoise = ClassifierFree(model(), scale=1.0, rescale=rescale).conditioned(own)
        denoise.model.network.calls.clear()
        found = denoise(x, sigma)
        assert (denoise.passes(1.0), denoise.model.network.calls) == (1, [4])
        assert torch.equal(found, denoise.model(x, sigma))
    assert [passes(name, 1.0, scale=1.0) for name in ("classifier-free", "autoguidance")] == [1, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interval": (2.0, 0.5)}, r"interval of guidance must be two noise levels, 0 <= low < high, not \[2.0, 0.5\]"),
        ({"interval": (1.0,)}, r"not \[1.0\]"),
        ({"rescale": 1.5}, "rescale of guidance must be from 0 to 1, not 1.5"),
    ],
)
def test_bad_guidance_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ClassifierFree(model(), scale=2.0, **options)


def test_what_does_not_fit_is_refused():
    own, x, sigma = conditions(3), states(3), torch.tensor(2.0)
    with pytest.raises(ValueError, match="conditioned on words, scale: bind it to them first"):
        model()(x, sigma)
    with pytest.raises(ValueError, match="bound to the conditions of 3 images but called with 2"):
        model().conditioned(own)(x[:2], sigma)
    with pytest.raises(ValueError, match="no classes"):
        model().conditioned([0, 1, 2])
    with pytest.raises(ValueError, match="cannot be bound to conditions words, scale; it takes labels"):
        NoisePrediction(torch.nn.Linear(1, 1), schedule=LINEAR, classes=3).conditioned(own)
    with pytest.raises(ValueError, match="guidance needs the classes or prompts"):
        ClassifierFree(model(), scale=2.0)(x, sigma)
    with pytest.raises(ValueError, match="conditions that stand for none"):
        ClassifierFree(model(), scale=2.0).conditioned(Conditions(own.values))(x, sigma)
    with pytest.raises(ValueError, match=r"as many images each, but are of 3 \(words\), 2 \(scale\)"):
        Conditions({"words": own.values["words"], "scale": own.values["scale"][:2]})
    with pytest.raises(ValueError, match="at least one"):
        Conditions({})
    with pytest.raises(ValueError, match="without them words"):
        Conditions(own.values, {"words": own.values["words"]})


def test_classes_are_conditions_too():
    class Classes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.arange(4.0))

        def forward(self, x, time, labels):
            return x * 0 + self.table[labels][:, None, None, None]

    denoise = NoisePrediction(Classes(), schedule=LINEAR, classes=3).conditioned([2, 0])
    assert isinstance(denoise, Denoiser)
    assert denoise.facts == ModelFacts("noise", schedule=LINEAR, classes=3, prior_std=denoise.facts.prior_std)
    assert denoise.labels.tolist() == [2, 0]
    both = denoise.with_and_without()
    assert both.labels.tolist() == [2, 0, -1, -1]
