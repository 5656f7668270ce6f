"""The grids of flow matching and of diffusers' schedulers: their levels are diffusers' own, bad options are refused."""

import math

import numpy as np
import pytest
import torch
from diffusers import schedulers
from diffusers.schedulers.scheduling_utils import AysSchedules

from dode import grids
from dode.grids.facts import ModelFacts
from dode.grids.schedules import FlowSchedule, schedules
from dode.solvers.formulas import PURE_NOISE

FLOW = {"prediction": "flow", "schedule": {"name": "flow"}}
SCHEDULE = FlowSchedule(1000)


def times_of(levels):
    """t of noise levels, as diffusers' flow schedulers count sigma."""
    levels = np.asarray(levels)
    return np.where(levels >= PURE_NOISE, 1.0, levels / (1 + levels))


@pytest.mark.parametrize("steps", [1, 2, 4, 28])
@pytest.mark.parametrize("mu", [None, 0.0, 1.15])
def test_the_flow_linear_grid_is_that_of_diffusers(steps, mu):
    """With a shift of its own and from FLUX's list of sigmas with the dynamic one."""
    grid = {"steps": steps, "schedule": SCHEDULE}
    if mu is None:
        for shift in (1.0, 3.0, 7.0):
            scheduler = schedulers.FlowMatchEulerDiscreteScheduler(shift=shift)
            scheduler.set_timesteps(steps)
            own = grids.flow_linear(**grid, shift=shift)
            np.testing.assert_allclose(times_of(own), scheduler.sigmas.numpy(), atol=2e-7)
        return
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    own = grids.flow_linear(**grid, shift=math.exp(mu), spacing="trailing")
    np.testing.assert_allclose(times_of(own), scheduler.sigmas.numpy(), atol=2e-7)


@pytest.mark.parametrize("steps", [2, 5, 20])
@pytest.mark.parametrize("name", ["flow-karras", "exponential", "beta"])
def test_the_flow_grids_are_those_of_diffusers(name, steps):
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(**{f"use_{name.removeprefix('flow-')}_sigmas": True})
    scheduler.set_timesteps(steps)
    own = grids.grids.create(name, steps=steps, schedule=SCHEDULE)
    np.testing.assert_allclose(times_of(own), scheduler.sigmas.numpy(), atol=2e-7)


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_the_exponential_grid_of_a_schedule_is_that_of_diffusers(steps):
    scheduler = schedulers.EulerDiscreteScheduler(use_exponential_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    facts = ModelFacts.of_card({"prediction": "noise", "schedule": {"name": "linear"}})
    own = grids.for_facts(facts, "exponential", steps)
    np.testing.assert_allclose(own, scheduler.sigmas, rtol=2e-4)  # diffusers' table is in float32


def test_the_beta_grid_of_a_schedule_is_dense_at_both_ends():
    """Of 1,000 linear betas: the quantiles of the arcsine law, Beta(1/2, 1/2), are sin^2."""
    linear = schedules.create("linear")
    own = linear.index(grids.grids.create("beta", steps=7, schedule=linear, alpha=0.5, beta=0.5).numpy())
    expected = [999 * math.sin(math.pi / 2 * (1 - i / 6)) ** 2 for i in range(7)]
    np.testing.assert_allclose(own[:-1], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "flow"])
