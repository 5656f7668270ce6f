"""The closed-form fit against an independent least squares, its properties, its published gain, and its refusals."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch

import dode
import variants
from dode import driver, grids, solvers
from dode.calls import NonFiniteError
from dode.distillation import greedy, learned
from dode.distillation import teacher as teachers
from dode.models import mixture
from noise_mixture import NoiseMixture

DDIM, HEUN = solvers.create("ddim"), solvers.create("heun")
KARRAS5 = grids.karras(steps=5)
EIGHT = mixture.latents(8, 0)


def rho_levels(high, low, count):
    """``count`` + 1 levels, uniform in sigma^(1/7)."""
    return np.linspace(high ** (1 / 7), low ** (1 / 7), count + 1) ** 7


def teacher_states(latents, levels, substeps):
    """Heun's method by hand: the state at each of ``levels`` after the first, with ``substeps`` steps in between."""
    x, states = latents * levels[0], []
    for high, low in pairwise(levels):
        fine = np.array([high, 0.0]) if low == 0 else rho_levels(high, low, substeps)
        fine[0], fine[-1] = high, low
        for sigma, sigma_next in pairwise(fine.tolist()):
            slope = (x - mixture.denoise(x, sigma)) / sigma
            euler = x + (sigma_next - sigma) * slope
            if sigma_next > 0:
                slope = (slope + (euler - mixture.denoise(euler, sigma_next)) / sigma_next) / 2
            x = x + (sigma_next - sigma) * slope
        states.append(x)
    return states


def euler_proposals(latents, levels, advance):
    """Euler's method by hand; ``advance(k, proposal, outputs, drift)`` gives the state to go on with."""
    x, outputs = latents * levels[0], []
    for k, (sigma, sigma_next) in enumerate(pairwise(levels)):
        outputs.insert(0, mixture.denoise(x, sigma))
        drift = (sigma_next - sigma) * (x - outputs[0]) / sigma
        x = advance(k, x + drift, outputs, drift)
    return x


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_one_direction_is_the_least_squares_of_stacked_rows(steps):
    latents, sigmas = mixture.latents(64, 1), grids.karras(steps=steps)
    levels = [*rho_levels(80.0, 0.002, steps - 1).tolist(), 0.0]
    targets, expected = teacher_states(latents, levels, 10), [0.0]

    def advance(k, proposal, outputs, drift):
        if k == 0:
            return proposal
        direction = outputs[0] - outputs[1]
        solution = torch.linalg.lstsq(direction.reshape(-1, 1), (targets[k] - proposal).reshape(-1, 1)).solution
        expected.append(float(solution))
        return proposal + expected[-1] * direction

    end = euler_proposals(latents, levels, advance)
    fit = dode.distill(DDIM, mixture.denoise, latents, sigmas, substeps=10, fit="greedy")
    assert fit.lambdas.shape == (steps, 1)
    np.testing.assert_allclose(fit.lambdas[:, 0].numpy(), expected, rtol=1e-10, atol=1e-10)
    distilled = dode.sample(DDIM, mixture.denoise, latents, sigmas, lambdas=fit.lambdas)
    torch.testing.assert_close(distilled, end, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("steps", "tolerance"), [(4, 1e-3), (5, 1e-3), (6, 1e-3), (10, None)])
