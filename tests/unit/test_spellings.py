"""Predictions and schedules in diffusers' words and in this project's."""

import numpy as np
import pytest
import torch

import dode
from checkouts import SCHEDULER, Checkout
from dode import sampling
from dode.benchmark.dependencies import computed
from dode.fetching.cards import ConfigError, load_card
from dode.grids import spellings
from dode.grids.facts import ModelFacts
from dode.grids.schedules import schedules
from dode.models.hub import repository

CARD = {
    "role": "diffusion",
    "urls": ["https://example.org/model.safetensors"],
    "licence": "none",
    "image_shape": [1, 8, 8],
    "network": {"name": "residual-mlp", "options": {"image_shape": [1, 8, 8]}},
}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.parametrize(("theirs", "ours"), spellings.PREDICTIONS.items())
def test_a_card_is_the_same_in_both_spellings_of_its_prediction(checkout, theirs, ours):
    schedule = {"name": "flow" if ours == "flow" else "linear"}
    first, second = (checkout.read(CARD | {"prediction": name, "schedule": schedule}) for name in (theirs, ours))
    assert computed(first) == computed(second)
    assert first["prediction"] == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"name": "squaredcos_cap_v2"}, {"name": "cosine", "steps": 1000}),
        ({"name": "squaredcos_cap_v2", "steps": 500}, {"name": "cosine", "steps": 500}),
        (
            {"name": "squaredcos_cap_v2", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02},
            {"name": "cosine", "steps": 1000},
        ),
        (
            {"name": "scaled_linear", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012},
            {"name": "scaled_linear", "steps": 1000, "beta_min": 0.00085, "beta_max": 0.012},
        ),
        ({"name": "sigmoid", "beta_end": 0.03}, {"name": "sigmoid", "beta_max": 0.03}),
        ({"name": "cosine", "num_train_timesteps": 100}, {"name": "cosine", "steps": 100}),
    ],
)
def test_a_card_is_the_same_in_both_spellings_of_its_schedule(checkout, theirs, ours):
    first, second = (checkout.read(CARD | {"prediction": "noise", "schedule": own}) for own in (theirs, ours))
    assert computed(first) == computed(second)
    assert first["schedule"] == ours
    made, other = schedules.create(**theirs), schedules.create(**ours)
    np.testing.assert_array_equal(made.alphas_cumprod, other.alphas_cumprod)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ({"name": "linear", "steps": 9, "num_train_timesteps": 9}, "num_train_timesteps is diffusers' name of steps"),
        ({"name": "linear", "beta_min": 0.1, "beta_start": 0.1}, "beta_start is diffusers' name of beta_min"),
        ({"name": "cosine", "beta_end": 0.02}, "schedule 'cosine': unknown option 'beta_end'"),
        ({"name": "squaredcos"}, "unknown schedule 'squaredcos'"),
        ({"steps": 9}, "the key 'name' is missing"),
        ({"name": ["linear"]}, "schedule.name: ['linear'] is not allowed"),
    ],
)
def test_what_is_neither_is_refused(checkout, schedule, says):
    assert says in checkout.refusal(CARD | {"prediction": "noise", "schedule": schedule})


@pytest.mark.parametrize("prediction", ["epsilom", ["epsilon"], 3, None])
def test_a_prediction_that_is_neither_is_refused(checkout, prediction):
    card = CARD | {"prediction": prediction, "schedule": {"name": "linear"}}
    assert "prediction: " in checkout.refusal(card)


@pytest.mark.parametrize(("theirs", "ours"), [("squaredcos_cap_v2", "cosine"), ("sigmoid", "sigmoid")])
def test_the_configuration_of_a_scheduler_may_have_ours(theirs, ours):
    first, second = (repository.trained(SCHEDULER | {"beta_schedule": name}) for name in (theirs, ours))
    assert first == second


@pytest.mark.parametrize(("theirs", "ours"), spellings.PREDICTIONS.items())
def test_facts_know_both(theirs, ours):
    schedule = schedules.create("flow" if ours == "flow" else "linear")
    assert ModelFacts(theirs, schedule=schedule).prediction == ours
    assert repository.trained(SCHEDULER | {"prediction_type": ours})["prediction"] == ours


def test_evaluations_take_both():
    fit = {"lambdas": torch.tensor([[0.5]]), "directions": {"differences": 0, "drift": True, "outputs": "noise"}}
    ends = []
    for name in ("epsilon", "noise"):
        run = sampling.evaluations(
            dode.solvers.create("ddim"), torch.ones(1, 1, 2, 2), [10.0, 0.0], prediction=name, **fit
        )
        next(run)
        with pytest.raises(StopIteration) as ended:
            run.send(torch.zeros(1, 1, 2, 2))
        ends.append(ended.value.value)
    assert torch.equal(*ends)


def test_a_card_must_be_a_mapping(checkout):
    (checkout.folder / "mine.yaml").write_text("- role\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .* is not allowed; allowed: a value of type object"):
        load_card(checkout.root, "mine", "card")
