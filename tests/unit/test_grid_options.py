"""The options of every grid: an analytic first step, and an end at the smallest noise level instead of 0."""

import json
import math
import pickle

import diffusers
import pytest
import torch

import dode
import variants
from dode import driver, grids, portable, sampling, solvers
from dode.diffusers_scheduler import DodeScheduler
from dode.distillation import citations, search
from dode.distillation.linear_form import linear_form
from dode.grids import schedules, shared
from dode.grids.facts import ModelFacts
from dode.models import mixture
from inside_out import driven

OPTIONS = [{"afs": True}, {"end": "sigma_min"}, {"afs": True, "end": "sigma_min"}]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)
every_variant = pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)

# The first numbers of the end states of `mixture.latents(3, 7)` from 80 to 0.002 (karras, rho 7, 5 steps) by those of
# zju-pi/diff-sampler (diff-analyzer-main/solvers.py, fetched in November 2026).
PUBLISHED = [
    ("ddim", {}, False, [0.0242547756, -0.2846628973, -1.164711048]),
    ("ddim", {}, True, [0.01976357055, -0.282650633, -1.162166859]),
    ("heun", {}, False, [0.04461760314, -0.1072442532, -1.959661485]),
    ("heun", {}, True, [0.049355578, -0.1109323397, -1.96355933]),
    ("ipndm", {}, False, [0.04485745402, -0.1917136905, -1.725463952]),
    ("ipndm", {}, True, [0.009252489015, -0.2856732886, -1.765060766]),
    ("ipndm_v", {"order": 2}, True, [0.01767430069, -0.2761350454, -1.222600478]),
    ("dpm-solver-multistep", {"order": 3}, False, [0.02677730453, -0.2257939364, -1.551859809]),
    ("dpm-solver-multistep", {"order": 3}, True, [-0.01347479894, -0.2773032789, -1.56660713]),
]


@pytest.mark.parametrize(("name", "options", "afs", "expected"), PUBLISHED)
def test_both_are_those_of_diff_sampler(name, options, afs, expected):
    sigmas = grids.karras(steps=5, end="sigma_min", afs=afs)
    found = dode.sample(solvers.create(name, **options), mixture.denoise, mixture.latents(3, 7), sigmas)
    assert found.flatten()[:3].tolist() == pytest.approx(expected, rel=1e-8)


@every_variant
@every_option
def test_what_is_counted_is_what_is_evaluated(variant, options):
    (name, own), calls = variant, []
    solver = solvers.create(name, **own)

    def counting(x, sigma):
        calls.append((float(sigma.min()), float(sigma.max())))
        return mixture.denoise(x, sigma)

    for steps in range(2, 9):
        sigmas, reached = grids.karras(steps=steps, **options), float("end" not in options)
        student = sampling.Student(solver, sigmas)
        nfe = solver.nfe(steps, end=1 - reached) - options.get("afs", False)
        calls.clear()
        dode.sample(solver, counting, mixture.latents(2, 0), sigmas)
        assert student.nfe == len(calls) == nfe
        if not solver.per_image:
            assert calls == [(level, level) for level in student.evaluated_levels()]
        assert grids.intervals(solver, nfe, options) <= steps  # as many intervals, or fewer with as many evaluations


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
@pytest.mark.parametrize("name", grids.families())
def test_every_grid_ends_at_the_smallest_level_of_its_family(name, steps):
    whole = grids.grids.create(name, steps=steps)
    sigmas = grids.grids.create(name, steps=steps, end="sigma_min")
    assert sigmas.shape == (steps + 1,)
    assert sigmas[-1].item() == pytest.approx(whole.variable.sigma_min, rel=1e-6)
    assert bool((sigmas.diff() < 0).all())
    assert sigmas.remake(steps=20)[-1].item() == pytest.approx(whole.variable.sigma_min, rel=1e-6)


def test_the_end_takes_the_place_of_0_or_comes_one_step_later():
    assert grids.karras(steps=5, end="sigma_min").tolist() == grids.karras(steps=6).tolist()[:-1]
    schedule = schedules.schedules.create("linear")
    ended = grids.uniform_index(steps=4, end="sigma_min").tolist()
    assert ended == [*grids.uniform_index(steps=4).tolist()[:-1], schedule.sigma_min]
    assert grids.explicit(steps=2, sigmas=[80, 3, 0.1], end="sigma_min").tolist() == [80.0, 3.0, 0.1]


