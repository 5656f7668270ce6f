"""The joint fit: its linear algebra against real runs, its minimiser against known answers, its promises."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch

import dode
import variants
from dode import grids, sampling, solvers
from dode.directions import Directions
from dode.distillation import comparison, families, fine_solution, fit_checks, joint, levenberg_marquardt
from dode.distillation.levenberg_marquardt import Images, minimise
from dode.distillation.linear_form import linear_form
from dode.distillation.task import Checkpoint
from dode.grids.facts import ModelFacts, vp_prior
from dode.models import mixture
from dode.sampling import Student
from inside_out import driven

FACTS = ModelFacts()
IPNDM = solvers.create("ipndm")
THREE = Directions(differences=2, drift=True, from_noise=True)
LIMITS = (-6.2, 4.4)  # logarithms of 0.002 and 80


def exact(count, seed):
    return mixture.exact(count, seed)


def images_of(student, count=48, seed=3, **options):
    """Fitting images whose targets a student of few steps reaches exactly."""
    latents = mixture.latents(count, seed)
    return Images(mixture.denoise, latents, student.sample(mixture.denoise, latents), clip=False, **options)


@pytest.mark.parametrize(
    ("variant", "told", "prior"), variants.paired(variants.SHARED, [False, True], [None, vp_prior])
)
def test_the_form_of_every_solver_is_its_run(variant, told, prior):
    name, options = variant
    solver = solvers.create(name, **options)
    steps = next(steps for steps in range(5, 20) if solver.nfe(steps) >= 5)
    sigmas, latents = grids.log_snr(steps=steps), mixture.latents(6, 1)
    generator = torch.Generator().manual_seed(0)
    lambdas = 0.1 * torch.randn(solver.nfe(steps), 2, generator=generator, dtype=torch.float64)
    student = Student(solver, sigmas, lambdas, Directions(drift=True, from_noise=True))
    if told:
        student = dataclasses.replace(student, told=[1.1 * level for level in student.own_levels()])
    facts = FACTS if prior is None else ModelFacts(prior_std=prior)

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.facts = facts
    form = linear_form(student, facts)
    expected = student.sample(denoise, latents)
    found = Images(denoise, latents, expected, clip=False).run(form, slice(0, 6)).end
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    if prior is None:  # and the form as a solver of its own is the same again
        again = form.student(float(sigmas[0])).sample(denoise, latents)
        torch.testing.assert_close(again, expected, rtol=1e-7, atol=1e-7)


def test_a_run_turned_inside_out_is_told_the_same_levels():
    """dode.sampling.evaluations, which schedulers of other libraries go through, with told levels."""
    student = Student(IPNDM, grids.karras(steps=4), told=[70.0, 10.0, 1.0, 0.2])
    latents = mixture.latents(3, 1)
    run = sampling.evaluations(student.solver, latents, student.sigmas, told=student.told)
    end, points = driven(run, mixture.denoise)
    assert [float(point.sigma) for point in points] == student.told
    assert torch.equal(end, student.sample(mixture.denoise, latents))


@pytest.mark.parametrize("told", [[1.0] * 3, [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, float("nan"), 1.0]])
def test_told_levels_are_positive_and_one_per_evaluation(told):
    with pytest.raises(ValueError, match="told must be 4 positive noise levels, one per evaluation"):
        dode.sample(IPNDM, mixture.denoise, mixture.latents(2, 1), grids.karras(steps=4), told=told)


@pytest.mark.parametrize("family", ["directions", "levels", "told", "general"])
def test_the_minimiser_finds_a_solver_that_exists(family):
    """Targets that a solver of the family reaches exactly: the error must fall to next to nothing."""
    lambdas = torch.zeros(4, THREE.count, dtype=torch.float64)
    lambdas[1:, 0] = 0.05
    goal = Student(solvers.create("ddim"), torch.tensor([12.0, 3.0, 1.0, 0.3, 0.0]).double(), lambdas, THREE)
    images = images_of(goal)
    start = Student(goal.solver, torch.tensor([10.0, 2.5, 0.9, 0.33, 0.0]).double(), torch.zeros_like(lambdas), THREE)
    if family == "directions":
        start = dataclasses.replace(start, sigmas=goal.sigmas)
    if family == "general":
        parameters = families.General(linear_form(start, FACTS), 10.0, images, FACTS, LIMITS)
    else:
        free = {"levels": family != "directions", "told": family == "told"}
        parameters = families.Corrections(start, images, FACTS, LIMITS, **free)
    found = minimise(images, parameters, slice(0, 48), iterations=60, enough=1e-6)
    before = float(images.errors(linear_form(start, FACTS), slice(0, 48)).mean())
    assert found.error < 1e-5 * before
    student = parameters.student(torch.tensor(found.best, dtype=torch.float64))
    reached = student.sample(mixture.denoise, images.latents)
    assert mixture.rmse(reached, images.targets) < 2e-4 * images.spread


def test_unchanged_evaluations_are_not_made_again():
    """A Jacobian costs what comes after a parameter's first effect; nothing for the last coefficients of the end."""
    student = Student(solvers.create("ddim"), grids.log_snr(steps=4))
    images = images_of(student, 16)
    parameters = families.General(linear_form(student, FACTS), 80.0, images, FACTS, LIMITS)
    problem = levenberg_marquardt._Problem(images, parameters, slice(0, 16))
    problem.begin(parameters.start)
    before = images.evaluations
    problem.normal_equations(parameters.start)
    # State i has i + 1 coefficients (the first state its level) and a told level, with K - i evaluations to make.
    expected = sum((i + 2) * (4 - i) for i in range(4))
    assert (images.evaluations - before) / 16 == expected