def test_sgm_uniform_leaves_the_lowest_index_out(name):
    schedule = schedules.create(name)
    own = grids.sgm_uniform(steps=5, schedule=schedule)
    np.testing.assert_allclose(schedule.index(own[:-1].numpy()), np.linspace(999, 0, 6)[:-1], atol=1e-6)
    shifted = grids.sgm_uniform(steps=5, schedule=schedule, shift=0.5)
    assert shifted[0] == own[0]
    if name == "flow":
        np.testing.assert_allclose(shifted[1:].numpy(), 0.5 * own[1:].numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "theirs"),
    [
        ("stable-diffusion", "StableDiffusionSigmas"),
        ("stable-diffusion-xl", "StableDiffusionXLSigmas"),
        ("stable-video-diffusion", "StableDiffusionVideoSigmas"),
    ],
)
def test_align_your_steps_has_the_published_tables(table, theirs):
    assert grids.align_your_steps(steps=10, table=table).tolist() == AysSchedules[theirs]
    twenty = grids.align_your_steps(steps=20, table=table)
    np.testing.assert_allclose(twenty[::2].numpy(), AysSchedules[theirs], rtol=1e-12)
    between = np.sqrt(np.array(AysSchedules[theirs][:-2]) * AysSchedules[theirs][1:-1])
    np.testing.assert_allclose(twenty[1:-2:2].numpy(), between, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("flow-linear", {"shift": 0}, "shift must be a finite number above 0, not 0"),
        ("flow-linear", {"shift": "3"}, "option 'shift' must be a finite number, not '3'"),
        ("flow-linear", {"spacing": "leading"}, "spacing must be 'linspace' or 'trailing', not 'leading'"),
        ("flow-linear", {"shift": 1e9}, "levels must be finite and descend"),
        ("sgm-uniform", {"shift": -1}, "shift must be a finite number above 0, not -1"),
        ("flow-karras", {"rho": 0}, "rho must be a number from 0.01 to 100, not 0"),
        ("flow-karras", {"rho": 1e6}, "rho must be a number from 0.01 to 100, not 1000000.0"),
        ("beta", {"alpha": 0.0}, "alpha must be a number from 0.1 to 10, not 0.0"),
        ("beta", {"beta": 11}, "beta must be a number from 0.1 to 10, not 11"),
        ("exponential", {"sigma_min": 5.0, "sigma_max": 1.0}, "needs sigma_min < sigma_max"),
        (
            "align-your-steps",
            {"table": "sd"},
            "table must be one of 'stable-diffusion', 'stable-diffusion-xl', 'stable-v",
        ),
    ],
)
def test_bad_options_of_the_grids_are_refused(name, options, said):
    with pytest.raises(ValueError, match=said):
        grids.check(name, 3, ModelFacts.of_card(FLOW), **options)
    with pytest.raises(ValueError, match="at most 1000 steps"):
        grids.check("flow-linear", 1001, ModelFacts.of_card(FLOW), spacing="trailing")


@pytest.mark.parametrize("name", sorted({*grids.names()} - {"explicit", "released", "searched"}))
def test_every_grid_serves_models_that_begin_at_pure_noise(name):
    cosine = {"prediction": "v", "schedule": {"name": "cosine", "rescale_betas_zero_snr": True}}
    for card in (FLOW, cosine):
        facts = ModelFacts.of_card(card)
        for steps in (1, 2, 5, 12 if name == "dmn" else 20):  # which takes long to optimise
            grids.check(name, steps, facts)
            grid = grids.for_facts(facts, name, steps)
            refined = grid.variable.refine(grid.numpy(), 3)
            assert (np.diff(refined) < 0).all()
            assert set(grid.tolist()) <= set(refined.tolist())
            assert name not in grids.families() or torch.equal(grid.remake(steps=steps), grid)


def test_the_flow_schedule_maps_times_and_levels():
    indices = np.array([-1, -0.5, 0, 10.25, 499, 998, 999])
    sigmas = SCHEDULE.sigma(indices)
    np.testing.assert_allclose(sigmas[:-1], [(i + 1) / (999 - i) for i in indices[:-1]], rtol=1e-12)
    assert sigmas[-1] == PURE_NOISE == SCHEDULE.noisiest
    np.testing.assert_allclose(SCHEDULE.index(sigmas), indices, atol=1e-6)
    assert (SCHEDULE.sigma_min, SCHEDULE.sigma_max) == pytest.approx((1 / 999, 999.0))
    assert [SCHEDULE.timestep(sigma) for sigma in (1 / 999, 1.0, PURE_NOISE)] == pytest.approx([1, 500, 1000])
    assert len(FlowSchedule(50)) == 50
    for steps in (1, 2.5, 10**6):
        with pytest.raises(ValueError, match="steps of a schedule must be"):
            schedules.create("flow", steps=steps)
