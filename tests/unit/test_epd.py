"""EPD against its authors' code, what it costs, and that a killed training ends in the same bytes."""

import json

import pytest
import torch

import dode
import killing
from dode import grids, sampling, solvers
from dode.benchmark import fit_jobs, jobs, learning_jobs
from dode.distillation import by_method, learned, task
from dode.distillation.backprop.epd import ParallelDirections
from dode.distillation.backprop.runs import end_states
from dode.grids.facts import ModelFacts
from dode.models import mixture

NOISE = mixture.latents(2, 0)


def parameters(steps=3, **options):
    own = {"points": 2, "analytic": True, "order": 1, "scale_dir": 0.05, "scale_time": 0.05, **options}
    sigmas = torch.as_tensor(grids.karras(steps=steps + 1), dtype=torch.float64)[:-1]
    return ParallelDirections(sigmas, ModelFacts(), generator=torch.Generator().manual_seed(0), **own)


def waves(steps, points):
    """The same numbers for both codes, in the order r, w, o, s: sin(k (1.3 + i) + i)."""
    each = [torch.sin(torch.arange(steps * points).double() * (1.3 + i) + i).view(steps, points) for i in range(4)]
    return torch.stack(each, dim=1).flatten()


# What epd_sampler and ipndm_sampler of BeierZhu/EPD (tag ICCV-2025), run in float64 on the exact toy with the numbers
# above and its schedule 'polynomial', rho = 7, from 80 to 0.002, give for the noise above: entries [:, 0, ::3, 1].
@pytest.mark.parametrize(
    ("steps", "options", "expected"),
    [
        (3, {"points": 1}, [-0.83304089, -2.90152375, -0.469959781, -2.871960725]),
        (3, {}, [-1.000473224, -0.84732068, -0.881243031, -0.449377048]),
        (3, {"analytic": False}, [-0.939657186, -0.852943878, -0.758817725, -0.414385894]),
        (4, {"order": 4, "scale_time": 0.2}, [-0.408687095, -0.296849834, -0.035658734, -0.457560722]),
        (
            4,
            {"points": 1, "analytic": False, "order": 3, "scale_time": 0.2},
            [0.022087683, -1.20535353, 0.517953889, -1.354389072],
        ),
    ],
)
def test_end_states_are_those_of_the_authors_code(steps, options, expected):
    own = parameters(steps, **options)
    z = waves(steps, own.points)
    form, student = own.form(z), own.student(z)
    for end in (
        end_states(form, mixture.denoise, NOISE),
        student.run(mixture.denoise, NOISE),
    ):
        torch.testing.assert_close(
            end[:, 0, ::3, 1].flatten(), torch.tensor(expected).double(), rtol=0, atol=1e-6, check_dtype=False
        )
    assert student.nfe == steps * (own.points + 1) - own.analytic
    assert student.depth == 2 * steps - own.analytic


def test_numbers_are_in_their_ranges():
    shares, weights, directions, times = parameters().numbers(torch.linspace(-30, 30, 24).double())
    assert ((shares > 0) & (shares < 1)).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3).double())
    for factors in (directions, times):
        assert ((factors >= 0.95) & (factors <= 1.05)).all()


NFE, IMAGES = 5, 100
HOW = {"iterations": 12, "batch": 16, "held_out": 0.3}
BASE, GRID = solvers.create("ddim"), grids.karras(steps=NFE)
FIT_NOISE = mixture.latents(IMAGES, 3).float()


def fit(checkpoint=None, **options):
    how = {"options": {**HOW, **options}, "ends": mixture.exact(IMAGES, 3), "seed": 5, "checkpoint": checkpoint}
    return by_method.fit_by_method("epd", BASE, mixture.denoise, FIT_NOISE, GRID, **how)


@pytest.mark.parametrize(("points", "depth"), [(1, 5), (2, 3), (5, 1)])
def test_it_learns_with_as_many_evaluations_as_are_asked_for(points, depth):
    own = fit(points=points, iterations=40)
    assert (own.student.nfe, own.student.depth) == (NFE, depth)
    noise, exact = mixture.latents(64, 4), mixture.exact(64, 4)
    fitted = dode.sample(BASE, mixture.denoise, noise, GRID, lambdas=own)
    start = fit(points=points, iterations=1, learning_rate=1e-9).student.run(mixture.denoise, noise)
    assert mixture.rmse(fitted, exact) < 0.8 * mixture.rmse(start, exact)


def test_the_grids_family_gives_the_levels():
    of_grid = {
        name: fit(iterations=1).student.told[0]
        if name == "karras"
        else by_method.fit_by_method(
            "epd", BASE, mixture.denoise, FIT_NOISE, grids.grids.create(name, steps=NFE), **OTHERS
        ).student.told[0]
        for name in ("karras", "log-snr")
    }
    assert of_grid["karras"] > of_grid["log-snr"]


OTHERS = {"options": {**HOW, "iterations": 1}, "ends": mixture.exact(IMAGES, 3), "seed": 5}


def test_it_costs_what_it_says_and_not_more():
    expense = learned.fits.get("epd").expense(IMAGES, NFE, **HOW)
    cost = fit().cost
    assert cost.evaluations == expense.evaluations
    assert cost.gradients == expense.gradients


@pytest.mark.parametrize("writes", [1, 6])
def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch, writes):
    monkeypatch.setattr(task, "EVERY", 0.0)

    def run(name, made=None):
        path = tmp_path / name
        with learning_jobs.checkpoint(path, {}) as own:
            fit_jobs.write_fit(path, fit(own), {})
        return path.read_bytes()

    whole = run("whole.json")
    killing.after_writes(monkeypatch, writes)
    with pytest.raises(killing.Killed):
        run("killed.json")
    assert run("killed.json") == whole
    values = json.loads(whole)
    student = jobs.fitted(BASE, GRID, values)
    expected = fit().student.run(mixture.denoise, NOISE)
    assert torch.equal(student.run(mixture.denoise, NOISE), expected)
    assert values["family"] == "epd"


@pytest.mark.parametrize(
    ("nfe", "options", "words"),
    [
        (4, {}, "epd with points 2 makes 3 evaluations per step.*so 4 are impossible; the nearest possible: 3 or 5"),
        (1, {}, "the nearest possible: 2"),
        (5, {"points": 0}, "points must be an integer from 1 to 8, not 0"),
        (5, {"order": 5}, "order must be an integer from 1 to 4, not 5"),
        (5, {"scale_time": 1.0}, "scale_time must be a number of at least 0 and below 1, not 1.0"),
        (5, {"iterations": 0}, "iterations must be an integer of at least 1, not 0"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_any_work(nfe, options, words):
    def never(x, sigma):
        raise AssertionError("the network was called")

    with pytest.raises(ValueError, match=words):
        dode.distill(BASE, never, FIT_NOISE, grids.karras(steps=nfe), fit="epd", ends=FIT_NOISE, options=options)


def test_a_model_that_knows_some_levels_alone_is_told_those():
    known = torch.tensor([60.0, 20.0, 8.0, 3.0, 1.0, 0.3, 0.1, 0.02, 0.004, 0.002]).double()

    def rounded(sigmas):
        sigmas = torch.as_tensor(sigmas).double()
        return known[(sigmas.log()[..., None] - known.log()).abs().argmin(-1)].numpy()

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.round_sigma = rounded
    own = by_method.fit_by_method("epd", BASE, denoise, FIT_NOISE, GRID, **OTHERS)
    assert set(own.student.evaluated_levels()) <= set(known.tolist())
    assert isinstance(own.student, sampling.Student)
