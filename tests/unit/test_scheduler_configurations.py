"""Which configurations of schedulers ``DodeScheduler`` takes, and in which sentence it refuses the others."""

import json
import logging
import tracemalloc

import diffusers
import numpy as np
import pytest
import torch

from dode.diffusers_scheduler import DodeScheduler
from sampler_records import of_noise_model as record


def test_a_distilled_result_of_another_model_is_refused_and_a_plain_one_is_not():
    made = record("ddim", {}, 5, sigma_max=10.0)
    for options, both in [
        ({"beta_schedule": "scaled_linear"}, "with schedule 1000 steps .* 157.4, not of one with 1000 steps .* 36.91"),
        ({"num_train_timesteps": 2000}, "with schedule 1000 steps .*, not of one with 2000 steps"),
        ({"sigma_data": 0.5}, "with prediction noise, not of one with data"),
    ]:
        with pytest.raises(ValueError, match=both):
            DodeScheduler(made, **options)
        DodeScheduler(record("ddim", {}, 5, sigma_max=10.0, distilled=False), **options)
    edm = record("ddim", {}, 5, prediction="data")
    del edm["model"]["schedule"]
    with pytest.raises(ValueError, match=r"with prior_std at sigma = 1 1, not of one with 1.41421"):
        DodeScheduler(edm)
    scheduler = DodeScheduler(made)
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"of images \(1, 8, 8\), not of \(3, 8, 8\)"):
        scheduler.step(x, scheduler.timesteps[0], x)


def test_what_does_not_fit_the_model_is_refused():
    made = record("heun", {}, 5)
    with pytest.raises(ValueError, match="unknown kind 'flow_prediction'"):
        DodeScheduler(made, prediction_type="flow")
    with pytest.raises(
        ValueError, match=r"at the noise level 80, but the model's schedule goes from 0\.01\d* to 3\.444"
    ):
        DodeScheduler(made, beta_end=0.005)
    low = record("ddim", {}, 5)
    low["sigmas"][-2] = 0.002
    with pytest.raises(ValueError, match=r"at the noise level 0\.002, but the model's schedule goes from 0\.01"):
        DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=low)
    with pytest.raises(ValueError, match="round_timesteps: under EDM's preconditioning"):
        DodeScheduler(made, sigma_data=0.5, round_timesteps=True)
    with pytest.raises(ValueError, match="needs result="):
        DodeScheduler.from_config(diffusers.DDPMScheduler().config)
    with pytest.raises(ValueError, match="prediction 'noise' is not allowed on a schedule with rescale_betas_zero_snr"):
        DodeScheduler(made, rescale_betas_zero_snr=True)


MISTYPED = {
    "result": ["/dev/zero", "/", 3, True, [], 0.5],
    "num_train_timesteps": [10**8, 10**5 + 1, 10**400, 1, -3, 0, 1000.0, "1000", True, None, [], float("nan")],
    "beta_start": [0, 1, -0.1, 2.0, 1e300, 10**400, "1e-4", None, True, [], float("nan"), float("inf")],
    "beta_end": [0, 1, 10**400, "0.02", None, {}, float("nan")],
    "beta_schedule": [None, 3, [], {}, ["linear"], "liner"],
    "trained_betas": [
        0.1,
        "0.1",
        {},
        [],
        [0.1],
        [0.1, "x"],
        [0.1, None],
        [0.1, float("nan")],
        [[0.1], [0.1]],
        [0.1, 2.0],
    ],
    "prediction_type": [None, 3, [], {}, ["epsilon"], "flow"],
    "sigma_data": [0, -0.5, True, False, "0.5", [], [0.5], {}, float("nan"), float("inf"), 1e300, 10**400],
    "rescale_betas_zero_snr": ["no", 0, None, []],
    "round_timesteps": ["no", "false", 0, 1, None, []],
    "use_flow_sigmas": ["no", 1, None, []],
}


@pytest.mark.parametrize("key", MISTYPED)
def test_a_configurations_value_of_another_kind_is_refused_in_one_sentence(key):
    made = record("ddim", {}, 2, sigma_max=10.0, distilled=False)
    for value in MISTYPED[key]:
        for make in (DodeScheduler, DodeScheduler.from_config):
            config = {"result": made, key: value}
            if make is not DodeScheduler:
                config = {**diffusers.DDPMScheduler().config, **config}
            tracemalloc.start()
            with pytest.raises(ValueError, match=f"{key}|kind |schedule|regular") as caught:
                make(**config) if make is DodeScheduler else make(config)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert len(str(caught.value)) < 600
            assert "\n" not in str(caught.value)
            assert peak < 20e6


