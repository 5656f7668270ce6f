"""Grids and schedules against the published formulas, written out again here."""

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
import torch

from dode import grids, schedules
from dode.grid_tensor import Grid, checked
from dode.teacher import variable_of

LINEAR = schedules.schedules.create("linear")
COSINE = schedules.schedules.create("cosine")


def released_indices(steps):
    """The released rule ``int(linspace(0, 1000, steps + 1)[k])``, k < steps, by the library that defines it."""
    return [int(value) for value in torch.linspace(0, 1000, steps + 1, dtype=torch.float32)[:-1]]


def exact_alphas_cumprod():
    """The table of Ho et al. 2020 in 40 decimal digits."""
    low, high, product, table = Decimal("0.0001"), Decimal("0.02"), Decimal(1), []
    with localcontext() as context:
        context.prec = 40
        for i in range(1000):
            product *= 1 - (low + (high - low) * i / 999)
            table.append(float(product))
    return np.array(table)


@pytest.mark.parametrize("steps", [2, 3, 10, 35])
@pytest.mark.parametrize("options", [{}, {"sigma_min": 0.02, "sigma_max": 10.0, "rho": 3.0}])
def test_karras_is_the_published_formula_and_ends_in_zero(steps, options):
    low, high, rho = options.get("sigma_min", 0.002), options.get("sigma_max", 80.0), options.get("rho", 7.0)
    expected = [
        math.pow(high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho)), rho)
        for i in range(steps)
    ]
    sigmas = grids.karras(steps=steps, **options)
    np.testing.assert_allclose(sigmas[:-1].numpy(), expected, rtol=1e-12)
    assert sigmas[0].item() == high
    assert sigmas[-2].item() == low
    assert sigmas[-1].item() == 0


@pytest.mark.parametrize("name", grids.names())
def test_one_step_goes_from_the_largest_level_to_zero(name):
    first = {"karras": 80.0, "uniform-index": LINEAR.sigma_max}.get(name)
    sigmas = grids.grids.create(name, steps=1)
    assert sigmas.shape == (2,)
    assert sigmas[-1] == 0
    if first is not None:
        assert sigmas[0].item() == pytest.approx(first, rel=1e-14)


@pytest.mark.parametrize("name", grids.names())
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_every_grid_is_float64_usable_and_of_the_length_asked(name, steps):
    sigmas = grids.grids.create(name, steps=steps)
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (steps + 1,)
    assert torch.equal(checked(sigmas), torch.tensor(sigmas.tolist(), dtype=torch.float64))


@pytest.mark.parametrize(
    ("steps", "entry", "index", "exact"),
    [(26, 13, 499, 500), (60, 15, 249, 250), (60, 27, 449, 450), (104, 52, 499, 500)],
)
def test_leading_truncates_the_float32_linspace_not_the_exact_quotient(steps, entry, index, exact):
    sigmas = grids.uniform_index(steps=steps, spacing="leading")
    assert 1000 * entry // steps == exact
    assert released_indices(steps)[entry] == index
    assert sigmas[steps - 1 - entry].item() == LINEAR.sigma(index)


def test_leading_is_the_released_rule_at_every_entry_for_every_number_of_steps():
    levels = LINEAR.sigma(np.arange(1000))
    for steps in range(1, 1001):
        sigmas = grids.uniform_index(steps=steps, spacing="leading", schedule=LINEAR)
        assert sigmas.tolist() == [*levels[released_indices(steps)[::-1]].tolist(), 0.0], f"{steps} steps"


def test_trailing_is_uniform_in_the_index_from_the_noisiest_to_clean():
    table = exact_alphas_cumprod()
    assert grids.uniform_index(steps=4)[:-1].tolist() == pytest.approx(
        [math.sqrt(1 / table[i] - 1) for i in (999, 749, 499, 249)], rel=1e-12
    )
    # 3 steps: indices 999, 665 2/3, 332 1/3; log abar is linear between integers.
    between = [table[665] ** (1 / 3) * table[666] ** (2 / 3), table[332] ** (2 / 3) * table[333] ** (1 / 3)]
    assert grids.uniform_index(steps=3)[1:3].tolist() == pytest.approx(
        [math.sqrt(1 / a - 1) for a in between], rel=1e-11
    )