def test_the_jacobian_in_parts_is_that_of_all_images_at_once(monkeypatch):
    student = Student(IPNDM, grids.log_snr(steps=3), torch.zeros(3, THREE.count).double(), THREE)
    latents, ends = mixture.latents(20, 1), exact(20, 1)
    found = []
    for values in (2**25, 16 * 40):
        monkeypatch.setattr(levenberg_marquardt, "VALUES", values)
        images = Images(mixture.denoise, latents, ends, clip=False)
        parameters = families.Corrections(student, images, FACTS, LIMITS, levels=True)
        problem = levenberg_marquardt._Problem(images, parameters, slice(0, 20))
        problem.begin(parameters.start)
        found.append((len(problem.parts), *problem.normal_equations(parameters.start)))
    (whole, gram, gradient), (parts, gram_of_parts, gradient_of_parts) = found
    assert whole == 1
    assert parts > 3
    torch.testing.assert_close(gram_of_parts, gram, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient_of_parts, gradient, rtol=1e-6, atol=1e-9)


def test_errors_in_parts_are_those_of_all_images_at_once(monkeypatch):
    form, seen = linear_form(Student(IPNDM, grids.log_snr(steps=3)), FACTS), []

    def counting(x, sigma):
        seen.append(len(x))
        return mixture.denoise(x, sigma)

    images = Images(counting, mixture.latents(20, 1), exact(20, 1), clip=False)
    whole = images.errors(form, slice(2, 20))
    monkeypatch.setattr(levenberg_marquardt, "VALUES", 5 * 4 * images.latents[0].numel())
    torch.testing.assert_close(images.errors(form, slice(2, 20)), whole, rtol=1e-12, atol=0)
    assert seen == [18] * 3 + [5] * 9 + [3] * 3


@pytest.mark.parametrize("name", ["ddim", "ipndm", "heun", "dpm-solver++"])
def test_a_joint_fit_is_much_nearer_the_exact_solution_than_the_plain_solver(name):
    """RMSE on 2,048 fresh samples of the toy; measured ratios at 5 evaluations: 2.3 to 51."""
    solver = solvers.create(name)
    sigmas = grids.karras(steps=solver.steps(5))
    fit = dode.distill(solver, mixture.denoise, mixture.latents(400, 1), sigmas, ends=exact(400, 1))
    fresh, ends = mixture.latents(2048, 101), exact(2048, 101)
    plain = mixture.rmse(dode.sample(solver, mixture.denoise, fresh, sigmas), ends)
    fitted = mixture.rmse(dode.sample(solver, mixture.denoise, fresh, sigmas, lambdas=fit), ends)
    print(f"{name}: plain {plain:.4f}, joint {fitted:.4f} ({fit.family})")
    assert fitted < plain / 2


