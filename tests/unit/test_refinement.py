"""The joint refinement against a linear problem's own solution, its bookkeeping, breakdowns, and every solver."""

import numpy as np
import pytest
import torch

import dode
import variants
from dode import grids, solvers
from dode.calls import NonFiniteError
from dode.distillation import fit_checks, refinement
from dode.distillation import teacher as teachers
from dode.distillation.refinement import refine_jointly
from dode.models import mixture

DDIM, KARRAS5 = solvers.create("ddim"), grids.karras(steps=5)
every_variant = pytest.mark.parametrize("variant", variants.SHARED, ids=variants.label)


class Linear:
    """End states that are linear in the coefficients: ``base + sum_j c_j column_j`` of each image."""

    def __init__(self, images, coefficients, seed=0):
        generator = np.random.default_rng(seed)
        self.latents = torch.from_numpy(generator.standard_normal((images, 1, 2, 3)))
        self.mixing = torch.from_numpy(generator.standard_normal((coefficients, 6, 6)))
        truth = torch.from_numpy(generator.standard_normal(coefficients))
        noise = torch.from_numpy(generator.standard_normal(self.latents.shape))
        self.ends = self.student(truth, self.latents) + 0.3 * noise

    def columns(self, latents):
        """(images * 6, coefficients); nonlinear in the noise, so that images differ."""
        flat = latents.flatten(1)
        return torch.stack([(flat.sin() @ mixing).flatten() for mixing in self.mixing], dim=1)

    def student(self, lambdas, latents, start=0):
        return (latents.flatten() + self.columns(latents) @ lambdas.flatten()).view(latents.shape)

    def refine(self, start, *, held_out=6, scales=None, iterations=30, student=None):
        scales = torch.ones_like(start) if scales is None else scales
        student = self.student if student is None else student
        return refine_jointly(student, start, scales, self.latents, self.ends, held_out, iterations=iterations)


def test_a_linear_problem_gets_its_least_squares_solution(monkeypatch):
    monkeypatch.setattr(refinement, "ENOUGH", 0.0)
    monkeypatch.setattr(refinement, "PATIENCE", 100)
    problem, start = Linear(24, 6), torch.zeros(3, 2, dtype=torch.float64)
    # The held-out images are fitted ones here, so that the best iterate is the last.
    problem.latents, problem.ends = (torch.cat([whole[:18]] * 2) for whole in (problem.latents, problem.ends))
    found, record = problem.refine(start, held_out=18)
    rows, rest = problem.columns(problem.latents[:18]).numpy(), (problem.ends - problem.latents)[:18].numpy().ravel()
    solution = np.linalg.lstsq(rows, rest, rcond=None)[0]
    np.testing.assert_allclose(found.flatten().numpy(), solution, rtol=1e-6, atol=1e-8)
    best = np.sqrt(np.mean((rows @ solution - rest) ** 2))
    assert record.rmse_fitted[1] == record.rmse_held_out[1] == pytest.approx(best, rel=1e-12)
    assert record.rmse_fitted[0] == pytest.approx(np.sqrt(np.mean(rest**2)), rel=1e-12)


def test_coefficients_without_a_scale_stay_as_they_are():
    problem = Linear(24, 6)
    start = torch.arange(6, dtype=torch.float64).view(3, 2) / 10
    scales = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 5.0]])
    found, _ = problem.refine(start, scales=scales)
    assert torch.equal(found == start, scales == 0)
    still, record = problem.refine(start, scales=torch.zeros(3, 2))
    assert torch.equal(still, start)
    assert (record.iterations, record.runs) == (0, 1)


