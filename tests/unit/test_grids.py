"""Grids against the published formulas, written out again here."""

import math
import re
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
import torch

from dode import grids, storage
from dode.distillation.teacher import variable_of
from dode.grids import schedules, variables
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Grid, checked

LINEAR = schedules.schedules.create("linear")
COSINE = schedules.schedules.create("cosine")


ON_A_SCHEDULE = ("uniform-index", "quadratic", "sgm-uniform", "beta", "timesteps")


def released_indices(steps):
    """The released rule ``int(linspace(0, 1000, steps + 1)[k])``, k < steps, by the library that defines it."""
    return [int(value) for value in torch.linspace(0, 1000, steps + 1, dtype=torch.float32)[:-1]]


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


@pytest.mark.parametrize("name", sorted({*grids.names()} - {"explicit"}))
def test_a_grid_declares_whose_it_is(name):
    source = grids.grids.get(name).source
    assert source, f"grid '{name}' has no source: name authors, year and paper in @grid(..., source=...)"
    assert re.search(r"\b20\d\d, arXiv:\d{4}\.\d{5}\b", source), source


@pytest.mark.parametrize("name", grids.families())
def test_one_step_goes_from_the_largest_level_to_zero(name):
    first = {"align-your-steps": 14.615, "optimal-steps": 311.5, **dict.fromkeys(ON_A_SCHEDULE, LINEAR.sigma_max)}.get(
        name, 80.0
    )
    sigmas = grids.grids.create(name, steps=1)
    assert sigmas.shape == (2,)
    assert sigmas[-1] == 0
    assert sigmas[0].item() == pytest.approx(first, rel=1e-14)


@pytest.mark.parametrize("name", grids.families())
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
    table = LINEAR.alphas_cumprod  # tests/unit/test_schedules.py holds it to the published one
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