@functools.cache
def fitted(family):
    """A joint fit of iPNDM at four evaluations on 400 images, which two tests look at."""
    latents, ends = mixture.latents(400, 2), exact(400, 2)
    return dode.distill(IPNDM, mixture.denoise, latents, grids.karras(steps=4), ends=ends, family=family)


@pytest.mark.parametrize("family", fit_checks.RUNGS)
def test_larger_families_are_not_worse(family):
    fit = fitted(family)
    assert [rung.family for rung in fit.rungs] == ["plain", *fit_checks.rungs(family)]
    taken = [rung for rung in fit.rungs if rung.taken]
    assert fit.family == taken[-1].family != "plain"
    assert all(after.rmse_fitted < before.rmse_fitted for before, after in itertools.pairwise(taken))
    assert all(rung.compared.better for rung in taken[1:])


def test_the_plain_solver_is_kept_where_nothing_is_better():
    sigmas, latents = grids.karras(steps=5), mixture.latents(60, 1)
    ends = dode.sample(IPNDM, mixture.denoise, latents, sigmas)
    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=ends)
    assert fit.family == "plain"
    assert joint.kept(fit.rungs).startswith("plain, as no fit was better")
    assert torch.equal(dode.sample(IPNDM, mixture.denoise, latents, sigmas, lambdas=fit), ends)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 0}, "budget must be an integer of at least 3,000 network evaluations"),
        ({"budget": 2_999}, "not 2999"),
        ({"budget": 1e5}, "not 100000.0"),
        ({"budget": True}, "not True"),
        ({"steps": 40}, "cannot carry the 160 numbers of family 'levels' at 40 evaluations: at least 213 are needed"),
        ({"family": "lambda", "directions": 3}, "family 'lambda' has one direction, not 3"),
        ({"family": "lambda", "steps": 160}, "cannot carry the 160 numbers of family 'lambda'"),
    ],
)
def test_a_joint_fit_that_could_fit_nothing_is_refused(options, words):
    latents, sigmas = mixture.latents(200, 1), grids.karras(steps=options.pop("steps", 5))
    with pytest.raises(ValueError, match=words):
        dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=latents, **options)


def test_a_family_that_is_left_out_says_why():
    latents, sigmas = mixture.latents(60, 1), grids.karras(steps=10)
    ends, family = dode.sample(IPNDM, mixture.denoise, latents, grids.karras(steps=20)), "general"
    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=ends, family=family, directions=1)
    plain, levels, general = fit.rungs
    assert (plain.skipped, levels.skipped) == (None, None)
    assert general.skipped == "more numbers than the 45 fitted images can carry"
    assert general.rmse_fitted is None
    assert not general.taken

    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=ends, directions=1, budget=60 * 10 * 3)
    assert fit.family == "plain"
    assert all("budget" in rung.skipped for rung in fit.rungs[1:2])


def test_more_directions_begin_at_the_fit_of_one():
    fit = fitted("directions")
    assert [rung.family for rung in fit.rungs] == ["plain", "lambda", "directions"]
    assert fit.rungs[1].taken
    noise = Directions(differences=1, outputs="noise", from_noise=True)
    data = dataclasses.replace(noise, outputs="data", differences=2, drift=True)
    one = Student(IPNDM, grids.karras(steps=4), torch.arange(4.0).double()[:, None], noise)
    assert torch.equal(families.widened(one, data).lambdas, torch.zeros(4, 3).double())
    two = families.widened(one, dataclasses.replace(noise, differences=2))
    assert torch.equal(two.lambdas, torch.stack([torch.arange(4.0), torch.zeros(4)], 1).double())
    start, noises = torch.randn(5, 1, 2, 2).double(), mixture.latents(5, 1)
    assert torch.equal(two.run(mixture.denoise, noises), one.run(mixture.denoise, noises)), start


