"""A result as the scheduler of a pipeline that begins at pure noise: flow matching, and zero terminal SNR."""

import functools
import json

import diffusers
import numpy as np
import pytest
import torch

import dode
import sampler_records
from dode import grids, models, solvers
from dode.diffusers_scheduler import DodeScheduler
from dode.directions import Directions
from dode.grids.facts import ModelFacts
from dode.solvers.formulas import PURE_NOISE

SHAPE = (4, 4, 4)
CLOSE = {"rtol": 0, "atol": 1e-6}
FLOW = {"prediction": "flow", "schedule": {"name": "flow"}}
ZERO_SNR = {"prediction": "v", "schedule": {"name": "linear", "rescale_betas_zero_snr": True}}
CASES = {
    "ddim": ("ddim", {}, 5),
    "ipndm, distilled": ("ipndm", {}, 5),
    "heun, two evaluations a step": ("heun", {}, 9),
    "flow-midpoint, with inner stages": ("flow-midpoint", {}, 7),
    "unipc, whose state is corrected": ("unipc", {}, 5),
}
CONFIGURATIONS = {
    "euler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "euler with a dynamic shift": diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    "heun": diffusers.FlowMatchHeunDiscreteScheduler(),
    "lcm": diffusers.FlowMatchLCMScheduler(),
    "dpm-solver": diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    ),
    "unipc": diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
}


class Network(torch.nn.Linear):
    """Any function of state and time."""

    def __init__(self):
        super().__init__(1, 1, dtype=torch.float64)

    def forward(self, x, time):
        return torch.tanh(0.7 * x + 0.2) - x * torch.as_tensor(time, dtype=torch.float64) / 2000


def record(solver, options, nfe, model, *, distilled=False):
    """The contents of a result's file on the whole range of a model, pure noise included."""
    made, facts = solvers.create(solver, **options), ModelFacts.of_card(model)
    own = {"lambdas": None, "directions": None}
    if distilled:
        directions = Directions(differences=2, drift=True, outputs="noise", from_noise=True)
        lambdas = 0.02 * np.cos(np.arange(nfe * 3)).reshape(nfe, 3)
        lambdas[0, 1] = 0
        own = {"lambdas": lambdas.tolist(), "directions": directions.said()}
    name = "flow-linear" if model is FLOW else "uniform-index"
    sigmas = grids.for_facts(facts, name, made.steps(nfe))
    how = {"version": 3, "grid": name, "sigmas": sigmas, "own": own, "model": model, "shape": SHAPE}
    return sampler_records.of(solver, options, nfe, **how)


noise = functools.partial(sampler_records.noise, SHAPE)