def test_the_fitted_error_never_rises_and_the_best_held_out_iterate_is_kept(monkeypatch):
    """Every error that is computed is watched: accepted ones fall, and what is returned is the best one held out."""
    seen = []
    original = refinement._Problem.error

    def watched(problem, lambdas):
        value = original(problem, lambdas)
        seen.append((len(problem.latents), lambdas.clone(), value))
        return value

    monkeypatch.setattr(refinement._Problem, "error", watched)
    worse = 0
    for seed in range(6):
        seen.clear()
        fit = dode.distill(
            DDIM, mixture.denoise, mixture.latents(64, seed), KARRAS5, directions=2, iterations=10, fit="refined"
        )
        held = [(lambdas, value) for images, lambdas, value in seen if images == 16]
        fitted = [next(value for n, c, value in seen if n == 48 and torch.equal(c, lambdas)) for lambdas, _ in held]
        assert fitted == sorted(fitted, reverse=True), "iterates, each of which was accepted"
        assert len(set(fitted)) == len(fitted)
        best = min(range(len(held)), key=lambda i: held[i][1])
        assert torch.equal(fit.lambdas, held[best][0])
        assert fit.refinement.rmse_held_out == (held[0][1], held[best][1])
        assert fit.refinement.rmse_fitted == (fitted[0], fitted[best])
        assert len(held) - 1 - best <= refinement.PATIENCE
        worse += best < len(held) - 1
    assert worse, "in no case was an iterate better on the fitted images refused by the held-out ones"


def test_a_refinement_has_the_numbers_that_it_always_had():
    """Golden values, of the solver when it had steps of its own."""
    fit = dode.distill(
        DDIM, mixture.denoise, mixture.latents(64, 3), KARRAS5, directions=2, iterations=8, fit="refined"
    )
    expected = [
        [0.0, 0.022840778551461636],
        [1.2363197156732257, -0.03909868703554654],
        [0.31047645768101195, -0.3244789044616581],
        [0.04747451821474109, 1.4479420553518418],
        [0.10029990805500867, 0.0],
    ]
    torch.testing.assert_close(fit.lambdas, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-7)
    record = fit.refinement
    assert (record.iterations, record.runs) == (8, 90)
    assert record.rmse_held_out == pytest.approx((0.20164046666266786, 0.014888113437877456), rel=1e-6)


@pytest.mark.parametrize("directions", [1, 3, {"outputs": "both"}], ids=["1", "3", "both"])
def test_recorded_errors_are_those_of_sampling_the_same_images(directions):
    latents = mixture.latents(48, 1)
    fits = [
        dode.distill(DDIM, mixture.denoise, latents, KARRAS5, directions=directions, **how)
        for how in ({"fit": "greedy"}, {"fit": "refined", "iterations": 6})
    ]
    pairing = teachers.aligned(DDIM, KARRAS5, 10)
    target = dict(teachers.trajectory(pairing, mixture.denoise, latents))[0.0]
    ends = dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fits[1])
    record = fits[1].refinement
    assert fits[0].refinement is None
    assert record.iterations >= 1
    assert record.rmse_fitted[1] == pytest.approx(mixture.rmse(ends[:36], target[:36]), rel=1e-9)
    assert record.rmse_held_out[1] == pytest.approx(mixture.rmse(ends[36:], target[36:]), rel=1e-9)
    assert record.rmse_fitted[0] == pytest.approx(fits[1].rms_after[-1].item(), rel=1e-9)
    greedy = dode.distill(DDIM, mixture.denoise, latents[:36], KARRAS5, directions=directions, fit="greedy")
    torch.testing.assert_close(greedy.rms_after, fits[1].rms_after, rtol=1e-9, atol=1e-15)
    assert ((fits[1].lambdas != 0) == (greedy.lambdas != 0)).all(), "the greedy fit's coefficients and no others"


@pytest.mark.parametrize("stages", [True, False])
def test_runs_that_are_counted_were_made(stages):
    """40 images: the teacher's calls have all of them, the student's 30, the held-out ones' 10."""
    calls, solver = [], solvers.create("heun")

    def counting(x, sigma):
        calls.append(len(x))
        return mixture.denoise(x, sigma)

    fit = dode.distill(
        solver, counting, mixture.latents(40, 2), grids.karras(steps=3), iterations=3, stages=stages, fit="refined"
    )
    record, evaluations = fit.refinement, solver.nfe(3)
    assert calls.count(30) == (record.runs + 1) * evaluations, "one more for the greedy fit"
    assert calls.count(10) % evaluations == 0
    assert 2 <= calls.count(10) // evaluations <= record.iterations + 1
    assert set(calls) == {40, 30, 10}
    active = int((fit.lambdas != 0).sum())
    assert record.runs >= 1 + record.iterations * (1 + active + 1)