GRIDS = {
    "karras": grids.karras(steps=5),
    "karras-rho3": grids.karras(steps=4, rho=3.0),
    "trailing": grids.uniform_index(steps=6),
    "leading": grids.uniform_index(steps=6, spacing="leading"),
    "trailing-edm": grids.uniform_index(steps=6, sigma_min=0.002, sigma_max=80.0),
    "log-snr": grids.log_snr(steps=5),
    "time": grids.uniform_time(steps=5),
    "quadratic": grids.quadratic(steps=5),
    "quadratic-edm": grids.quadratic(steps=5, sigma_min=0.002, sigma_max=80.0),
    "explicit": grids.explicit(steps=4, sigmas=[80.0, 9.0, 1.0, 0.1]),
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
    "grid",
    [*GRIDS.values(), *(grids.grids.create(name, steps=1) for name in grids.families())],
    ids=[*GRIDS, *(f"{name}1" for name in grids.families())],
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
        (lambda: grids.karras(steps=True), r"grid 'karras': steps must be an integer of at least 1, not True"),
        (lambda: grids.karras(steps="5"), r"grid 'karras': steps must be an integer of at least 1, not '5'"),
        (lambda: grids.karras(steps=5, sigma_min=0.0), r"sigma_min must be a finite number above 0, not 0.0"),
        (lambda: grids.karras(steps=5, sigma_min=2.0, sigma_max=1.0), r"sigma_min < sigma_max, not 2.0 and 1.0"),
        (
            lambda: grids.karras(steps=5, rho=1e17),
            r"grid 'karras': rho must be a number from 0.01 to 1e\+06, not 1e\+17",
        ),
        (
            lambda: grids.karras(steps=5, rho=1e-3),
            r"grid 'karras': rho must be a number from 0.01 to 1e\+06, not 0.001",
        ),
        (lambda: grids.karras(steps=5, rho=float("nan")), r"rho must be a number from 0.01 to 1e\+06, not nan"),
        (lambda: grids.karras(steps=5, sigma_max=1e300, rho=0.01), r"steps 5, sigma_max 1e\+300, rho 0.01 level 0 is"),
        (lambda: grids.karras(steps=3, sigma_max=10**400), r"sigma_max must be a finite number above 0, not 1000"),
        (
            lambda: grids.log_snr(steps=5, sigma_max=0.0020000000000000005),
            r"levels must be finite and descend, but with",
        ),
        (
            lambda: grids.uniform_time(steps=5, beta_min=1e300, beta_max=1e301),
            r"beta_min must be a number from 0 to 1e\+06, not",
        ),
        (lambda: grids.uniform_index(steps=1001), r"at most 1000 steps on this schedule, not 1001"),
        (lambda: grids.uniform_index(steps=5, spacing="leeding"), r"'trailing' or 'leading', not 'leeding'"),
        (
            lambda: grids.grids.create("karas", steps=5),
            r"unknown grid 'karas' \(did you mean 'karras'\?\); known: align-your-steps, beta, dmn, ex",
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


class Edm:
    """What a data-prediction model fixes of a grid."""

    sigma_min, sigma_max = 0.002, 80.0


class Vp:
    """What a model on a VP schedule fixes of a grid."""

    def __init__(self, schedule):
        self.schedule, self.sigma_min, self.sigma_max = schedule, schedule.sigma_min, schedule.sigma_max


MODELS = {"edm": Edm(), "linear": Vp(LINEAR), "cosine": Vp(COSINE)}


def vp_time(sigma):
    """The t of Song et al. 2021 with beta from 0.1 to 20, by bisection on the integral of beta."""
    low, high = 0.0, 3.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if math.expm1(9.95 * middle**2 + 0.1 * middle) < sigma**2 else (low, middle)
    return low


def index_of(schedule):
    """The fractional index by a search in a table that is written out."""
    log_abar = [0.0, *np.log(schedule.alphas_cumprod).tolist()]

    def index(sigma):
        wanted = -math.log1p(sigma**2)
        i = next(i for i in range(1, len(log_abar)) if log_abar[i] <= wanted * (1 - 1e-12))
        return i - 1 - (wanted - log_abar[i]) / (log_abar[i - 1] - log_abar[i])

    return index


UNIFORM = {
    "karras": lambda schedule: lambda sigma: sigma ** (1 / 7),
    "log-snr": lambda schedule: math.log,
    "uniform-time": lambda schedule: vp_time,
    "uniform-index": index_of,
    "quadratic": lambda schedule: lambda sigma: math.sqrt(abs(index_of(schedule)(sigma))),
    "flow-linear": lambda schedule: lambda sigma: sigma / (1 + sigma),
    "flow-karras": lambda schedule: lambda sigma: (sigma / (1 + sigma)) ** (1 / 7),
    "exponential": lambda schedule: math.log,
    "sgm-uniform": index_of,
    "timesteps": index_of,
}
OTHERS = {
    "beta",
    "align-your-steps",
    "optimal-steps",
}  # uniform in nothing that is as simple; they have tests of their own


def test_every_family_has_its_property_tested():
    assert sorted({*UNIFORM, *OTHERS}) == grids.families()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", UNIFORM)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_each_family_is_uniform_in_its_variable_over_the_models_noise_range(name, kind, steps):
    model = MODELS[kind]
    sigmas = grids.for_model(model, name, steps).tolist()
    assert len(sigmas) == steps + 1
    assert sigmas[-1] == 0
    assert all(left > right for left, right in pairwise(sigmas))
    assert sigmas[0] == pytest.approx(model.sigma_max, rel=1e-13)
    assert sigmas[-2] >= model.sigma_min * (1 - 1e-12)
    schedule = getattr(model, "schedule", LINEAR)
    u = [UNIFORM[name](schedule)(sigma) for sigma in sigmas[:-1]]
    if name == "uniform-index":  # the last step, to the clean image at index -1, is as wide as the others
        u.append(-1)
    elif name == "sgm-uniform":  # the last step is longer than the others by the one to the lowest index
        u.append(max(index_of(schedule)(model.sigma_min), 0))
    elif steps > 1:
        last = schedule.sigma_min if name in ("quadratic", "timesteps") else model.sigma_min
        assert sigmas[-2] == pytest.approx(last, rel=1e-12)
    np.testing.assert_allclose(np.diff(u), (u[-1] - u[0]) / max(len(u) - 1, 1), atol=2e-6 * abs(u[0]))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", UNIFORM)
def test_each_family_is_refined_and_made_again_on_every_model(name, kind):
    grid = grids.for_model(MODELS[kind], name, 4)
    levels = grid.numpy()
    refined = grid.variable.refine(levels, 3)
    assert set(levels.tolist()) <= set(refined.tolist())
    assert (np.diff(refined) < 0).all()
    u = grid.variable.forward(refined[refined >= levels[-2]])
    np.testing.assert_allclose(np.diff(u).reshape(3, 3), np.diff(u).reshape(3, 3)[:, [0]].repeat(3, 1), rtol=1e-4)
    assert torch.equal(grid.remake(steps=9), grids.for_model(MODELS[kind], name, 9))


@pytest.mark.parametrize("name", UNIFORM)
def test_very_many_steps_are_still_strictly_descending(name):
    assert checked(grids.for_model(MODELS["edm"], name, 900)).shape == (901,)


def test_the_time_is_that_of_the_linear_vp_sde():
    variable = variables.time_space()
    for time in (1e-4, 0.01, 0.3, 1.0):
        betas = np.linspace(0.1, 20.0, 100_001)[: round(time * 100_000) + 1]
        integral = np.trapezoid(betas, dx=1e-5)
        assert variable.inverse(time) == pytest.approx(math.sqrt(math.expm1(integral)), rel=1e-9)
        assert variable.forward(variable.inverse(time)) == pytest.approx(time, rel=1e-12)


def test_a_data_prediction_model_takes_the_linear_schedule_over_its_range():
    """Five steps from index(80) = I: indices (I + 1)(1 - k/5) - 1."""
    top = index_of(LINEAR)(80.0)
    expected = [LINEAR.sigma((top + 1) * (1 - k / 5) - 1) for k in range(5)]
    sigmas = grids.for_model(Edm(), "uniform-index", 5)
    assert sigmas.tolist() == pytest.approx([*expected, 0.0], rel=1e-9)
    assert sigmas[0] == 80
    leading = grids.for_model(Edm(), "uniform-index", 5, spacing="leading")
    assert LINEAR.index(leading[:-1]).tolist() == [int(k * (top + 1) / 5) for k in (4, 3, 2, 1, 0)]


def test_explicit_levels_are_taken_as_they_are_with_or_without_the_zero():
    for sigmas in ([80, 5.5, 0.3], (80, 5.5, 0.3, 0)):
        assert grids.explicit(steps=3, sigmas=sigmas).tolist() == [80.0, 5.5, 0.3, 0.0]
    assert grids.explicit(steps=1, sigmas=[3.0]).remake is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("explicit", {"sigmas": [80, 1, 0]}, "2 noise levels above 0 make 2 steps, not 3"),
        ("explicit", {"sigmas": [80, 1, 2]}, r"sigmas must descend, but sigmas\[2\] = 2 follows 1"),
        ("explicit", {"sigmas": [80, 1, 1]}, r"sigmas must descend, but sigmas\[2\] = 1 follows 1"),
        ("explicit", {"sigmas": [80, 1, "x"]}, r"sigmas\[2\] must be a finite number above 0, not 'x'"),
        ("explicit", {"sigmas": [80, 1, -1]}, r"sigmas\[2\] must be a finite number above 0, not -1"),
        ("explicit", {"sigmas": [float("nan"), 1, 0.5]}, r"sigmas\[0\] must be a finite number above 0, not nan"),
        ("explicit", {"sigmas": [True, 0.5, 0.25]}, r"sigmas\[0\] must be a finite number above 0, not True"),
        ("explicit", {"sigmas": 80}, "sigmas must be a list of noise levels, not 80"),
        ("explicit", {"sigmas": []}, "0 noise levels above 0 make 0 steps, not 3"),
        ("explicit", {"sigmas": [81, 1, 0.5]}, "sigma = 81 is above the model's range, which ends at 80"),
        ("explicit", {"sigmas": [80, 1, 0.001]}, "sigma = 0.001 is below the model's range, which ends at 0.002"),
        ("explicit", {}, "needs the option 'sigmas'"),
        ("log-snr", {"sigma_min": 90}, "needs sigma_min < sigma_max, not 90 and 80"),
        ("log-snr", {"rho": 7}, "unknown option 'rho'"),
        ("uniform-time", {"beta_min": 0}, "beta_min must be a finite number above 0, not 0"),
        ("uniform-time", {"beta_max": 0.05}, "beta_max must be a finite number above 0.1, not 0.05"),
        ("karras", {"rho": 1e17}, r"rho must be a number from 0.01 to 1e\+06, not 1e\+17"),
        ("karras", {"rho": 10**400}, "option 'rho' must be a finite number"),
        (
            "uniform-time",
            {"sigma_max": 1e200},
            r"sigma_max 1e\+200, beta_min 0.1, beta_max 20.0 level 0 is 9.*e\+199 and level 1 is nan",
        ),
        ("quadratic", {"sigma_max": "a"}, "sigma_max must be a finite number above 0, not 'a'"),
        ("quadratic", {"sigma_max": 200.0}, "sigma_max must be at most 157.407, the schedule's largest"),
        ("uniform-index", {"sigma_max": 200.0}, "sigma_max must be at most 157.407, the schedule's largest"),
        ("uniform-index", {"spacing": "middle"}, "spacing must be 'trailing' or 'leading', not 'middle'"),
        ("searched", {"candidates": 3}, "3 steps need at least 4 candidates, not 3"),
        ("searched", {"candidates": 2.5}, "candidates must be an integer of at least 1, not 2.5"),
        ("searched", {"images": 0}, "images must be an integer of at least 1, not 0"),
        ("searched", {"coefficient": 0}, "coefficient must be a finite number above 0, not 0"),
        ("searched", {"coefficient": "1"}, "option 'coefficient' must be a finite number, not '1'"),
        ("searched", {"teacher": "huen"}, "unknown solver 'huen'"),
        ("searched", {"over": "karras"}, "over must be a grid"),
        ("searched", {"over": {"name": "karras", "option": {}}}, "over must be a grid"),
        ("searched", {"over": {"name": "karras", "options": None}}, "over must be a grid"),
        ("searched", {"over": {"name": "karas"}}, r"unknown grid 'karas' \(did you mean 'karras'\?\)"),
        ("searched", {"over": {"name": "karras", "options": {"roh": 1}}}, r"unknown option 'roh' \(did you mean 'rho'"),
        ("searched", {"over": {"name": "karras", "options": {"steps": 4}}}, "'steps' follows from the nfe"),
        ("searched", {"over": {"name": "searched"}}, "over cannot be 'searched', which must be prepared itself"),
        ("searched", {"over": {"name": "explicit", "options": {"sigmas": [80, 1]}}}, "make 2 steps, not 60"),
        ("searched", {"candidats": 61}, r"unknown option 'candidats' \(did you mean 'candidates'\?\)"),
    ],
)
def test_bad_options_are_refused_by_the_check_of_the_configuration(name, options, message):
    with pytest.raises(ValueError, match=message):
        grids.check(name, 3, ModelFacts(sigma_min=0.002, sigma_max=80.0), **options)