# Of CosineDPMSolverMultistepScheduler, which needs another package.
COSINE = {"sigma_data": 1.0, "prediction_type": "v_prediction", "solver_order": 2, "sigma_schedule": "exponential"}
FAMILIES = [
    diffusers.ScoreSdeVeScheduler,
    diffusers.CMStochasticIterativeScheduler,
    diffusers.schedulers.ConsistencyDecoderScheduler,
    diffusers.IPNDMScheduler,
    diffusers.DDPMWuerstchenScheduler,
]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_of_another_family_is_refused(family, tmp_path):
    made, other = record("ddim", {}, 5, distilled=False), family()
    with pytest.raises(ValueError, match=r"of another family .* variance-preserving .* flow matching .* EDM's"):
        DodeScheduler.from_config(other.config, result=made)
    other.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    with pytest.raises(ValueError, match=f"the configuration of {family.__name__} is of another family"):
        DodeScheduler.from_config(saved, result=made)
    said = DodeScheduler.from_config(other.config, result=made, beta_schedule="linear", num_train_timesteps=1000)
    assert said.config.sigma_data is None
    assert DodeScheduler.from_config(other.config, result=made, sigma_data=0.5).config.sigma_data == 0.5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (diffusers.SCMScheduler().config, "unknown kind 'trigflow'"),
        (diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True).config, "use_flow_sigmas: .* has True"),
        (diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction").config, "unknown kind 'flow_prediction'"),
        (
            diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction").config,
            "timestep_type: the configuration has 'continuous'",
        ),
        (diffusers.CogVideoXDDIMScheduler().config, "snr_shift_scale: the configuration has 3.0"),
        ({"_class_name": "CogVideoXDDIMScheduler"}, "snr_shift_scale: .*CogVideoXDDIMScheduler has 3.0"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler", **COSINE}, "of another family"),
        (COSINE, "of another family"),
        ({"num_train_timesteps": 1000}, "the configuration is of another family"),
        ({"_class_name": "MyScheduler", "num_train_timesteps": 1000}, "the configuration of MyScheduler is of another"),
    ],
)
def test_what_a_configuration_declares_otherwise_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        DodeScheduler.from_config(config, result=record("ddim", {}, 5))


@pytest.mark.parametrize(
    ("other", "sigma_data", "betas"),
    [
        (diffusers.DDPMScheduler(), None, (0.0001, 0.02)),
        (diffusers.HeunDiscreteScheduler(), None, (0.00085, 0.012)),
        (diffusers.UniPCMultistepScheduler(), None, (0.0001, 0.02)),
        (diffusers.EDMEulerScheduler(sigma_data=1.5), 1.5, (0.0001, 0.02)),
        (diffusers.EDMDPMSolverMultistepScheduler(), 0.5, (0.0001, 0.02)),
    ],
)
def test_configurations_of_both_families_are_taken_whole(other, sigma_data, betas, tmp_path, caplog, monkeypatch):
    """With the defaults of the class where a saved one leaves them out, and no word of keys that are ignored."""
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    made = record("ddim", {}, 5, distilled=False) | {"sigmas": [10.0, 5.0, 2.0, 1.0, 0.5, 0.0]}
    own = DodeScheduler.from_config(other.config, result=made)
    own.save_pretrained(tmp_path)
    found = [own, DodeScheduler.from_config({"_class_name": type(other).__name__, **other.config}, result=made)]
    found.append(DodeScheduler.from_pretrained(tmp_path))
    if sigma_data in (None, 0.5):
        found.append(DodeScheduler.from_config({"_class_name": type(other).__name__}, result=made))
    for scheduler in found:
        assert scheduler.config.sigma_data == sigma_data
        assert (scheduler.config.beta_start, scheduler.config.beta_end) == betas
    assert "not expected" not in caplog.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sigma_data": 0}, "sigma_data: 0 is not allowed; allowed: a finite number above 0, or None"),
        ({"round_timesteps": "no"}, "round_timesteps: 'no' is not allowed; allowed: True or False"),
        ({"rescale_betas_zero_snr": "no"}, "rescale_betas_zero_snr: 'no' is not allowed; allowed: True or False"),
        ({"prediction_type": ["epsilon"]}, r"prediction_type: \['epsilon'\] is not allowed; allowed: a name"),
        ({"num_train_timesteps": 1}, "num_train_timesteps: 1 is not allowed; allowed: 2 to 100000, an integer"),
        ({"beta_start": "0.0001"}, "beta_start: '0.0001' is not allowed; allowed: a number above 0 and below 1"),
        ({"beta_end": 1.5}, r"beta_end: 1\.5 is not allowed"),
        (
            {"trained_betas": ["a", "b"]},
            r"trained_betas: \['a', 'b'\] is not allowed; allowed: 2 to 100000 numbers, or None",
        ),
        ({"trained_betas": [0.1, 2.0]}, "trained_betas: a schedule needs two betas or more, all above 0 and below 1"),
        ({"beta_schedule": {}}, r"beta_schedule: \{\} is not allowed; allowed: a name"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_name(values, said):
    made = record("ddim", {}, 5)
    with pytest.raises(ValueError, match=said):
        DodeScheduler(made, **values)
    with pytest.raises(ValueError, match=said):
        DodeScheduler.from_config({**diffusers.DDPMScheduler().config, **values}, result=made)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_schedules_are_those_of_diffusers(name):
    theirs = diffusers.DDPMScheduler(beta_schedule=name).alphas_cumprod.double()
    made = record("ddim", {}, 1, sigma_max=10.0, distilled=False)
    ours = DodeScheduler(made, beta_schedule=name).coordinates.schedule.alphas_cumprod
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-9)
    given = DodeScheduler(made, trained_betas=diffusers.DDPMScheduler(beta_schedule=name).betas.tolist())
    np.testing.assert_allclose(given.coordinates.schedule.alphas_cumprod, theirs, rtol=2e-5, atol=1e-9)