def test_three_directions_leave_the_residual_of_the_unregularised_projection(steps, tolerance):
    """At 10 steps directions are nearly parallel at high noise: there the ridge may cost 0.5 % of ``rms_before``."""
    latents, sigmas = mixture.latents(256, 2), grids.karras(steps=steps)
    fit = dode.distill(DDIM, mixture.denoise, latents, sigmas, substeps=10, directions=3, fit="greedy")
    levels = [*rho_levels(80.0, 0.002, steps - 1).tolist(), 0.0]
    targets, lambdas = teacher_states(latents, levels, 10), fit.lambdas.numpy()
    kept = (lambdas != 0).sum(axis=1)

    def advance(k, proposal, outputs, drift):
        columns = {0: outputs[0] - outputs[1]} if k > 0 else {}
        columns |= {1: outputs[1] - outputs[2]} if k > 1 else {}
        columns = {j: column for j, column in (columns | {2: drift}).items() if lambdas[k, j] != 0}
        rows = np.stack([column.numpy().ravel() for column in columns.values()], axis=1)
        residual = (targets[k] - proposal).numpy().ravel()
        left = residual - rows @ np.linalg.lstsq(rows, residual, rcond=None)[0]
        best, before = np.sqrt(np.mean(left**2)), np.sqrt(np.mean(residual**2))
        allowed = 5e-3 * before if tolerance is None else tolerance * best
        assert best * (1 - 1e-9) <= fit.rms_after[k].item() <= best + allowed, f"evaluation {k}"
        assert fit.rms_before[k].item() == pytest.approx(before, rel=1e-8)
        return proposal + sum(lambdas[k, j] * column for j, column in columns.items())

    end = euler_proposals(latents, levels, advance)
    distilled = dode.sample(DDIM, mixture.denoise, latents, sigmas, lambdas=fit.lambdas)
    torch.testing.assert_close(distilled, end, rtol=0, atol=1e-8)
    assert kept.tolist() == [1, 2] + [3] * (steps - 3) + [2], "the drift of the step to sigma = 0 is too short"


RELEASED = {("ddim", "data"), ("heun", "data"), ("ddim", "noise")}
PAIRINGS = [
    (variant, prediction, alignment)
    for variant in variants.SHARED
    for prediction in ("data", "noise")
    for alignment in ("aligned", "released")
    if alignment == "aligned" or (variant[0], prediction) in RELEASED
]


def model_and_grid(prediction, steps):
    """The mixture of a prediction with a grid of its kind."""
    if prediction == "noise":
        return NoiseMixture(), grids.uniform_index(steps=steps, spacing="leading")
    return mixture.denoise, grids.karras(steps=steps)