@pytest.mark.parametrize("kind", ["data", "linear", "cosine"])
@pytest.mark.parametrize("name", grids.names())
def test_the_check_accepts_what_can_be_made(name, kind):
    facts = ModelFacts(sigma_min=0.002, sigma_max=80.0)
    if kind != "data":
        facts = ModelFacts.of_card({"prediction": "noise", "schedule": {"name": kind}})
    options = {"sigmas": [80, 1, 0.1]} if name == "explicit" else {}
    grids.check(name, 3, facts, **options)


def test_the_searched_grid_takes_its_levels_from_the_file_and_its_variable_from_the_candidates(tmp_path):
    path = tmp_path / "searched.json"
    storage.write_json(path, {"sigmas": [80.0, 1.5, 0.25, 0.0]})
    for over, variable in (("karras", variables.rho_space(7, 0.002)), ("log-snr", variables.log_space(0.002))):
        grid = grids.for_model(Edm(), "searched", 3, prepared=str(path), over={"name": over})
        assert grid.tolist() == [80.0, 1.5, 0.25, 0.0]
        assert grid.variable.forward(3.0) == variable.forward(3.0)
        assert grid.variable.sigma_min == 0.002
        assert grid.remake is None
    vp = grids.for_model(MODELS["cosine"], "searched", 3, prepared=str(path), over={"name": "uniform-index"})
    assert vp.variable.max_steps == 4000
    with pytest.raises(ValueError, match="contains a grid of 3 steps, not 4"):
        grids.for_model(Edm(), "searched", 4, prepared=str(path))
    with pytest.raises(ValueError, match=r"call dode\.search\.search"):
        grids.for_model(Edm(), "searched", 3)