def test_coefficients_on_nearly_equal_outputs_stay_small():
    """Two evaluations at nearly one level: their difference is rounding, of which no coefficient may make something."""
    latents, ends = mixture.latents(100, 1).float(), exact(100, 1).float()
    sigmas = torch.tensor([80.0, 3.0, 1.0, 0.9999, 0.3, 0.0], dtype=torch.float64)
    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=ends, family="general")
    rounded = fit.student.sample(lambda x, sigma: mixture.denoise(x, sigma).bfloat16().to(x.dtype), latents)
    moved = mixture.rmse(rounded, fit.student.sample(mixture.denoise, latents))
    assert moved < 0.02


@pytest.mark.parametrize("budget", [5_000, 60_000])
def test_a_budget_is_kept_to(budget):
    calls = 0

    def denoise(x, sigma):
        nonlocal calls
        calls += len(x)
        return mixture.denoise(x, sigma)

    latents, sigmas = mixture.latents(200, 1), grids.karras(steps=5)
    fit = dode.distill(IPNDM, denoise, latents, sigmas, ends=exact(200, 1), budget=budget)
    assert calls <= budget + 2 * fit_checks.CHECKED * 5  # those which check that the solver is linear
    fresh, ends = mixture.latents(512, 101), exact(512, 101)
    plain = mixture.rmse(dode.sample(IPNDM, mixture.denoise, fresh, sigmas), ends)
    fitted = mixture.rmse(dode.sample(IPNDM, mixture.denoise, fresh, sigmas, lambdas=fit), ends)
    assert fitted <= plain


@pytest.mark.parametrize(("nfe", "budget"), [(5, 30_000), (8, 20_000), (10, 30_000), (8, 40_000), (10, 50_000)])
def test_a_small_budget_is_spent_on_few_images_and_starts(nfe, budget):
    """With all 150 fitted images, or all starts, it would end before an iteration that helps."""
    latents, sigmas = mixture.latents(200, 1), grids.karras(steps=nfe)
    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, ends=exact(200, 1), budget=budget)
    fresh, ends = mixture.latents(512, 101), exact(512, 101)
    plain = mixture.rmse(dode.sample(IPNDM, mixture.denoise, fresh, sigmas), ends)
    assert mixture.rmse(dode.sample(IPNDM, mixture.denoise, fresh, sigmas, lambdas=fit), ends) < 0.7 * plain


def test_what_is_clipped_off_counts_little_but_keeps_a_derivative():
    images = Images(mixture.denoise, mixture.latents(4, 1), exact(4, 1), clip=True)
    seen = images.seen(torch.tensor([-3.0, -0.5, 1.0, 2.0], dtype=torch.float64))
    assert seen.tolist() == pytest.approx([-1.2, -0.5, 1.0, 1.1])


def test_a_breakdown_loses_and_to_none():
    fine, broken = torch.tensor([1.0, 2.0, 1.5]).double(), torch.tensor([0.1, math.inf, 0.1]).double()
    assert comparison.Comparison.of(fine, broken).worse
    assert not comparison.Comparison.of(fine, broken).better
    assert comparison.Comparison.of(broken, fine).better
    assert comparison.Comparison.of(broken, broken).worse


@pytest.mark.parametrize("wrong", [torch.full((40, 1, 4, 4), math.nan), torch.zeros(40, 1, 4, 4, dtype=torch.uint8)])
def test_ends_that_are_no_images_are_refused(wrong):
    latents = mixture.latents(40, 1)
    with pytest.raises(ValueError, match="ends must be finite"):
        dode.distill(IPNDM, mixture.denoise, latents, grids.karras(steps=3), ends=wrong.reshape(latents.shape))


@pytest.mark.parametrize("sigmas", [grids.uniform_index(steps=5), grids.quadratic(steps=5), [80.0, 0.0]])
def test_the_fine_solution_of_a_plain_function_goes_down_to_the_details(sigmas):
    latents = mixture.latents(100, 1)
    fine = fine_solution.fine_ends(mixture.denoise, latents, torch.as_tensor(sigmas, dtype=torch.float64))
    assert mixture.rmse(fine, exact(100, 1)) < 0.01