def test_uniform_index_takes_the_schedule_given():
    sigmas = grids.uniform_index(steps=8, schedule=COSINE)
    assert sigmas[0].item() == COSINE.sigma_max
    assert sigmas.variable.max_steps == 4000


def test_linear_schedule_has_the_ddpm_table():
    table = exact_alphas_cumprod()
    np.testing.assert_allclose(LINEAR.alphas_cumprod, table, rtol=1e-12)
    assert LINEAR.alphas_cumprod[0] == pytest.approx(0.9999, rel=1e-15)
    assert LINEAR.alphas_cumprod[999] == pytest.approx(4.0358e-5, rel=1e-4)
    assert LINEAR.sigma_max == pytest.approx(157.407, rel=1e-5)
    assert LINEAR.sigma_min == pytest.approx(math.sqrt(1e-4 / 0.9999), rel=1e-11)


def test_cosine_schedule_is_the_published_one_with_its_last_beta_clipped():
    def squared_cosine(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (0, 100, 2000, 3900):
        expected = squared_cosine((i + 1) / 4000) / squared_cosine(0)
        assert COSINE.alphas_cumprod[i] == pytest.approx(expected, rel=1e-10)
    assert len(COSINE) == 4000
    assert COSINE.alphas_cumprod[-1] == pytest.approx(COSINE.alphas_cumprod[-2] * 0.001, rel=1e-9)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_index_inverts_sigma(schedule):
    fractional = np.linspace(-0.95, len(schedule) - 1.03, 977)
    np.testing.assert_allclose(schedule.index(schedule.sigma(fractional)), fractional, rtol=0, atol=1e-6)
    whole = np.arange(-1, len(schedule))
    assert schedule.index(schedule.sigma(whole)).tolist() == whole.tolist()


def test_index_snaps_only_within_a_millionth():
    assert LINEAR.index(LINEAR.sigma(500 + 5e-7)) == 500
    assert LINEAR.index(LINEAR.sigma(500 + 2e-6)) == pytest.approx(500 + 2e-6, abs=1e-9)


def test_log_abar_is_linear_between_integers_and_the_clean_image_is_index_minus_one():
    middle = math.sqrt(LINEAR.alphas_cumprod[41] * LINEAR.alphas_cumprod[42])
    assert math.exp(LINEAR.log_abar(41.5)) == pytest.approx(middle, rel=1e-14)
    assert LINEAR.sigma(-1) == 0
    assert LINEAR.log_abar(-0.5) == pytest.approx(math.log(0.9999) / 2, rel=1e-12)


GRIDS = {
    "karras": grids.karras(steps=5),
    "karras-rho3": grids.karras(steps=4, rho=3.0),
    "trailing": grids.uniform_index(steps=6),
    "leading": grids.uniform_index(steps=6, spacing="leading"),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("substeps", [1, 4])
def test_refine_keeps_levels_to_the_bit_and_descends(name, substeps):
    levels = GRIDS[name].numpy()
    refined = GRIDS[name].variable.refine(levels, substeps)
    assert set(levels.tolist()) <= set(refined.tolist())
    assert (np.diff(refined) < 0).all()
    assert (refined[0], refined[-1]) == (levels[0], 0.0)
    if substeps == 1:
        assert refined.tolist() == levels.tolist()


@pytest.mark.parametrize("name", GRIDS)
def test_refine_divides_every_interval_above_sigma_min_uniformly_in_its_variable(name):
    grid, substeps = GRIDS[name], 4
    variable, levels = grid.variable, grid.numpy()
    refined = variable.refine(levels, substeps)
    u = variable.forward(refined)
    for left, right in pairwise(levels[:-1]):
        inside = u[(refined <= left) & (refined >= right)]
        assert len(inside) == substeps + 1
        np.testing.assert_allclose(np.diff(inside), (inside[-1] - inside[0]) / substeps, rtol=1e-5)


@pytest.mark.parametrize(
    "grid", [*GRIDS.values(), grids.karras(steps=1), grids.uniform_index(steps=1)], ids=[*GRIDS, "karras1", "trailing1"]
)
def test_refine_leaves_out_levels_that_no_network_was_trained_at(grid):
    refined = grid.variable.refine(grid.numpy(), 200)
    assert refined[refined > 0].min() >= grid.variable.sigma_min * (1 - 1e-12)
    assert len(refined) > 100


def test_refine_reaches_below_a_last_level_above_sigma_min():
    """Trailing, 4 steps: the last interval is indices 249 to -1; 5 sub-steps are 50 indices wide."""
    grid = grids.uniform_index(steps=4)
    refined = grid.variable.refine(grid.numpy(), 5)
    assert LINEAR.index(refined[-6:]).tolist() == [249, 199, 149, 99, 49, -1]


def test_a_grid_is_a_tensor_whose_operations_give_plain_tensors():
    grid = grids.karras(steps=4)
    assert isinstance(grid, torch.Tensor)
    assert type(grid) is Grid
    for result in (grid * 2, grid[1:], grid.sqrt(), torch.cat([grid, grid]), grid.clone(), checked(grid)):
        assert type(result) is torch.Tensor
        assert not hasattr(result, "remake")


def test_remake_gives_more_steps_of_the_same_family():
    grid = grids.karras(steps=4, sigma_max=10.0, rho=3.0)
    assert torch.equal(grid.remake(steps=9), grids.karras(steps=9, sigma_max=10.0, rho=3.0))
    leading = grids.uniform_index(steps=4, spacing="leading", schedule=COSINE)
    assert torch.equal(leading.remake(steps=9), grids.uniform_index(steps=9, spacing="leading", schedule=COSINE))


def test_plain_levels_are_refined_in_rho_space():
    levels = [10.0, 1.0, 0.5, 0.0]
    variable = variable_of(torch.tensor(levels))
    assert variable.forward(10.0) == pytest.approx(10 ** (1 / 7), rel=1e-12)
    assert variable.sigma_min == 0.5
    assert variable_of(grids.karras(steps=3, rho=3.0)).forward(8.0) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grids.karras(steps=0), r"grid 'karras': steps must be an integer of at least 1, not 0"),
        (lambda: grids.karras(steps=2.5), r"grid 'karras': steps must be an integer of at least 1, not 2.5"),
        (lambda: grids.karras(steps="5"), r"grid 'karras': steps must be an integer of at least 1, not '5'"),
        (lambda: grids.karras(steps=5, sigma_min=0.0), r"sigma_min must be a finite number above 0, not 0.0"),
        (lambda: grids.karras(steps=5, sigma_min=2.0, sigma_max=1.0), r"sigma_min < sigma_max, not 2.0 and 1.0"),
        (lambda: grids.uniform_index(steps=1001), r"at most 1000 steps on this schedule, not 1001"),
        (lambda: grids.uniform_index(steps=5, spacing="leeding"), r"'trailing' or 'leading', not 'leeding'"),
        (
            lambda: grids.grids.create("karas", steps=5),
            r"unknown grid 'karas' \(did you mean 'karras'\?\); known: karras",
        ),
        (
            lambda: grids.grids.create("karras", steps=5, rh0=1),
            r"grid 'karras': unknown option 'rh0' \(did you mean 'rho'\?\)",
        ),
        (lambda: grids.grids.create("karras"), r"grid 'karras' needs the option 'steps'"),
        (lambda: schedules.schedules.create("linaer"), r"unknown schedule 'linaer' \(did you mean 'linear'\?\)"),
    ],
)
def test_bad_input_is_refused_by_a_message_that_names_it(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Model:
    """What a model may fix of a grid."""

    schedule, sigma_min, sigma_max = COSINE, 0.01, 50.0


def test_for_model_takes_what_the_model_fixes_and_lets_options_override():
    assert torch.equal(grids.for_model(Model, "karras", 5), grids.karras(steps=5, sigma_min=0.01, sigma_max=50.0))
    assert torch.equal(
        grids.for_model(Model, "karras", 5, sigma_max=9.0), grids.karras(steps=5, sigma_min=0.01, sigma_max=9.0)
    )
    assert torch.equal(grids.for_model(Model, "uniform-index", 5), grids.uniform_index(steps=5, schedule=COSINE))
    assert torch.equal(grids.for_model(lambda x, sigma: x, "karras", 5), grids.karras(steps=5))


def test_a_model_without_a_schedule_is_refused_a_grid_in_its_index():
    with pytest.raises(ValueError, match="grid 'uniform-index' needs a noise schedule"):
        grids.for_model(lambda x, sigma: x, "uniform-index", 5)