def test_the_check_rounds_as_the_job_does():
    """Improved DDPM knows 1,000 noise levels: a grid finer than these passes neither the check nor the job."""
    card = {"prediction": "noise", "preconditioning": {"name": "iddpm"}, "sigma_min": 0.0064, "sigma_max": 80.0}
    facts = ModelFacts.of_card(card)
    with pytest.raises(ValueError, match=r"nearest to both .* take fewer than 79 steps, or a larger sigma_min"):
        grids.check("karras", 79, facts)
    for steps in range(1, 79):
        try:
            grids.check("karras", steps, facts)
        except ValueError:
            assert not (np.diff(grids.for_facts(facts, "karras", steps)) < 0).all()
        else:
            assert (np.diff(grids.for_facts(facts, "karras", steps)) < 0).all()


@pytest.mark.parametrize("rho", [0.01, 0.1, 1e3, 1e6])
def test_karras_has_its_digits_at_the_bounds_of_rho(rho):
    with localcontext() as context:
        context.prec = 600
        inverse = 1 / Decimal(rho)
        high, low = Decimal(80) ** inverse, Decimal("0.002") ** inverse
        exact = [float((high + (low - high) * i / 4) ** Decimal(rho)) for i in range(5)]
    np.testing.assert_allclose(grids.karras(steps=5, rho=rho)[:-1].numpy(), exact, rtol=1e-9)
