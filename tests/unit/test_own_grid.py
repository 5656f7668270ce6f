"""The grid that is read from a scheduler's configuration has the scheduler's levels; others are refused in words."""

import functools
import inspect
import itertools
import json

import numpy as np
import pytest

from dode import grids
from dode.grids.facts import ModelFacts
from dode.models.hub import own_grid, repository

schedulers = pytest.importorskip("diffusers.schedulers")

EULER, HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
MULTISTEP, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
IN_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 256, "max_image_seq_len": 4096}
DYNAMIC |= {"base_shift": 0.4, "max_shift": 1.2}
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TOKENS = 1024


def config(name, **options):
    """A configuration as diffusers saves it."""
    return json.loads(getattr(schedulers, name).from_config(options).to_json_string())


@functools.lru_cache(1)
def made(text):
    """A scheduler from its configuration; some take longer to be made than for all else."""
    scheduler = json.loads(text)
    return getattr(schedulers, scheduler["_class_name"]).from_config(scheduler)


def levels_of_theirs(scheduler, steps, mu, **given):
    """The levels of a scheduler; those of Heun's, named twice, and of midpoints in between count once or not."""
    theirs = made(json.dumps(scheduler))
    theirs.set_timesteps(steps, **given, **({} if mu is None else {"mu": mu}))
    if hasattr(theirs, "sigmas"):
        return np.unique(theirs.sigmas.numpy().astype(np.float64))[::-1]
    times = theirs._timesteps[::-1] if hasattr(theirs, "_timesteps") else theirs.timesteps.numpy()
    abar = theirs.alphas_cumprod.double().numpy()[times.astype(int)]
    return np.append(np.sqrt(1 / abar - 1), 0.0)


def mu_of(scheduler):
    """What a pipeline tells its scheduler of the size of the image."""
    return 0.4 + (1.2 - 0.4) * (TOKENS - 256) / (4096 - 256) if scheduler.get("use_dynamic_shifting") else None


def levels_of_ours(scheduler, steps, **how):
    grid = own_grid.of(scheduler, **how)
    facts = ModelFacts.of_card(repository.trained(scheduler))
    grids.check(grid["name"], steps, facts, **grid["options"])
    return grids.for_facts(facts, grid["name"], steps, **grid["options"]).numpy()


@pytest.mark.parametrize(
    "scheduler",
    [
        *(config(name, shift=shift) for name in (EULER, HEUN) for shift in (1.0, 3.0)),
        *(config(EULER, shift=2.0, **{option: True}) for option in own_grid.READ[EULER]),
        config(EULER, num_train_timesteps=200, shift=0.5),
        *(config(EULER, time_shift_type=kind, **DYNAMIC) for kind in ("exponential", "linear")),
        *(config(EULER, shift=3.0, **{option: True}, **DYNAMIC) for option in own_grid.READ[EULER]),
        *(config(name, flow_shift=3.0, **IN_FLOW) for name in (MULTISTEP, UNIPC)),
        *(config(name, **IN_FLOW, **DYNAMIC) for name in (MULTISTEP, UNIPC)),
        config("DPMSolverSinglestepScheduler", num_train_timesteps=300, flow_shift=2.0, **IN_FLOW),
    ],
    ids=lambda scheduler: scheduler["_class_name"],
)
@pytest.mark.parametrize("steps", [2, 20])
def test_in_flow_matching_it_is_the_schedulers(scheduler, steps):
    own = levels_of_ours(scheduler, steps, tokens=TOKENS)
    expected = levels_of_theirs(scheduler, steps, mu_of(scheduler))
    np.testing.assert_allclose(own / (1 + own), expected, atol=2e-6)  # UniPC begins at 1 - 1e-6


@pytest.mark.parametrize(
    "scheduler",
    [
        *(config(EULER, shift=shift) for shift in (1.0, 3.0)),
        *(config(EULER, shift=3.0, time_shift_type=kind, **DYNAMIC) for kind in ("exponential", "linear")),
    ],
)
@pytest.mark.parametrize("steps", [2, 20])
def test_in_flow_matching_a_pipeline_may_give_the_times(scheduler, steps):
    own = levels_of_ours(scheduler, steps, tokens=TOKENS, own_times=True)
    expected = levels_of_theirs(scheduler, steps, mu_of(scheduler), sigmas=np.linspace(1, 1 / steps, steps))
    np.testing.assert_allclose(own / (1 + own), expected, atol=2e-6)


SPACED = [  # an offset is one of leading timesteps alone
    (name, {"timestep_spacing": spacing, "steps_offset": offset})
    for name in own_grid.USUAL
    for spacing, offset in (("linspace", 1), ("leading", 0), ("leading", 1), ("trailing", 1))
    if name != own_grid.SINGLESTEP and not (name in own_grid.WHOLE and spacing == "linspace")
]
CURVED = [
    (name, {"timestep_spacing": "linspace", option: True})
    for name, option in (
        *itertools.product(own_grid.READ, ("use_karras_sigmas", "use_exponential_sigmas")),
        (MULTISTEP, "use_lu_lambdas"),
    )
    if name != EULER
]
#: For these the spacing does not count, nor for Euler's ancestral one the option, which it does not read.
READ_ALL_THE_SAME = [
    (MULTISTEP, {"timestep_spacing": "leading", "use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing", "use_karras_sigmas": True}),
    ("DPMSolverSinglestepScheduler", {"timestep_spacing": "leading"}),
    ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False}),
]


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # within diffusers
@pytest.mark.parametrize(("name", "options"), [*SPACED, *CURVED, *READ_ALL_THE_SAME])
def test_on_a_schedule_it_is_the_schedulers(name, options):
    scheduler = config(name, **SCALED, **options)
    more = (30,) if name in own_grid.WITHOUT_LOWEST else ()  # of 30 steps the middle one is a half
    for steps in (5, 48, *more):  # of 48 steps NumPy rounds some halves of "trailing" the other way
        own, expected = levels_of_ours(scheduler, steps), levels_of_theirs(scheduler, steps, None)
        np.testing.assert_allclose(own, expected, rtol=3e-4)  # between indices diffusers interpolates in sigma
        usual = {key: value for key, value in scheduler.items() if key in {"_class_name", *SCALED, *options}}
        assert own_grid.of(usual) == own_grid.of(scheduler)  # what a file leaves out is the class's default