@pytest.mark.parametrize("values", [1, 900, 5000])
def test_the_result_does_not_depend_on_how_many_images_go_at_a_time(values, monkeypatch):
    def refined():
        return dode.distill(
            DDIM, mixture.denoise, mixture.latents(24, 3), KARRAS5, directions=2, iterations=3, fit="refined"
        )

    whole = refined()
    monkeypatch.setattr(refinement, "VALUES", values)
    parts = refined()
    torch.testing.assert_close(parts.lambdas, whole.lambdas, rtol=1e-6, atol=1e-8)
    assert parts.refinement.runs == whole.refinement.runs
    assert parts.refinement.rmse_fitted == pytest.approx(whole.refinement.rmse_fitted, rel=1e-7)


def breaking(problem, radius, failure):
    """The linear student, but for a breakdown where a coefficient is beyond ``radius``."""

    def student(lambdas, latents, start):
        assert lambdas.isfinite().all()
        ends = problem.student(lambdas, latents)
        if lambdas.abs().max() > radius:
            if failure == "raises":
                raise NonFiniteError("12 of 18 end states contain NaN or infinity")
            ends = ends * 1e200  # finite; its square is not
        return ends

    return student


@pytest.mark.parametrize("failure", ["raises", "overflows"])
@pytest.mark.parametrize("radius", [0.05, 1e-9, -1.0], ids=["far", "next", "here"])
def test_a_student_that_breaks_down_for_large_coefficients_is_survived(failure, radius):
    """Far from the start: shorter steps are found. Next to it, or at it: the start is kept."""
    problem, start = Linear(24, 6), torch.zeros(3, 2, dtype=torch.float64)
    if (failure, radius) == ("overflows", -1.0):
        problem.ends *= 1e200
    found, record = problem.refine(start, student=breaking(problem, radius, failure), iterations=5)
    assert found.isfinite().all()
    if radius > 0:
        assert found.abs().max() <= radius
        assert np.isfinite(record.rmse_fitted).all()
    if radius == 0.05:
        assert record.rmse_fitted[1] < record.rmse_fitted[0]
    else:
        assert torch.equal(found, start)


def test_coefficients_without_effect_are_survived():
    problem, start = Linear(24, 6), torch.zeros(3, 2, dtype=torch.float64)
    problem.mixing[:] = 0
    found, record = problem.refine(start)
    assert torch.equal(found, start)
    assert (record.iterations, record.rmse_fitted[0]) == (1, record.rmse_fitted[1])


def test_two_coefficients_of_the_same_effect_are_survived():
    problem, start = Linear(24, 6), torch.zeros(3, 2, dtype=torch.float64)
    problem.mixing[1] = problem.mixing[0]
    found, record = problem.refine(start)
    assert found.abs().max() < 100
    assert record.rmse_fitted[1] < record.rmse_fitted[0]


def nearest_grid(solver, evaluations=5):
    """The grid with the number of steps whose evaluations are nearest."""
    steps = min(range(1, evaluations + 1), key=lambda count: abs(solver.nfe(count) - evaluations))
    return grids.karras(steps=steps)


@every_variant
@pytest.mark.parametrize("directions", [1, 3])
def test_every_solver_can_be_refined(variant, directions):
    name, options = variant
    solver = solvers.create(name, **options)
    sigmas = nearest_grid(solver)
    fit = dode.distill(
        solver,
        mixture.denoise,
        mixture.latents(32, 4),
        sigmas,
        substeps=3,
        directions=directions,
        iterations=2,
        fit="refined",
    )
    record = fit.refinement
    assert fit.lambdas.isfinite().all()
    assert record.iterations >= 1
    assert np.isfinite([*record.rmse_fitted, *record.rmse_held_out]).all()
    assert record.rmse_fitted[1] <= record.rmse_fitted[0]
    assert record.rmse_held_out[1] <= record.rmse_held_out[0]
    assert (fit.rms_after <= fit.rms_before * (1 + 1e-12)).all()


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_a_refined_fit_serves_a_model_of_either_prediction(prediction):
    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.prediction = prediction
    fit = dode.distill(
        DDIM, denoise, mixture.latents(64, 5).float(), KARRAS5, directions=3, iterations=6, fit="refined"
    )
    assert fit.directions.outputs == prediction
    assert fit.refinement.rmse_fitted[1] < fit.refinement.rmse_fitted[0]


