"""Autoguidance: away from a worse model of the same images, in Python and as a benchmark's configuration says it."""

import pytest
import torch
import yaml

from dode import models
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.fetching.cards import load_card
from dode.models.guidance import Autoguidance
from dode.models.predictions import DataPrediction
from dode.validation import ConfigError
from workspace import REPOSITORY, TINY


class ByClass(torch.nn.Module):
    """F of a model whose images are ``factor`` times one more than their class."""

    def __init__(self, factor, classes):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))
        self.classes = classes

    def forward(self, x, condition, labels=None):
        which = torch.zeros(len(x)) if labels is None else labels
        return x + self.factor * (1 + which.view(-1, 1, 1, 1))


def model(factor, classes=None):
    return DataPrediction(ByClass(factor, classes), sigma_data=0.5, classes=classes)


@pytest.mark.parametrize("of_guide", [None, 3])
def test_the_estimate_moves_away_from_the_guides(of_guide):
    """``D_guide + w (D - D_guide)`` (Karras et al. 2024, arXiv 2406.02507); a guide may know no classes."""
    main, guide = model(1.0, classes=3), model(0.2, classes=of_guide)
    x, sigma, labels = (
        torch.randn(4, 1, 2, 2, dtype=torch.float64),
        torch.tensor(0.7, dtype=torch.float64),
        [0, 2, 1, 2],
    )
    own, other = main.conditioned(labels)(x, sigma), (guide.conditioned(labels) if of_guide else guide)(x, sigma)
    assert not torch.equal(own, other)
    for scale in (0.0, 1.0, 2.5):
        guided = Autoguidance(main, scale=scale, guide=guide).conditioned(labels)
        torch.testing.assert_close(guided(x, sigma), other + scale * (own - other))
        assert torch.equal(guided(x, sigma), own) == (guided.passes(0.7) == 1) == (scale == 1)
        torch.testing.assert_close(guided.for_images(1, 3)(x[1:3], sigma), (other + scale * (own - other))[1:3])
    assert guided.facts is main.facts
    with pytest.raises(ValueError, match="conditioned"):
        Autoguidance(main, scale=2.0, guide=guide)(x, sigma)


def test_models_without_classes_guide_one_another():
    main, guide = model(1.0), model(0.2)
    x, sigma = torch.randn(4, 1, 2, 2, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    guided = Autoguidance(main, scale=2.0, guide=guide)(x, sigma)
    torch.testing.assert_close(guided, 2 * main(x, sigma) - guide(x, sigma))


def test_cards_become_a_guided_model():
    cards = {name: load_card(REPOSITORY, name, "card") for name in ("digits-edm", "digits-ddpm")}
    paths = {name: REPOSITORY / f"config/models/{name}.safetensors" for name in cards}
    guidance = {"name": "autoguidance", "scale": 1.5, "guide": cards["digits-ddpm"]}
    guided = models.load(cards["digits-edm"], paths["digits-edm"], guidance=guidance, guide=paths["digits-ddpm"])
    x, sigma = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    own, other = (models.load(card, paths[name])(x, sigma) for name, card in cards.items())
    torch.testing.assert_close(guided(x, sigma), 1.5 * own - 0.5 * other)


def benchmark(**guidance):
    config = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    dataset = config["datasets"][0]
    dataset["guidance"] = {"name": "autoguidance", "scale": 1.5, **guidance}
    return Benchmark(config, REPOSITORY), dataset["id"], dataset["model"]


def test_a_benchmark_has_the_guide_among_its_inputs_and_parameters():
    own, dataset, name = benchmark(guide="digits-ddpm")
    cell = own.cells_of(dataset)[0]
    assert name != "digits-ddpm"
    assert Files(own).prepared(cell)["guide"] == "resources/checkpoints/digits-ddpm/digits-ddpm.safetensors"
    trajectory = Dependencies(own).trajectory(cell)
    assert trajectory.guidance["guide"]["network"]["name"] == "residual-mlp-velocity"
    assert trajectory.guidance["guide"].keys().isdisjoint({"urls", "licence"})
    assert Dependencies(own).cell_code("sample.py", cell) != Dependencies(own).code("sample.py")


@pytest.mark.parametrize(
    ("guidance", "says"),
    [
        ({}, r"guidance\.guide: the key is missing; it names a card with the role diffusion"),
        (
            {"guide": "digits-edm"},
            r"guidance\.guide: 'digits-edm' is the model itself, which guides nowhere",
        ),
        ({"guide": "digits-classifier"}, "has the role 'features', not 'diffusion'"),
        ({"guide": "mnist-ddpm"}, r"its images are \[1, 28, 28\], but the model's \[1, 8, 8\]"),
        ({"guide": "digits-ddpm", "classifier": "x"}, "'autoguidance' guidance uses no classifier"),
        ({"guide": "digits-ddpm", "name": "classifier-free"}, "'classifier-free' guidance uses no guide"),
        ({"name": "classifier-free"}, "has no classes"),
        ({"guide": "digits-ddpm", "scale": float("inf")}, "scale: inf is not allowed"),
    ],
)
def test_what_cannot_guide_is_refused(guidance, says):
    with pytest.raises(ConfigError, match=says):
        benchmark(**guidance)