@pytest.mark.parametrize("prior", ["data", "noise", "flow"])
def test_an_analytic_first_step_is_a_start_one_level_lower_nearly(prior):
    """Up to a standard deviation of 6e-4 of the state, for every kind of prior from its usual first level.

    In flow matching the state at a level sigma is not of the prior's size, ``1 + sigma``, but a multiple ``sigma`` of
    the noise: its part of the image is not there yet.
    """
    card = {
        "data": {"prediction": "data"},
        "noise": {"schedule": {"name": "linear"}},
        "flow": {"schedule": {"name": "flow"}},
    }
    facts = ModelFacts.of_card({"prediction": prior, **card[prior]})
    grid = {"data": "karras", "noise": "uniform-index", "flow": "flow-linear"}[prior]
    sigmas = grids.for_facts(facts, grid, 6, afs=True)
    first = linear_form(sampling.Student(solvers.create("ipndm"), sigmas), facts)
    assert first.told.tolist() == pytest.approx(sigmas[1:-1].tolist())
    below = float(sigmas[1]) if prior == "flow" else float(facts.prior_std(sigmas[1]))
    assert float(first.coefficients[0, 0]) == pytest.approx(below, rel=6e-4)
    assert float(first.coefficients[0, 0]) != below


def test_later_steps_have_the_analytic_slope_in_their_history():
    """AB2 after it is of second order at once: x2 = x1 + h1 (3 d1 - d0) / 2."""
    sigmas, noise = grids.karras(steps=3, afs=True), mixture.latents(4, 0)
    levels = torch.tensor(sigmas.tolist(), dtype=torch.float64)
    slopes = [80 * noise / math.sqrt(1 + 80**2)]
    x = 80 * noise + (levels[1] - 80) * slopes[0]
    slopes.append((x - mixture.denoise(x, levels[1])) / levels[1])
    expected = x + (levels[2] - levels[1]) * (3 * slopes[1] - slopes[0]) / 2
    run = driver.steps(solvers.create("ipndm"), mixture.denoise, noise, sigmas)
    torch.testing.assert_close(next(run).proposal.x, expected, rtol=1e-12, atol=1e-12)


def test_a_step_begins_where_the_analytic_one_has_ended():
    sigmas = grids.karras(steps=3, afs=True)
    step = next(driver.steps(solvers.create("ddim"), mixture.denoise, mixture.latents(2, 0), sigmas))
    assert (step.index, step.h) == (0, pytest.approx(float(sigmas[2] - sigmas[1])))
    step = next(driver.steps(solvers.create("heun"), mixture.denoise, mixture.latents(2, 0), sigmas))
    assert step.h == pytest.approx(float(sigmas[1] - sigmas[0]))  # of the corrector