def test_a_joint_fit_on_a_grid_that_ends_above_zero():
    latents = mixture.latents(60, 1)
    fit = dode.distill(IPNDM, mixture.denoise, latents, torch.tensor([80.0, 10.0, 1.0, 0.1], dtype=torch.float64))
    assert float(fit.student.sigmas[-1]) == 0.1


@pytest.mark.parametrize(
    "directions",
    [
        {"differences": 1, "drift": False, "outputs": "both"},
        {"differences": 1, "drift": True, "outputs": "noise"},
        3,
    ],
)
def test_lambdas_of_a_fit_run_along_its_own_directions(directions):
    latents, sigmas = mixture.latents(100, 1), grids.karras(steps=4)
    fit = dode.distill(IPNDM, mixture.denoise, latents, sigmas, fit="greedy", directions=directions)
    of_fit, bare = (dode.sample(IPNDM, mixture.denoise, latents, sigmas, lambdas=each) for each in (fit, fit.lambdas))
    assert torch.equal(of_fit, bare)
    with pytest.raises(ValueError, match="fitted along"):
        dode.sample(IPNDM, mixture.denoise, latents, sigmas, lambdas=fit.lambdas, directions=2)


@pytest.fixture(scope="module")
def whole():
    """(a joint fit, what it was made from)."""
    made_from = mixture.latents(60, 1), grids.karras(steps=4), exact(60, 1)
    return joint.climb_ladder(IPNDM, mixture.denoise, *made_from)[0], made_from


@pytest.mark.parametrize("kept", [1, 9, 17])
def test_a_killed_fit_goes_on_to_the_same_result(whole, kept, tmp_path):
    """Ended after so many iterations, at any of them, and begun again from its checkpoint."""
    whole, made_from = whole
    numbers = itertools.count(1)

    class Killed(Checkpoint):
        def write(self, state):
            super().write(state)
            if next(numbers) == kept:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        joint.climb_ladder(IPNDM, mixture.denoise, *made_from, checkpoint=Killed(tmp_path / "fit"))
    again, *_ = joint.climb_ladder(IPNDM, mixture.denoise, *made_from, checkpoint=Checkpoint(tmp_path / "fit"))
    fresh = mixture.latents(32, 5)
    assert torch.equal(again.sample(mixture.denoise, fresh), whole.sample(mixture.denoise, fresh))


def test_coefficients_alone_are_refused_where_levels_moved_too():
    latents = mixture.latents(60, 1)
    fit = dode.distill(IPNDM, mixture.denoise, latents, grids.karras(steps=4), ends=exact(60, 1), family="levels")
    assert fit.family == "levels"
    with pytest.raises(ValueError, match="this fit is of the family 'levels', of which the coefficients alone are no"):
        dode.sample(IPNDM, mixture.denoise, latents, grids.karras(steps=4), lambdas=fit.lambdas)


def rounded(bits):
    """The toy's denoiser as a network of so many bits of mantissa would compute it."""

    def denoise(x, sigma):
        exponent = torch.frexp(mixture.denoise(x, sigma))
        mantissa = torch.round(exponent.mantissa * 2**bits) / 2**bits
        return torch.ldexp(mantissa, exponent.exponent)

    return denoise


def test_rounding_of_the_network_makes_the_steps_longer():
    latents, sigmas, ends = mixture.latents(200, 1), grids.karras(steps=5), exact(200, 1)
    fresh, fresh_ends = mixture.latents(1024, 101), exact(1024, 101)
    denoise = rounded(11)  # float16
    plain = mixture.rmse(dode.sample(IPNDM, denoise, fresh, sigmas), fresh_ends)
    fit = dode.distill(IPNDM, denoise, latents, sigmas, ends=ends)
    assert mixture.rmse(dode.sample(IPNDM, denoise, fresh, sigmas, lambdas=fit), fresh_ends) < plain / 2
    with pytest.raises(ValueError, match="the network's rounding alone moves the end states by"):
        dode.distill(IPNDM, rounded(4), latents, sigmas, ends=ends)