def test_what_schedulers_read_is_what_they_take():
    for name in {*own_grid.USUAL, EULER, HEUN}:
        taken = inspect.signature(getattr(schedulers, name).__init__).parameters
        assert {*own_grid.READ.get(name, ())} == {*own_grid.CURVED} & {*taken}, name
        if name in own_grid.USUAL and name != own_grid.SINGLESTEP:
            assert taken["timestep_spacing"].default == own_grid.USUAL[name], name


@pytest.mark.parametrize(
    ("scheduler", "how", "says"),
    [
        (config("DEISMultistepScheduler"), {}, "no grid has the noise levels of DEISMultistepScheduler"),
        ({}, {}, "no grid has the noise levels of None"),
        (
            config("DDIMScheduler", timestep_spacing="linspace"),
            {},
            "DDIMScheduler with timestep_spacing linspace, which",
        ),
        (
            config("EulerDiscreteScheduler", timestep_spacing="leading", use_karras_sigmas=True),
            {},
            "EulerDiscreteScheduler with use_karras_sigmas and timestep_spacing leading",
        ),
        (config("EulerDiscreteScheduler", interpolation_type="log_linear"), {}, "with interpolation_type 'log_linear'"),
        (config("EulerDiscreteScheduler", use_karras_sigmas=True, sigma_min=0.1), {}, "with sigma_min 0.1"),
        (config(MULTISTEP, final_sigmas_type="sigma_min"), {}, "with final_sigmas_type 'sigma_min'"),
        (config(MULTISTEP, lambda_min_clipped=-5.1), {}, "with lambda_min_clipped -5.1"),
        (config(MULTISTEP, use_beta_sigmas=True), {}, f"{MULTISTEP} with use_beta_sigmas"),
        (
            config(MULTISTEP, use_karras_sigmas=True, rescale_betas_zero_snr=True),
            {},
            "use_karras_sigmas from pure noise",
        ),
        (
            {"_class_name": MULTISTEP, "use_karras_sigmas": True, "use_beta_sigmas": True},
            {},
            "sigmas and use_beta_sigmas",
        ),
        (config(EULER, shift_terminal=0.1), {}, f"{EULER} with shift_terminal 0.1"),
        (config(EULER, invert_sigmas=True), {}, "with invert_sigmas True"),
        (config("FlowMatchLCMScheduler"), {}, "FlowMatchLCMScheduler with flow matching"),
        (
            config(EULER, **DYNAMIC),
            {},
            "the shift depends on the size of the image .use_dynamic_shifting., and nothing",
        ),
        (config(HEUN) | DYNAMIC, {"tokens": TOKENS}, f"{HEUN} with use_dynamic_shifting"),
        (config(MULTISTEP, **IN_FLOW, use_dynamic_shifting=True), {"tokens": 9}, "needs base_image_seq_len, of which"),
        (
            config(MULTISTEP, **IN_FLOW, **DYNAMIC) | {"time_shift_type": "linear"},
            {"tokens": TOKENS},
            "with time_shift_type linear",
        ),
        (config(MULTISTEP, use_lu_lambdas=True, **IN_FLOW), {}, "with use_lu_lambdas in flow matching"),
        (config(HEUN), {"own_times": True}, f"{HEUN} can take neither times nor a shift from the pipeline"),
        (config(EULER, use_karras_sigmas=True), {"own_times": True}, "with use_karras_sigmas in flow matching"),
    ],
)
def test_other_levels_are_refused_in_words(scheduler, how, says):
    with pytest.raises(own_grid.NotServedError, match=says):
        own_grid.of(scheduler, **how)


@pytest.mark.parametrize(
    ("scheduler", "says"),
    [
        (
            config("DDIMScheduler") | {"timestep_spacing": "even"},
            "timestep_spacing: 'even' is not allowed; allowed: 'linsp",
        ),
        (config("DDIMScheduler") | {"steps_offset": True}, "steps_offset must be an integer from 0 to 999, not True"),
        (config("DDIMScheduler") | {"steps_offset": -1}, "steps_offset must be an integer from 0 to 999, not -1"),
        (config("DDIMScheduler") | {"steps_offset": 1000}, "steps_offset must be an integer from 0 to 999, not 1000"),
        (
            config(EULER, **DYNAMIC) | {"time_shift_type": "x"},
            "time_shift_type: 'x' is not allowed; allowed: 'exponential'",
        ),
    ],
)
def test_values_that_are_none_are_refused(scheduler, says):
    with pytest.raises(ValueError, match=says) as caught:
        own_grid.of(scheduler, tokens=TOKENS)
    assert not isinstance(caught.value, own_grid.NotServedError)