REFUSED = [
    ("karras", {"steps": 1, "afs": True}, "grid 'karras': afs needs at least 2 steps, because the first"),
    ("karras", {"steps": 3, "afs": 1}, "grid 'karras': option 'afs' must be true or false, not 1"),
    ("karras", {"steps": 3, "end": 0}, "grid 'karras': end must be one of 'zero', 'sigma_min', not 0"),
    ("karras", {"steps": 3, "sigma_max": 0.5, "afs": True}, "afs needs a first noise level of at least 1, where noise"),
    ("released", {"steps": 3, "afs": True}, "grid 'released': unknown option 'afs'"),
    ("explicit", {"steps": 3, "sigmas": [8, 4, 2], "end": "sigma_min"}, "3 noise levels make 2 steps, not 3"),
    (
        "searched",
        {"steps": 3, "over": {"name": "karras", "options": {"afs": True}}},
        "over cannot have the option 'afs'",
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_in_one_sentence(name, options, message):
    with pytest.raises(ValueError, match=message):
        grids.check(name, options.pop("steps"), ModelFacts(), **options)


@pytest.mark.parametrize("alignment", ["local", "released"])
def test_a_pairing_of_every_step_is_refused_with_an_analytic_one(alignment):
    with pytest.raises(ValueError, match=f"alignment '{alignment}' pairs every step of the solver, also the first"):
        dode.distill(
            solvers.create("ddim"),
            mixture.denoise,
            mixture.latents(8, 0),
            grids.karras(steps=3, afs=True),
            fit="greedy",
            alignment=alignment,
        )


def test_the_evaluations_that_cannot_be_made_are_named():
    with pytest.raises(ValueError, match=r"solver 'heun' cannot make 5 evaluations; the nearest possible: 4 or 6"):
        grids.intervals(solvers.create("heun"), 5, {"end": "sigma_min"})
    assert grids.intervals(solvers.create("heun"), 5, {"end": "sigma_min", "afs": True}) == 3


def test_grid_and_solver_survive_pickling_with_their_first_step():
    sigmas = pickle.loads(pickle.dumps(grids.karras(steps=5, afs=True)))
    assert sigmas.afs
    assert not sigmas.remake(steps=9).afs  # a teacher's
    assert pickle.loads(pickle.dumps(solvers.create("heun").with_afs())).nfe(5) == 8
    assert not getattr(sigmas[1:], "afs", False)


# Each with each solver, and in turn with one of the options, so that any two meet.
FITS = [
    pytest.param(fit, solver, OPTIONS[(number + place) % len(OPTIONS)], id=f"{fit}-{solver}")
    for number, fit in enumerate(["greedy", "refined", "lambda", "told", "auto"])
    for place, solver in enumerate(["ipndm", "heun", "dpm-solver"])
]


@pytest.mark.parametrize(("fit", "solver", "options"), FITS)
def test_fits_work_and_help(fit, solver, options):
    made = solvers.create(solver)
    sigmas = grids.karras(steps=4, **options)
    own = {"fit": fit} if fit in ("greedy", "refined") else {"family": fit, "budget": 20_000}
    found = dode.distill(made, mixture.denoise, mixture.latents(120, 0), sigmas, **own)
    fresh, exact = mixture.latents(256, 100), mixture.exact(256, 100)
    plain, fitted = (dode.sample(made, mixture.denoise, fresh, sigmas, lambdas=each) for each in (None, found))
    assert found.student.nfe == sampling.Student(made, sigmas).nfe
    # A greedy fit of one coefficient does not always help; a joint one keeps the plain solver where it does not.
    assert mixture.rmse(fitted, exact) <= mixture.rmse(plain, exact) * (1.2 if fit == "greedy" else 1)
    assert torch.equal(fitted, found.student.sample(mixture.denoise, fresh))


@every_option
@pytest.mark.parametrize("fit", [None, "greedy", "told", "general"])
def test_an_exported_result_has_them_to_the_bit(tmp_path, fit, options):
    card = {
        "prediction": "data",
        "image_shape": [1, 4, 4],
        "preconditioning": {"name": "edm", "sigma_data": 0.5},
        "sigma_min": 0.002,
        "sigma_max": 80.0,
    }
    made, noise = solvers.create("ipndm"), mixture.latents(80, 0)
    sigmas = grids.karras(steps=5, **options)
    own = {"fit": "greedy"} if fit == "greedy" else {"family": fit, "budget": 8_000}
    found = None if fit is None else dode.distill(made, mixture.denoise, noise, sigmas, **own)
    expected = dode.sample(made, mixture.denoise, noise, sigmas, lambdas=found)
    facts = {"card": "toy", "sha256": None, **card}
    if found is None or found.family is None:
        student = sampling.Student(made, sigmas) if found is None else found.student
        record = {
            **{"format": "dode sampler", "version": 4 if sigmas.afs else 1, "nfe": student.nfe, "model": facts},
            **{"solver": {"name": "ipndm", "options": {}}, "grid": {"name": "karras", "options": options}},
            **{"sigmas": sigmas.tolist(), "lambdas": None, "directions": None, "software": {}, "citation": []},
            **({"afs": True} if sigmas.afs else {}),
        }
        if found is not None:
            record |= {"lambdas": found.lambdas.tolist(), "directions": found.student.directions.said()}
    else:
        grid = {"name": "karras", "options": options}
        record = portable.of_fit(found, model=facts, grid=grid, made={}, conditions={})
    portable.write(tmp_path / "mine.json", record)
    loaded = dode.load(tmp_path / "mine.json")
    assert torch.equal(loaded.sample(mixture.denoise, noise), expected)
    end, points = driven(loaded.evaluations(noise), mixture.denoise)
    assert len(points) == loaded.nfe
    assert torch.equal(end, expected)


def test_a_record_of_another_version_or_with_coefficients_has_no_analytic_step():
    record = {
        **{"format": "dode sampler", "version": 4, "nfe": 2, "lambdas": None, "directions": None, "afs": True},
        **{"solver": {"name": "ddim", "options": {}}, "grid": {"name": "karras", "options": {"afs": True}}},
        **{"sigmas": [80.0, 10.0, 1.0, 0.0], "software": {}, "citation": []},
        "model": {"card": "c", "sha256": None, "prediction": "data", "image_shape": [1, 4, 4]},
    }
    assert dode.load(record).evaluated == [10.0, 1.0]
    with pytest.raises(ValueError, match=r"version: 4 is of results with afs, .*; this is of 1"):
        dode.load({key: value for key, value in record.items() if key != "afs"} | {"sigmas": [80.0, 10.0, 0.0]})
    with pytest.raises(ValueError, match="4 sigmas do not match 2 evaluations"):
        dode.load({key: value for key, value in record.items() if key != "afs"} | {"version": 1})


@every_option
@pytest.mark.parametrize("scheduler", ["vp", "edm", "flow"])
def test_a_pipelines_scheduler_makes_what_the_library_makes(scheduler, options):
    torch.manual_seed(0)
    schedule = {"vp": {"name": "linear"}, "flow": {"name": "flow"}}.get(scheduler)
    prediction = {"vp": "noise", "flow": "flow", "edm": "data"}[scheduler]
    model = {"prediction": prediction, **({"schedule": schedule} if schedule else {})}
    made = solvers.create("ipndm")
    facts = ModelFacts.of_card(model)
    sigmas = grids.for_facts(
        facts, {"flow": "flow-linear", "vp": "uniform-index", "edm": "karras"}[scheduler], 5, **options
    )
    record = {
        **{
            "format": "dode sampler",
            "version": 4 if sigmas.afs else 3 if scheduler == "flow" else 1,
            "nfe": 5 - sigmas.afs,
        },
        **{"solver": {"name": "ipndm", "options": {}}, "grid": {"name": "karras", "options": options}},
        **{"sigmas": sigmas.tolist(), "lambdas": None, "directions": None, "software": {}, "citation": []},
        "model": {"card": "c", "sha256": None, "image_shape": [1, 4, 4], **model},
        **({"afs": True} if sigmas.afs else {}),
    }
    config = {
        "vp": diffusers.DDPMScheduler(),
        "edm": diffusers.EDMEulerScheduler(),
        "flow": diffusers.FlowMatchEulerDiscreteScheduler(),
    }[scheduler].config
    found = DodeScheduler.from_config(config, result=record)
    noise, seen = mixture.latents(3, 0), []

    def network(x, sigma):
        """What the pipeline's network says, told by the scheduler's own input."""
        return torch.tanh(x)

    found.set_timesteps()
    sample = noise * found.init_noise_sigma
    for timestep in found.timesteps:
        given = found.scale_model_input(sample, timestep)
        seen.append(given.clone())
        sample = found.step(network(given, timestep), timestep, sample).prev_sample
    own = iter(seen)

    def denoise(x, sigma):
        """The same from the library's state, whose input must be the same."""
        given = found.coordinates.network_input(found.coordinates.from_state(x, float(sigma)), float(sigma))
        torch.testing.assert_close(given, next(own), rtol=1e-9, atol=1e-9)
        return found.coordinates.denoised(found.config["prediction_type"], x, float(sigma), network(given, None))

    denoise.facts = facts
    denoise.prediction, denoise.prior_std = prediction, found.coordinates.prior_std
    expected = sampling.Student(made, sigmas).run(denoise, noise)
    torch.testing.assert_close(sample.to(torch.float64), expected, rtol=1e-6, atol=1e-6)


def test_a_searched_grid_ends_at_its_candidates_end(tmp_path):
    candidates = grids.karras(steps=20, end="sigma_min")
    found = search.search(mixture.denoise, mixture.latents(8, 0), candidates, 4)
    assert (found[0].item(), found[-1].item()) == (80.0, 0.002)
    (tmp_path / "searched.json").write_text(json.dumps({"sigmas": found.tolist()}))
    own = grids.grids.create("searched", steps=4, prepared=tmp_path / "searched.json", end="sigma_min", afs=True)
    assert own.tolist() == found.tolist()
    assert own.afs


def test_the_options_of_a_grid_are_shown_with_their_defaults():
    assert grids.defaults("karras") == {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, **shared.SHARED}
    assert "afs" not in grids.defaults("released")


def test_the_first_step_is_cited():
    grid = {"name": "karras", "options": {"afs": True}}
    cited = citations.of_cell({"run": {"solver": "ddim", "grid": grid}}, None)
    assert any("2210.05475" in line for line in cited)