@pytest.mark.parametrize("family", ["lambdas", "", None, 3])
def test_an_unknown_family_is_named(family):
    with pytest.raises(ValueError, match="family must be one of 'lambda', 'directions', 'levels', 'told', 'general'"):
        dode.distill(IPNDM, mixture.denoise, mixture.latents(40, 1), grids.karras(steps=4), family=family)


def test_a_model_that_knows_some_levels_alone_is_told_those():
    known = torch.logspace(-2, 2, 60, dtype=torch.float64)
    told = []

    def denoise(x, sigma):
        told.append(float(sigma))
        return mixture.denoise(x, sigma)

    def nearest(sigma):
        sigma = torch.as_tensor(sigma, dtype=torch.float64)
        nearest = known[(sigma.clamp(min=1e-9).log()[..., None] - known.log()).abs().argmin(-1)]
        return torch.where(sigma > 0, nearest, 0.0).numpy()

    denoise.facts = ModelFacts(round_sigma=nearest, sigma_min=0.01, sigma_max=100.0)
    sigmas = grids.for_model(denoise, "karras", 4)
    fit = dode.distill(IPNDM, denoise, mixture.latents(100, 1), sigmas, ends=exact(100, 1))
    assert fit.family in ("levels", "general")
    assert set(told) <= set(known.tolist())


@pytest.fixture(scope="module")
def at_a_half():
    """Noise, and the exact states at the level 0.5."""
    fresh, fine = mixture.latents(64, 2), torch.logspace(math.log10(80), math.log10(0.5), 161, dtype=torch.float64)
    return fresh, dode.sample(solvers.create("heun"), mixture.denoise, fresh, fine)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm-solver"])
@pytest.mark.parametrize("fit", ["greedy", "refined", "joint"])
def test_a_fit_on_a_grid_that_ends_above_0_aims_at_that_level(name, fit, at_a_half):
    """Not at the image: at 0.5 the state still has noise."""
    solver, sigmas = solvers.create(name), torch.tensor([80.0, 20.0, 5.0, 2.0, 0.5], dtype=torch.float64)
    latents, (fresh, exact_states) = mixture.latents(48, 1), at_a_half
    budget = {"budget": 30_000} if fit == "joint" else {}
    fitted = dode.distill(solver, mixture.denoise, latents, sigmas, fit=fit, **budget)
    assert fitted.student.nfe == solver.nfe(4, end=0.5)
    assert float(fitted.student.sigmas[-1]) == 0.5

    def error(**how):
        return float((dode.sample(solver, mixture.denoise, fresh, sigmas, **how) - exact_states).square().mean().sqrt())

    assert error(lambdas=fitted) < error() * (0.5 if fit == "joint" else 1)


class ByClass:
    """Exact denoiser of images around a mean of their class, ``N(label, 0.25)`` in every pixel."""

    classes = 3

    def __init__(self, labels):
        self.labels = labels

    def __call__(self, x, sigma):
        means = self.labels.to(x)[:, None, None, None]
        return means + 0.25 / (0.25 + sigma**2) * (x - means)

    def for_images(self, start, stop):
        return ByClass(self.labels[start:stop])

    def end(self, latents):
        """The exact end state from the level 80."""
        means = self.labels.to(latents)[:, None, None, None]
        return means + (80 * latents - means) * 0.5 / (0.25 + 80**2) ** 0.5


def test_every_part_of_a_fit_has_the_classes_of_its_images():
    labels = torch.arange(80) % 3 - 1
    latents, model = mixture.latents(80, 1), ByClass(labels)
    sigmas = grids.karras(steps=4)
    fit = dode.distill(IPNDM, model, latents, sigmas, ends=model.end(latents))
    fresh, others = mixture.latents(50, 2), ByClass(labels[:50].flip(0))
    plain = mixture.rmse(dode.sample(IPNDM, others, fresh, sigmas), others.end(fresh))
    assert mixture.rmse(dode.sample(IPNDM, others, fresh, sigmas, lambdas=fit), others.end(fresh)) < plain / 10