def stepped(scheduler, network, latents, **options):
    """The loop of flow-matching pipelines, which knows neither init_noise_sigma nor scale_model_input."""
    scheduler.set_timesteps(**options)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(network(latents, timestep), timestep, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("model", [FLOW, ZERO_SNR], ids=["flow", "zero-snr"])
@pytest.mark.parametrize("case", CASES)
def test_steps_make_what_the_library_makes(case, model):
    solver, options, nfe = CASES[case]
    made = record(solver, options, nfe, model, distilled="distilled" in case)
    assert made["sigmas"][0] == pytest.approx(PURE_NOISE)
    config = CONFIGURATIONS["euler"].config
    if model is ZERO_SNR:
        config = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction").config
    scheduler = DodeScheduler.from_config(config, result=made)
    assert (scheduler.init_noise_sigma, float(scheduler.timesteps[0])) == (1, 1000 if model is FLOW else 999)
    expected = dode.load(made).sample(models.of_card(model, Network()), noise(1))
    torch.testing.assert_close(stepped(scheduler, Network(), noise(1)), expected, **CLOSE)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_of_flow_matching_are_taken_and_kept(name, tmp_path):
    """What pipelines read from them is still there, and another scheduler can take the place again."""
    other, made = CONFIGURATIONS[name], record("ddim", {}, 5, FLOW)
    other.save_pretrained(tmp_path / "theirs")
    saved = json.loads((tmp_path / "theirs/scheduler_config.json").read_text())
    read = {key: value for key, value in saved.items() if not key.startswith("_")}
    own = DodeScheduler.from_config(saved, result=made)
    own.save_pretrained(tmp_path / "own")
    again = DodeScheduler.from_pretrained(tmp_path / "own")
    for scheduler in (DodeScheduler.from_config(other.config, result=made), own, again):
        expected = dode.load(made).sample(models.of_card(FLOW, Network()), noise(2))
        torch.testing.assert_close(stepped(scheduler, Network(), noise(2)), expected, **CLOSE)
        assert {key: scheduler.config[key] for key in read} == read
    theirs = type(other).from_config(again.config).config
    assert {key: theirs[key] for key in read} == read
    torch.testing.assert_close(DodeScheduler.from_config(own.config).timesteps, own.timesteps)


def test_euler_in_time_is_that_of_diffusers():
    """DDIM in sigma, on the grid that the scheduler would have made."""
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    made = record("ddim", {}, 6, FLOW)
    made["sigmas"] = grids.for_facts(ModelFacts.of_card(FLOW), "flow-linear", 6, shift=3.0).tolist()
    ours = DodeScheduler.from_config(theirs.config, result=made)
    found = stepped(ours, Network(), noise(3).float(), num_inference_steps=6)
    expected = stepped(theirs, Network(), noise(3).float(), num_inference_steps=6)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(ours.sigmas.float(), theirs.sigmas, rtol=0, atol=1e-5)


def test_what_flow_pipelines_give_in_place_of_a_number(caplog):
    """Of their times and their shift nothing is used; another number than the result's is refused before any work."""
    scheduler = DodeScheduler.from_config(CONFIGURATIONS["euler"].config, result=record("ddim", {}, 5, FLOW))
    own = scheduler.timesteps.clone()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 5, 5), mu=0.8, device="cpu")
    assert torch.equal(scheduler.timesteps, own)
    assert not caplog.records
    scheduler.set_timesteps(5, sigmas=[1.0, 0.9, 0.5, 0.2, 0.1])
    assert torch.equal(scheduler.timesteps, own)
    assert "sigmas: they are not used" in caplog.text
    for options in ({"sigmas": np.linspace(1.0, 1 / 28, 28)}, {"num_inference_steps": 28}):
        with pytest.raises(ValueError, match="num_inference_steps: the result has 5 network evaluations, not 28"):
            scheduler.set_timesteps(**options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_noise_is_scaled_as_diffusers_scales_it(dtype):
    theirs = diffusers.FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(5)
    ours = DodeScheduler.from_config(theirs.config, result=record("ddim", {}, 5, FLOW))
    images, drawn, times = noise(1).to(dtype), noise(2).to(dtype), theirs.timesteps[[0, 2, 4]]
    found = ours.scale_noise(images, times, drawn)
    assert found.dtype == dtype
    expected = theirs.scale_noise(images.double(), times, drawn.double()).to(dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=max(1e-5, 2 * torch.finfo(dtype).eps))
    begun = ours.scale_noise(images, ours.timesteps[:1], drawn)  # the run's own first state is pure noise
    torch.testing.assert_close(begun, drawn, rtol=0, atol=max(1e-6, torch.finfo(dtype).eps))
    with pytest.raises(ValueError, match="timestep: 1001 is outside of the model's schedule of 1000 steps"):
        ours.scale_noise(images, torch.tensor([1001]), drawn)


def test_latents_in_rows_of_patches_are_those_of_the_images():
    """FLUX's pipeline packs 2 x 2 pixels of every channel into one row; solvers do the same to every entry."""
    made = record("ipndm", {}, 5, FLOW, distilled=True)
    scheduler = DodeScheduler.from_config(CONFIGURATIONS["euler with a dynamic shift"].config, result=made)

    def packed(x):
        return x.view(len(x), 4, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(len(x), 4, 16)

    found = stepped(scheduler, Network(), packed(noise(4)))
    expected = dode.load(made).sample(models.of_card(FLOW, Network()), noise(4))
    torch.testing.assert_close(found, packed(expected), **CLOSE)
    with pytest.raises(ValueError, match=r"the fit is of a model of images \(4, 4, 4\), not of \(9, 16\)"):
        stepped(scheduler, Network(), torch.randn(2, 9, 16))


@pytest.mark.parametrize("family", ["levels", "told", "general"])
def test_a_joint_fit_of_flow_matching_begins_with_what_pipelines_give(family):
    """The noise itself at the time of the first state, whatever else is free."""
    denoise = models.of_card(FLOW, Network())
    sigmas = grids.for_model(denoise, "flow-linear", 4)
    fit = dode.distill(solvers.create("ipndm"), denoise, noise(5, 48), sigmas, family=family, budget=20_000)
    assert fit.family in {"levels", family}
    student = fit.student
    assert student.evaluated_levels()[0] == pytest.approx(float(student.sigmas[0]), rel=1e-12)
    general = student.lambdas is None
    made = record("ddim", {}, 4, FLOW) | {"sigmas": torch.as_tensor(student.sigmas, dtype=torch.float64).tolist()}
    if general:
        made |= {"solver": {"name": "non-stationary", "options": {}}, "told": student.told.tolist()}
        made["coefficients"] = student.solver.options["coefficients"]
    else:
        made |= {"solver": {"name": "ipndm", "options": {}}, "lambdas": student.lambdas.tolist()}
        made |= {"directions": student.directions.said()}
        made |= {} if student.told is None else {"told": student.told.tolist()}
    scheduler = DodeScheduler.from_config(CONFIGURATIONS["euler"].config, result=made)
    found = stepped(scheduler, Network(), noise(6))
    torch.testing.assert_close(found, student.sample(denoise, noise(6)), **CLOSE)
    if general:
        made["told"][0] *= 1.5
        scheduler = DodeScheduler.from_config(CONFIGURATIONS["euler"].config, result=made)
        with pytest.raises(ValueError, match="does not call scale_model_input; allowed here: a plain solver, or a fit"):
            stepped(scheduler, Network(), noise(6))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True).config, "invert_sigmas: .* has True, .* not of"),
        (diffusers.PiflowScheduler().config, "of another family"),
        ({"_class_name": "FlowMapEulerDiscreteScheduler", "shift": 1.0}, "of another family"),
        ({**diffusers.FlowMatchEulerDiscreteScheduler().config, "num_train_timesteps": 1}, "num_train_timesteps: 1 is"),
    ],
)
def test_configurations_of_networks_that_are_called_otherwise_are_refused(config, said):
    with pytest.raises(ValueError, match=said):
        DodeScheduler.from_config(config, result=record("ddim", {}, 5, FLOW))


def test_a_result_of_another_kind_of_model_is_refused():
    flow, noisy = record("ipndm", {}, 5, FLOW, distilled=True), record("ipndm", {}, 5, ZERO_SNR, distilled=True)
    with pytest.raises(ValueError, match="the fit is of a model with prediction v, not of one with flow"):
        DodeScheduler.from_config(CONFIGURATIONS["euler"].config, result=noisy)
    with pytest.raises(ValueError, match=r"calls the network at the noise level 1\.67772e\+07, but the model"):
        DodeScheduler.from_config(diffusers.DDIMScheduler().config, result=flow)
    with pytest.raises(ValueError, match="unknown kind 'epsilon'; known: flow_prediction"):
        DodeScheduler(flow, use_flow_sigmas=True)