#: Two numbers of directions each, so that every solver, prediction and alignment meets all four.
FITTED = [
    pytest.param(each, directions, id=f"{variants.label(each[0])}-{each[1]}-{each[2]}-{directions}")
    for number, each in enumerate(PAIRINGS)
    for directions in ((1, 3), (2, 4))[(number + number // 2) % 2]
]


@pytest.mark.parametrize(("pairing", "directions"), FITTED)
def test_no_fitted_evaluation_is_further_from_its_target_than_before(pairing, directions):
    (name, options), prediction, alignment = pairing
    (denoise, sigmas), solver = model_and_grid(prediction, 4), solvers.create(name, **options)
    fit = dode.distill(
        solver,
        denoise,
        mixture.latents(64, 3),
        sigmas,
        substeps=4,
        alignment=alignment,
        directions=directions,
        fit="greedy",
    )
    assert fit.lambdas.shape == (solver.nfe(4), directions)
    assert fit.lambdas.isfinite().all()
    fitted = fit.rms_before.isfinite()
    assert fitted.sum() == solver.nfe(4) - (alignment == "released" and prediction == "data")
    assert (fit.rms_after[fitted] <= fit.rms_before[fitted] * (1 + 1e-12)).all()
    assert (fit.rms_after[fitted] < fit.rms_before[fitted] * 0.99).any()
    assert fit.rms_after[~fitted].isnan().all()
    assert (fit.lambdas[~fitted] == 0).all()


@pytest.mark.parametrize("name", variants.SHARED_NAMES)
@pytest.mark.parametrize("directions", [1, 3])
def test_sampling_the_fitting_set_again_gives_the_distance_that_the_fit_reports(name, directions):
    latents, solver = mixture.latents(64, 4), solvers.create(name)
    fit = dode.distill(solver, mixture.denoise, latents, KARRAS5, substeps=6, directions=directions, fit="greedy")
    pairing = teachers.aligned(solver, KARRAS5, 6)
    target = dict(teachers.trajectory(pairing, mixture.denoise, latents))[0.0]
    distilled = dode.sample(solver, mixture.denoise, latents, KARRAS5, lambdas=fit.lambdas)
    assert mixture.rmse(distilled, target) == pytest.approx(fit.rms_after[-1].item(), rel=1e-9)


def test_stages_false_leaves_the_predictor_of_heun_alone():
    fit = dode.distill(HEUN, mixture.denoise, mixture.latents(64, 3), KARRAS5, substeps=4, stages=False, fit="greedy")
    assert (fit.lambdas[0:-1:2] == 0).all()
    assert (fit.lambdas[1:-1:2] != 0).all()
    assert torch.equal(fit.rms_after[0:-1:2], fit.rms_before[0:-1:2])


BOUNDS = {4: (0.230, 0.195), 5: (0.220, 0.160), 6: (0.163, 0.122), 10: (0.095, 0.088)}


@pytest.mark.parametrize("steps", BOUNDS)
def test_distilled_euler_reaches_the_published_error_on_fresh_images(steps):
    """Fit on 256, test on 2,048 others, S = 10; mean over 5 seeds of the RMSE to the exact solution."""
    sigmas, errors = grids.karras(steps=steps), []
    for seed in range(5):
        fresh, exact = mixture.latents(2048, 100 + seed), mixture.exact(2048, 100 + seed)
        row = [mixture.rmse(dode.sample(DDIM, mixture.denoise, fresh, sigmas), exact)]
        for directions in (1, 3):
            fit = dode.distill(
                DDIM,
                mixture.denoise,
                mixture.latents(256, seed),
                sigmas,
                substeps=10,
                directions=directions,
                fit="greedy",
            )
            distilled = dode.sample(DDIM, mixture.denoise, fresh, sigmas, lambdas=fit.lambdas)
            row.append(mixture.rmse(distilled, exact))
        errors.append(row)
    assert all(row[1] < row[0] and row[2] < row[0] for row in errors)
    _, one, three = np.mean(errors, axis=0)
    assert one <= BOUNDS[steps][0]
    assert three <= BOUNDS[steps][1]


@pytest.mark.parametrize("name", variants.SHARED_NAMES)
@pytest.mark.parametrize("directions", [1, 3])
def test_the_order_of_the_fitting_images_is_of_no_account(name, directions):
    latents, solver = mixture.latents(64, 5), solvers.create(name)
    shuffled = latents[torch.from_numpy(np.random.default_rng(0).permutation(64))]
    first, second = (
        dode.distill(solver, mixture.denoise, z, KARRAS5, substeps=5, directions=directions, fit="greedy").lambdas
        for z in (latents, shuffled)
    )
    scale = first.abs().amax(dim=1, keepdim=True).clamp(min=1)
    rounding = 1e-12 if directions == 1 else 1e-9  # nearly parallel directions magnify that of the sums
    assert ((first - second).abs() <= rounding * scale).all()


@pytest.mark.parametrize("directions", [1, 3])
def test_a_denoiser_that_batches_internally_gives_the_same_lambdas(directions):
    latents = mixture.latents(64, 6)

    def batched(x, sigma):
        return torch.cat([mixture.denoise(part, sigma) for part in x.split(7)])

    whole, parts = (
        dode.distill(DDIM, denoise, latents, KARRAS5, substeps=5, directions=directions, fit="greedy").lambdas
        for denoise in (mixture.denoise, batched)
    )
    torch.testing.assert_close(whole, parts, rtol=1e-11, atol=1e-11)


def test_an_elementwise_denoiser_that_batches_gives_the_same_bits():
    latents = mixture.latents(64, 6)

    def denoise(x, sigma):
        return x / (1 + sigma**2 + x * x)

    def batched(x, sigma):
        return torch.cat([denoise(part, sigma) for part in x.split(7)])

    whole, parts = (
        dode.distill(HEUN, call, latents, KARRAS5, substeps=5, fit="greedy").lambdas for call in (denoise, batched)
    )
    assert torch.equal(whole, parts)


def test_a_vanishing_direction_is_an_error_that_names_the_evaluation():
    def still_from_one(x, sigma):
        """Outputs change between the first two evaluations only."""
        return torch.full_like(x, 1.0 if sigma > 50 else 2.0)

    with pytest.raises(greedy.FitError, match=r"evaluation 2: direction 0 is zero on every image"):
        dode.distill(DDIM, still_from_one, EIGHT, KARRAS5, fit="greedy")


def test_a_vanishing_difference_is_left_out_where_the_drift_remains():
    fit = dode.distill(DDIM, lambda x, sigma: torch.ones_like(x), EIGHT, KARRAS5, directions=2, fit="greedy")
    assert (fit.lambdas[:, 0] == 0).all()
    assert fit.rms_after.max() < 1e-6


@pytest.mark.parametrize("fit", ["greedy", "joint", "refined"])
def test_a_network_that_breaks_down_in_a_fit_is_an_error_that_names_the_evaluation(fit):
    """Of the last image alone, so that no check of a few images finds it."""
    latents = mixture.latents(32, 1)

    def broken(x, sigma):
        out = mixture.denoise(x, sigma)
        # The last image while the solver runs on all of them; of the ladder's parts, what has its noise.
        out[torch.isclose(x, latents[-1] * 80).flatten(1).all(1)] = float("nan")
        return out

    options = {"ends": torch.zeros_like(latents)} if fit == "joint" else {}
    with pytest.raises(NonFiniteError, match=r"1 of \d+ images at evaluation 1 of \d+ \(noise level 80\)"):
        dode.distill(DDIM, broken, latents, KARRAS5, fit=fit, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alignment": "alinged"}, "alignment must be 'aligned', 'local' or 'released', not 'alinged'"),
        ({"alignment": "released", "teacher": "heun"}, "alignment 'released' has its own teacher"),
        ({"substeps": 0}, "substeps must be an integer of at least 1, not 0"),
        ({"substeps": 2.0}, "substeps must be an integer of at least 1, not 2.0"),
        ({"teacher": "huen"}, r"unknown solver 'huen' \(did you mean 'heun'\?\)"),
    ],
)
def test_bad_options_of_the_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dode.distill(DDIM, mixture.denoise, EIGHT, KARRAS5, **options, fit="greedy")


def never(x, sigma):
    raise AssertionError("the network was called")


@pytest.mark.parametrize(
    ("fit", "options", "said"),
    [
        ("joint", {"family": "labmda"}, "8 images are too few for a joint fit"),
        ("greedy", {"directions": 40}, "8 images cannot carry 40 directions"),
        ("refined", {"directions": 4}, "8 images"),
        *((name, {"options": {"iteration": 5}}, "unknown option 'iteration'") for name in learned.fits.names()),
        ("gs", {"options": {"iterations": 0}}, "iterations"),
        ("pas", {"options": {"loss": "L3"}}, "loss must be 'L1' or 'L2', not 'L3'"),
        ("pas", {"teacher": "huen"}, "unknown solver 'huen'"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_any_evaluation(fit, options, said):
    with pytest.raises(ValueError, match=said):
        dode.distill(DDIM, never, EIGHT, KARRAS5, fit=fit, **options)


def test_released_needs_a_grid_that_knows_its_family():
    plain = torch.tensor(KARRAS5.tolist(), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"needs sigmas made by a function of dode\.grids"):
        dode.distill(DDIM, mixture.denoise, EIGHT, plain, alignment="released", fit="greedy")


def test_released_knows_no_heun_for_noise_prediction():
    sigmas = grids.uniform_index(steps=4, spacing="leading")
    with pytest.raises(ValueError, match=r"'heun'.* noise prediction"):
        dode.distill(HEUN, NoiseMixture(), EIGHT, sigmas, alignment="released", fit="greedy")


def test_released_lambdas_of_a_noise_model_need_the_directions_of_their_fit():
    """There pure noise counts as the output before the first evaluation, so the first lambda has a direction."""
    latents, sigmas = mixture.latents(64, 8), grids.uniform_index(steps=5, spacing="leading")
    fit = dode.distill(DDIM, NoiseMixture(), latents, sigmas, alignment="released", fit="greedy")
    pairing = teachers.released(DDIM, sigmas, 10, "noise")
    target = dict(teachers.trajectory(pairing, NoiseMixture(), latents))[0.0]
    distilled = dode.sample(DDIM, NoiseMixture(), latents, sigmas, lambdas=fit.lambdas, directions=fit.directions)
    assert fit.lambdas[0] != 0
    assert mixture.rmse(distilled, target) == pytest.approx(fit.rms_after[-1].item(), rel=1e-9)


@pytest.mark.parametrize("name", variants.SHARED_NAMES)
def test_the_aligned_teacher_stops_at_every_proposal_of_the_student(name):
    solver = solvers.create(name)
    pairing = teachers.aligned(solver, KARRAS5, 7)
    levels = [float(step.proposal.sigma) for step in driver.steps(solver, mixture.denoise, EIGHT, KARRAS5)]
    assert list(pairing.levels) == levels
    assert set(levels) <= set(pairing.sigmas.tolist())
    assert set(pairing.scales) == {1.0}


def test_the_teacher_is_the_solver_asked_for():
    assert teachers.aligned(DDIM, KARRAS5, 3).teacher.name == "heun"
    assert teachers.aligned(DDIM, KARRAS5, 3, "ddim").teacher.name == "ddim"
    lambdas = [
        dode.distill(DDIM, mixture.denoise, EIGHT, KARRAS5, teacher=name, fit="greedy").lambdas
        for name in ("ddim", "heun")
    ]
    assert not torch.allclose(*lambdas, rtol=1e-3)


def test_the_teacher_runs_no_further_than_the_state_asked_for():
    calls = []

    def counting(x, sigma):
        calls.append(float(sigma))
        return mixture.denoise(x, sigma)

    states = teachers.trajectory(teachers.aligned(DDIM, KARRAS5, 10), counting, EIGHT)
    assert calls == []
    level, _ = next(states)
    assert (level, len(calls)) == (float(KARRAS5[1]), 2 * 10)
    level, _ = next(states)
    assert (level, len(calls)) == (float(KARRAS5[2]), 2 * 20)
    assert [level for level, _ in states] == KARRAS5[3:].tolist()
    assert len(calls) == 2 * 40 + 1


def test_the_teacher_holds_no_state_that_it_has_passed():
    """Only the state before the last one may still be there: it is where the last step, a single one, began."""
    references = []
    for _, state in teachers.trajectory(teachers.aligned(DDIM, KARRAS5, 10), mixture.denoise, EIGHT):
        assert not any(reference() is not None for reference in references[:-1])
        references.append(weakref.ref(state))
        del state
    assert len(references) == 5


def test_a_teacher_that_misses_a_level_is_an_error():
    pairing = teachers.Alignment(HEUN, KARRAS5, (float(KARRAS5[1]), 1.2345, 0.0), (1.0,) * 3)
    with pytest.raises(ValueError, match=r"never ends a step at sigma = 1.2345"):
        list(teachers.trajectory(pairing, mixture.denoise, EIGHT))


def test_released_coefficients_of_a_noise_model_need_no_directions_to_be_sampled_with():
    model, sigmas = NoiseMixture(), grids.uniform_index(steps=4, spacing="leading")
    solver, noise = solvers.create("ddim"), mixture.latents(32, 3)
    fit = dode.distill(solver, model, noise, sigmas, alignment="released", fit="greedy")
    assert fit.lambdas[0, 0] != 0
    plainly = dode.sample(solver, model, noise, sigmas, lambdas=fit.lambdas)
    explicitly = dode.sample(solver, model, noise, sigmas, lambdas=fit.lambdas, directions=fit.directions)
    assert torch.equal(plainly, explicitly)
