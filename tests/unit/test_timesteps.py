"""The grid of timesteps has the levels of diffusers' schedulers, by the names of their options."""

import numpy as np
import pytest
from diffusers import schedulers

from dode import grids
from dode.grids.facts import ModelFacts
from dode.grids.schedules import schedules

SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULE = schedules.create("scaled_linear", beta_min=0.00085, beta_max=0.012)
MULTISTEP = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


def indices(steps, **options):
    return SCHEDULE.index(grids.timesteps(steps=steps, schedule=SCHEDULE, **options)[:-1].numpy())


@pytest.mark.parametrize("steps", [2, 3, 6, 7, 20, 50])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", *MULTISTEP])
def test_each_spacing_is_the_schedulers(name, spacing, steps):
    """With an offset, which schedulers add to leading timesteps alone."""
    scheduler = getattr(schedulers, name)(**SCALED, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    timesteps = [*dict.fromkeys(scheduler.timesteps.tolist())]  # Heun's has all but the first twice
    options = {"spacing": spacing, "steps_offset": int(spacing == "leading"), "leave_lowest": name in MULTISTEP}
    np.testing.assert_allclose(indices(steps, **options), timesteps, atol=1e-4)
    sigmas = [*dict.fromkeys(scheduler.sigmas.tolist())]
    levels = grids.timesteps(steps=steps, schedule=SCHEDULE, **options)
    np.testing.assert_allclose(levels, sigmas, rtol=1e-4)  # between indices diffusers interpolates in sigma


@pytest.mark.parametrize("steps", [1, 3, 6, 50])
@pytest.mark.parametrize("offset", [0, 1])
def test_leading_is_ddims_default(steps, offset):
    scheduler = schedulers.DDIMScheduler(**SCALED, steps_offset=offset)
    scheduler.set_timesteps(steps)
    np.testing.assert_allclose(indices(steps, spacing="leading", steps_offset=offset), scheduler.timesteps)


@pytest.mark.parametrize("options", [{}, {"spacing": "leading"}, {"spacing": "trailing"}, {"leave_lowest": True}])
@pytest.mark.parametrize("steps", [1, 2, 5, 31])
def test_a_range_of_levels_bounds_the_timesteps(options, steps):
    levels = grids.timesteps(steps=steps, schedule=SCHEDULE, sigma_min=0.1, sigma_max=5.0, **options)[:-1]
    assert len(levels) == steps
    assert levels[0] <= 5.0
    assert levels[-1] >= 0.1 * (1 - 1e-12)


@pytest.mark.parametrize(
    ("steps", "options", "words"),
    [
        (4, {"spacing": "even"}, "spacing must be 'linspace', 'leading' or 'trailing', not 'even'"),
        (4, {"steps_offset": -1}, "steps_offset must be an integer of at least 0, not -1"),
        (4, {"steps_offset": 0.5}, "steps_offset must be an integer of at least 0, not 0.5"),
        (4, {"spacing": "leading", "steps_offset": 500}, "steps_offset must be at most 249 with 4 steps, not 500"),
        (4, {"leave_lowest": 1}, "leave_lowest. must be true or false, not 1"),
        (1001, {}, "at most 1000 steps on this schedule, not 1001"),
        (1000, {"leave_lowest": True}, "at most 999 steps on this schedule, not 1000"),
    ],
)
def test_bad_options_are_refused(steps, options, words):
    facts = ModelFacts.of_card({"prediction": "noise", "schedule": {"name": "linear"}})
    with pytest.raises(ValueError, match=words):
        grids.check("timesteps", steps, facts, **options)