GAINS = {5: (1.6, 0.09), 8: (1.2, 0.08)}


@pytest.mark.parametrize("steps", GAINS)
def test_refined_euler_is_nearer_the_exact_solution_than_the_greedy_fit(steps):
    """m = 3, fit 256, at most 12 iterations, test 2,048 others: mean of 5 seeds of the RMSE to the exact solution."""
    sigmas, errors = grids.karras(steps=steps), []
    for seed in range(5):
        fresh, exact = mixture.latents(2048, 100 + seed), mixture.exact(2048, 100 + seed)
        row = []
        for kind in ("greedy", "refined"):
            fit = dode.distill(
                DDIM,
                mixture.denoise,
                mixture.latents(256, seed),
                sigmas,
                directions=3,
                fit=kind,
            )
            row.append(mixture.rmse(dode.sample(DDIM, mixture.denoise, fresh, sigmas, lambdas=fit), exact))
        errors.append(row)
    assert all(refined < greedy for greedy, refined in errors)
    greedy, refined = np.mean(errors, axis=0)
    print(f"Euler, {steps} evaluations: greedy {greedy:.4f}, refined {refined:.4f}")
    assert refined < greedy / GAINS[steps][0]
    assert refined < GAINS[steps][1]


@pytest.mark.parametrize("alignment", ["local", "released"])
def test_alignments_without_an_end_to_aim_at_are_refused(alignment):
    with pytest.raises(ValueError, match=f"fit 'refined': alignment '{alignment}' has no end state to aim at"):
        dode.distill(
            DDIM, mixture.denoise, mixture.latents(40, 0), KARRAS5, alignment=alignment, iterations=2, fit="refined"
        )


@pytest.mark.parametrize("refine", [-1, 0, True, 1.0, "3"])
def test_iterations_are_a_whole_number(refine):
    with pytest.raises(ValueError, match=r"iterations must be an integer of at least 1"):
        dode.distill(DDIM, mixture.denoise, mixture.latents(40, 0), KARRAS5, iterations=refine, fit="refined")


@pytest.mark.parametrize("directions", [1, 2, 3, 5])
@pytest.mark.parametrize("evaluations", [1, 2, 5, 7, 15])
@pytest.mark.parametrize("refine", [0, 4])
def test_the_number_of_images_named_is_the_smallest_that_serves(directions, evaluations, refine):
    """Counted out from the rule: four fitted images per direction; refined, as many as coefficients too."""
    serves = []
    for images in range(1, 140):
        fitted = images - max(1, images // 4) if refine else images
        serves.append(fitted >= max(4 * directions, directions * evaluations if refine else 0))
    least = serves.index(True) + 1
    assert all(serves[least - 1 :])
    fit_checks.check_images(least, directions, evaluations, refine)
    for images in (1, least - 1):
        with pytest.raises(ValueError, match=rf"^{images} images?\b.*at least {least} are needed"):
            fit_checks.check_images(images, directions, evaluations, refine)


def test_the_library_refuses_too_few_images_before_any_evaluation():
    def never(x, sigma):
        raise AssertionError("evaluated")

    three = {"directions": 3}
    with pytest.raises(ValueError, match="11 images cannot carry 3 directions per evaluation: at least 12 are needed"):
        dode.distill(DDIM, never, mixture.latents(11, 0), KARRAS5, **three, fit="greedy")
    message = r"19 images, .* refinement of 15 coefficients \(3 at each of 5 evaluations\): at least 19 are needed"
    with pytest.raises(ValueError, match=message.replace("19 images", "18 images")):
        dode.distill(DDIM, never, mixture.latents(18, 0), KARRAS5, iterations=1, **three, fit="refined")
    assert dode.distill(
        DDIM, mixture.denoise, mixture.latents(19, 0), KARRAS5, iterations=1, **three, fit="refined"
    ).refinement