@pytest.mark.parametrize(
    ("evaluations", "family", "highest", "budget", "others"),
    [
        (joint.MANY + 1, "auto", 80.0, 16_000, True),
        (joint.MANY + 1, "auto", 20.0, 16_000, True),  # nobody has said that the model knows higher levels than these
        (joint.MANY + 1, "directions", 80.0, 16_000, False),  # whose levels are the given ones
        (joint.MANY + 1, "auto", 80.0, 2_000, False),
        (joint.MANY, "auto", 80.0, 16_000, False),
    ],
)
def test_with_many_evaluations_the_ground_is_plain_on_the_best_of_the_usual_grids(
    evaluations, family, highest, budget, others
):
    latents, ends = mixture.latents(40, 5), exact(40, 5)
    given = torch.cat([torch.linspace(highest, 0.002, evaluations), torch.zeros(1)]).double()
    student, _, rungs = joint.climb_ladder(
        IPNDM, mixture.denoise, latents, given, ends, family=family, directions=1, budget=budget, iterations=1
    )
    assert sum(rung.evaluations for rung in rungs) <= budget
    facts, held_out = ModelFacts(sigma_min=0.002, sigma_max=highest), slice(40 - fit_checks.held_out(40), 40)
    tried = {"": given}
    if others:
        tried |= {name: grids.for_facts(facts, name, evaluations) for name in joint.NAMED}
    ways = {name: Student(IPNDM, levels).sample(mixture.denoise, latents) for name, levels in tried.items()}
    best = min(ways, key=lambda name: mixture.rmse(ways[name][: held_out.start], ends[: held_out.start]))
    assert (rungs[0].family, rungs[0].start) == ("plain", best)
    assert bool(best) == others
    own = mixture.rmse(ways[best][held_out], ends[held_out])
    assert rungs[0].rmse_held_out == pytest.approx(own, rel=1e-6)
    assert mixture.rmse(student.sample(mixture.denoise, latents)[held_out], ends[held_out]) <= own * 1.001


def test_a_usual_grid_whose_levels_a_discrete_model_does_not_tell_apart_is_passed_over():
    known = grids.karras(steps=joint.MANY + 1).numpy()

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    def rounded(levels):
        return known[np.abs(np.log1p(known) - np.log1p(np.asarray(levels))[..., None]).argmin(-1)]

    denoise.facts = ModelFacts(sigma_min=0.002, sigma_max=80.0, round_sigma=rounded)
    latents, ends = mixture.latents(40, 5), exact(40, 5)
    _, _, rungs = joint.climb_ladder(IPNDM, denoise, latents, known, ends, directions=1, budget=16_000, iterations=1)
    assert (rungs[0].family, rungs[0].start) == ("plain", "")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([1000.0, 100.0, 10.0, 1.0, 0.0], [178.0, 31.6, 5.62, 1.0, 0.0]),
        ([1000.0, 100.0, 10.0, 1.0], [178.0, 31.6, 5.62, 1.0]),
        ([100.0, 1.0, 0.0], [10.0, 1.0, 0.0]),
    ],
)
def test_a_grid_is_begun_later_with_as_many_levels_and_the_same_end(levels, expected):
    assert joint.begun_later(torch.tensor(levels)).tolist() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("steps", "options", "later"),
    [
        (4, {}, True),
        (4, {"end": "sigma_min"}, True),
        (4, {"afs": True}, False),
        (joint.FEW, {}, True),
        (joint.FEW + 1, {}, False),
    ],
)
def test_levels_begin_on_the_given_grid_and_later(steps, options, later, tmp_path):
    """Not so with an analytic first step, as no evaluation is made at the first level, and with more evaluations."""
    latents, ends = mixture.latents(80, 1), exact(80, 1)
    sigmas, checkpoint = grids.karras(steps=steps, **options), Checkpoint(tmp_path / "fit")
    joint.climb_ladder(
        dode.driver.on_grid(IPNDM, sigmas),
        mixture.denoise,
        latents,
        sigmas,
        ends,
        family="levels",
        iterations=1,
        checkpoint=checkpoint,
    )
    begun = {name.partition(" ")[2] for name in checkpoint.read() if " " in name}
    assert len(begun) == 3 + later
    assert ("given, begun later" in begun) == later
