"""What diffusers' files say of flow matching and of zero terminal SNR: cards take it, or are held against it."""

import json

import pytest
import torch

from checkouts import Checkout
from dode import models
from dode.benchmark.cells import Benchmark
from dode.grids.facts import ModelFacts
from dode.solvers.formulas import PURE_NOISE
from dode.validation import ConfigError

schedulers = pytest.importorskip("diffusers.schedulers")

EULER, HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
EDM = {"preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_min": 0.002, "sigma_max": 80.0}
BY_OPTION = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
MULTISTEP = {"_class_name": "DPMSolverMultistepScheduler", **BY_OPTION}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def config(name, **options):
    """A configuration as diffusers saves it."""
    return json.loads(getattr(schedulers, name)(**options).to_json_string())


def of_file(checkout, scheduler):
    """A card of a folder whose ``scheduler_config.json`` has these values alone."""
    card = checkout.downloaded()
    (checkout.root / "downloaded" / "scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    return card


@pytest.mark.parametrize(
    ("scheduler", "steps", "grid"),
    [
        (config(EULER, shift=3.0), 1000, {"name": "flow-linear", "options": {"shift": 3.0}}),
        (config(HEUN, num_train_timesteps=500), 500, {"name": "flow-linear", "options": {"shift": 1.0}}),
        ({"_class_name": EULER}, 1000, {"name": "flow-linear", "options": {"shift": 1.0}}),
        (config(EULER, use_dynamic_shifting=True), 1000, None),
        (
            config(EULER, use_karras_sigmas=True),
            1000,
            {"name": "flow-karras", "options": {"sigma_min": pytest.approx(1 / 999)}},
        ),
        (config(EULER, shift_terminal=0.1), 1000, None),
        (config("FlowMatchLCMScheduler"), 1000, None),
        (
            config("UniPCMultistepScheduler", flow_shift=5.0, **BY_OPTION),
            1000,
            {"name": "sgm-uniform", "options": {"shift": 5.0}},
        ),
        (
            config("DPMSolverMultistepScheduler", flow_shift=3.0, **BY_OPTION),
            1000,
            {"name": "flow-linear", "options": {"shift": 3.0, "spacing": "trailing", "sigma_max": 2997.0}},
        ),
        (config("DPMSolverMultistepScheduler", use_karras_sigmas=True, **BY_OPTION), 1000, None),
        (config("DPMSolverMultistepScheduler", use_beta_sigmas=True, **BY_OPTION), 1000, None),
        (config("DEISMultistepScheduler", **BY_OPTION), 1000, None),
        (config("DPMSolverMultistepScheduler", use_lu_lambdas=True, **BY_OPTION), 1000, None),
    ],
)
def test_a_flow_card_takes_what_it_leaves_out(checkout, scheduler, steps, grid):
    card = checkout.read(of_file(checkout, scheduler))
    assert card["prediction"] == "flow"
    assert card["schedule"] == {"name": "flow", "steps": steps}
    assert card.get("sampling", {}).get("grid") == grid
    denoise = models.load(card, card["urls"][0].removeprefix("file:"))
    assert denoise(torch.zeros(2, 3, 8, 8), torch.tensor(1.0)).shape == (2, 3, 8, 8)
    assert denoise.facts.said()["prior_std at sigma = 1"] == 2.0
    assert checkout.read(card) == card


def test_the_grid_of_a_card_is_its_own(checkout):
    mine = {"name": "karras", "options": {}}
    card = {**of_file(checkout, config(EULER, shift=3.0)), "sampling": {"grid": mine, "fit_images": 50}}
    assert checkout.read(card)["sampling"] == {"grid": mine, "fit_images": 50}
    complete = {**checkout.read(card), "sampling": {"fit_images": 50}}
    grid = {"name": "flow-linear", "options": {"shift": 3.0}}
    assert checkout.read(complete)["sampling"] == {"grid": grid, "fit_images": 50}


@pytest.mark.parametrize(
    ("own", "scheduler", "says"),
    [
        ({"prediction": "noise", "schedule": {"name": "linear"}}, config(EULER), f"noise, but {{}} is of {EULER}"),
        ({"prediction": "v", "schedule": {"name": "linear"}}, MULTISTEP, "prediction: v, but {} says flow_prediction"),
        ({"prediction": "flow", "schedule": {"name": "flow"}}, {}, "prediction: flow, but {} says epsilon"),
        (
            {"schedule": {"name": "flow", "steps": 500}},
            config(EULER),
            "schedule: {{'name': 'flow', 'steps': 500}}, but {} says {{'name': 'flow', 'steps': 1000}}",
        ),
        ({}, config(EULER, invert_sigmas=True), "but {} says invert_sigmas: True, which is another one"),
        (
            {"prediction": "noise", "schedule": {"name": "linear"}},
            {"_class_name": "DDPMScheduler", "use_flow_sigmas": True},
            "but {} says use_flow_sigmas: True, which is another one",
        ),
        (
            {**EDM, "prediction": "data"},
            config(EULER),
            f"prediction: data, but {{}} is of {EULER}",
        ),
        ({}, {**MULTISTEP, "prediction_type": ["epsilon"]}, "{}: unhashable type: 'list'"),
        ({}, {**config(EULER), "shift": "3"}, "{}: shift must be a finite number above 0, not '3'"),
        ({}, {**config(HEUN), "shift": 0}, "{}: shift must be a finite number above 0, not 0"),
        ({}, {**MULTISTEP, "flow_shift": True}, "{}: flow_shift must be a finite number above 0, not True"),
        ({}, {**config(EULER), "num_train_timesteps": "1000"}, "{}: steps of a schedule must be an integer of at le"),
        (
            {"prediction": "flow", "schedule": {"name": "flow"}, "sampling": {"grid": {"name": "karras"}}},
            {**config(EULER), "num_train_timesteps": None},
            "{}: steps of a schedule must be an integer of at least 2, not None",
        ),
    ],
)
def test_a_card_that_contradicts_a_scheduler_is_refused(checkout, own, scheduler, says):
    sentence = checkout.refusal({**of_file(checkout, scheduler), **own})
    assert says.format("scheduler_config.json beside the weights") in sentence, sentence


ZERO = {"name": "scaled_linear", "steps": 1000, "beta_min": 0.00085, "beta_max": 0.012, "rescale_betas_zero_snr": True}
DDIM = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def test_a_card_takes_zero_terminal_snr(checkout):
    card = checkout.read(of_file(checkout, config("DDIMScheduler", rescale_betas_zero_snr=True, **DDIM)))
    assert (card["prediction"], card["schedule"]) == ("v", ZERO)
    assert card["sampling"]["grid"] == {"name": "timesteps", "options": {"spacing": "leading"}}
    assert ModelFacts.of_card(card).schedule.noisiest >= PURE_NOISE
    complete = checkout.read(card)
    assert complete == card
    for rescaled in (False, True):
        scheduler = config("DDIMScheduler", rescale_betas_zero_snr=rescaled, **DDIM)
        mine = {key: value for key, value in ZERO.items() if key != "rescale_betas_zero_snr" or not rescaled}
        sentence = checkout.refusal({**of_file(checkout, scheduler), "prediction": "v", "schedule": mine})
        said = sentence.split(", but scheduler_config.json beside the weights says ")
        assert ["rescale_betas_zero_snr" in part for part in said] == [not rescaled, rescaled]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rescale_betas_zero_snr": "yes"}, "'rescale_betas_zero_snr' must be true or false, not 'yes'"),
        ({"rescale_betas_zero_snr": 1}, "'rescale_betas_zero_snr' must be true or false, not 1"),
    ],
)
def test_a_bad_zero_terminal_snr_is_refused(checkout, changes, says):
    scheduler = config("DDIMScheduler", rescale_betas_zero_snr=True, **DDIM)
    assert says in checkout.refusal(of_file(checkout, {**scheduler, **changes}))


def test_a_prediction_of_noise_at_zero_terminal_snr_is_refused(checkout):
    scheduler = config("DDIMScheduler", rescale_betas_zero_snr=True, **DDIM)
    checkout.read(of_file(checkout, {**scheduler, "prediction_type": "epsilon"}))
    benchmark = {
        "benchmark": "b",
        "datasets": [{"id": "d", "model": "mine", "data": "digits", "grid": {"name": "uniform-index"}}],
        "solvers": [{"id": "ddim", "solver": "ddim", "nfe": [5]}],
    }
    said = r"^datasets\[0\].model: prediction 'noise' is not allowed on a schedule with rescale_betas_zero_snr"
    with pytest.raises(ConfigError, match=said):
        Benchmark(benchmark, checkout.root)
