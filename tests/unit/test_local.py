"""Targets that begin at the student (alignment "local") and the corrections of IIA, recomputed by plain loops."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import dode
import variants
from dode import grids, solvers
from dode.distillation import greedy
from dode.models import mixture

DDIM, HEUN = solvers.create("ddim"), solvers.create("heun")
BOTH = {"differences": 1, "outputs": "both"}
EDM = {"differences": 3, "drift": True, "outputs": "noise"}
IIA_DDIM = {"alignment": "local", "teacher": "ddim", "directions": BOTH}
IIA_EDM = {"alignment": "local", "teacher": "heun", "stages": False, "directions": EDM}


def karras_levels(steps):
    """The EDM grid by its formula."""
    return [*(np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), steps) ** 7).tolist(), 0.0]


def between(high, low, count):
    """Levels of the teacher from ``high`` to ``low``; no level lies between the smallest and 0."""
    if low == 0:
        return [high, 0.0]
    inner = np.linspace(high ** (1 / 7), low ** (1 / 7), count + 1) ** 7
    return [high, *inner[1:-1].tolist(), low]


def slope(x, sigma):
    """The noise estimate."""
    return (x - mixture.denoise(x, sigma)) / sigma


def euler_steps(x, levels):
    for sigma, below in pairwise(levels):
        x = x + (below - sigma) * slope(x, sigma)
    return x


def heun_steps(x, levels):
    for sigma, below in pairwise(levels):
        here = slope(x, sigma)
        predicted = x + (below - sigma) * here
        there = slope(predicted, below) if below > 0 else here
        x = x + (below - sigma) * (here + there) / 2
    return x


def rms(x):
    return float(np.sqrt(np.mean(np.square(x.numpy()))))


def least_squares(proposal, columns, target):
    """``proposal`` moved to ``target`` as far as the columns go."""
    rows = np.stack([column.numpy().ravel() for column in columns], axis=1)
    lengths = np.linalg.norm(rows, axis=0)
    found = np.linalg.lstsq(rows / lengths, (target - proposal).numpy().ravel(), rcond=1e-13)[0]
    return proposal + torch.from_numpy(rows / lengths @ found).view(proposal.shape)


@pytest.fixture
def exact(monkeypatch):
    """Projections without the ridge, nothing left out: what lstsq does."""
    monkeypatch.setattr(greedy, "RIDGE", 1e-13)
    monkeypatch.setattr(greedy, "ROUNDING", 0.0)


@pytest.mark.parametrize("steps", [3, 6])
def test_the_local_fit_of_euler_is_that_of_a_loop(steps):
    """One difference, m = 1: lambda itself, and both distances, from targets recomputed at each step."""
    latents, levels = mixture.latents(64, 1), karras_levels(steps)
    fit = dode.distill(
        DDIM,
        mixture.denoise,
        latents,
        grids.karras(steps=steps),
        substeps=7,
        alignment="local",
        teacher="ddim",
        fit="greedy",
    )
    x, before = latents * 80, None
    for k, (sigma, below) in enumerate(pairwise(levels)):
        target = euler_steps(x, between(sigma, below, 7))
        output = mixture.denoise(x, sigma)
        proposal, coefficient = x + (below - sigma) * slope(x, sigma), 0.0
        if before is not None:
            r = output - before
            coefficient = float((r * (target - proposal)).sum() / (r * r).sum())
            proposal, plain = proposal + coefficient * r, proposal
            assert fit.rms_before[k].item() == pytest.approx(rms(target - plain), rel=1e-8, abs=1e-13)
            assert fit.rms_after[k].item() == pytest.approx(rms(target - proposal), rel=1e-8, abs=1e-13)
        assert fit.lambdas[k].tolist() == pytest.approx([coefficient], rel=1e-9, abs=1e-11)
        x, before = proposal, output
    assert fit.lambdas[1:-1].abs().min() > 1e-4
    distilled = dode.sample(DDIM, mixture.denoise, latents, grids.karras(steps=steps), lambdas=fit)
    torch.testing.assert_close(distilled, x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("steps", [3, 5])
def test_iia_ddim_is_the_published_form(steps, exact):
    """``x' = DDIM + phi_0 (D_i - D_{i-1}) + phi_1 (eps_i - eps_{i-1})``, phi the least squares at each step."""
    latents, sigmas = mixture.latents(256, 2), grids.karras(steps=steps)
    fit = dode.distill(DDIM, mixture.denoise, latents, sigmas, substeps=5, **IIA_DDIM, fit="greedy")
    x, former = latents * 80, None
    for k, (sigma, below) in enumerate(pairwise(karras_levels(steps))):
        target, eps = euler_steps(x, between(sigma, below, 5)), slope(x, sigma)
        output, proposal = x - sigma * eps, x + (below - sigma) * eps
        if former is not None:
            columns = [output - former[0], eps - former[1]]
            phi = fit.lambdas[k].tolist()
            best = rms(least_squares(proposal, columns, target) - target)
            proposal = proposal + phi[0] * columns[0] + phi[1] * columns[1]
            assert fit.rms_after[k].item() == pytest.approx(rms(proposal - target), rel=1e-6, abs=1e-12)
            assert rms(proposal - target) == pytest.approx(best, rel=1e-5, abs=1e-9)
        x, former = proposal, (output, eps)
    assert (fit.lambdas[2:-1] != 0).all()
    distilled = dode.sample(DDIM, mixture.denoise, latents, sigmas, lambdas=fit)
    torch.testing.assert_close(distilled, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [3, 5])
def test_iia_edm_spans_free_coefficients_on_the_gradients_of_two_steps(steps, exact):
    """The corrected state is the least squares on d_i, d'_{i+1|i}, d_{i-1}, d'_{i|i-1} (the last step has no d')."""
    latents, sigmas = mixture.latents(64, 3), grids.karras(steps=steps)
    fit = dode.distill(HEUN, mixture.denoise, latents, sigmas, substeps=4, **IIA_EDM, fit="greedy")
    x, former, states = latents * 80, [], []
    for sigma, below in pairwise(karras_levels(steps)):
        target, here = heun_steps(x, between(sigma, below, 4)), slope(x, sigma)
        proposal, gradients = x + (below - sigma) * here, [here]
        if below > 0:
            gradients.append(slope(proposal, below))
            proposal = x + (below - sigma) * (here + gradients[1]) / 2
        corrected = least_squares(proposal, gradients + former, target)
        states.append((rms(target - proposal), rms(target - corrected)))
        x, former = corrected, gradients
    before, after = np.array(states).T
    np.testing.assert_allclose(fit.rms_before[1::2].numpy(), before[:-1], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(fit.rms_after[1::2].numpy(), after[:-1], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose([fit.rms_before[-1], fit.rms_after[-1]], [before[-1], after[-1]], rtol=1e-4, atol=1e-9)
    distilled = dode.sample(HEUN, mixture.denoise, latents, sigmas, lambdas=fit)
    torch.testing.assert_close(distilled, x, rtol=0, atol=1e-5)
    assert (fit.lambdas[:-1:2] == 0).all(), "the predictor is left alone"


def test_a_local_heun_corrects_the_predictor_towards_the_end_of_the_same_step():
    """``stages=False``, one difference: predictors stay, correctors aim at small steps from its own beginning."""
    latents, sigmas = mixture.latents(32, 4), grids.karras(steps=4)
    fit = dode.distill(
        HEUN, mixture.denoise, latents, sigmas, substeps=6, alignment="local", stages=False, fit="greedy"
    )
    x, levels = latents * 80, karras_levels(4)
    for i, (sigma, below) in enumerate(pairwise(levels[:-1])):
        target, here = heun_steps(x, between(sigma, below, 6)), slope(x, sigma)
        predicted = x + (below - sigma) * here
        proposal = x + (below - sigma) * (here + slope(predicted, below)) / 2
        r = mixture.denoise(predicted, below) - mixture.denoise(x, sigma)
        x = proposal + float((r * (target - proposal)).sum() / (r * r).sum()) * r
        assert fit.lambdas[2 * i].item() == 0
        assert fit.rms_before[2 * i].item() == pytest.approx(rms(predicted - target), rel=1e-9)
        assert fit.rms_after[2 * i + 1].item() == pytest.approx(rms(x - target), rel=1e-8)


IIA = {"ddim-5": (DDIM, 5, IIA_DDIM, 0.70), "ddim-10": (DDIM, 10, IIA_DDIM, 0.55)}
IIA |= {"heun-5": (HEUN, 3, IIA_EDM, 0.1), "heun-9": (HEUN, 5, IIA_EDM, 0.3)}


@pytest.mark.parametrize("case", IIA)
def test_iia_is_nearer_the_exact_solution_than_the_plain_method(case):
    """Fit on 256, test on 2,048 others, 5 seeds; the allowed share of the plain error is of the mean."""
    solver, steps, options, share = IIA[case]
    sigmas, errors = grids.karras(steps=steps), []
    for seed in range(5):
        fresh, exact = mixture.latents(2048, 100 + seed), mixture.exact(2048, 100 + seed)
        fit = dode.distill(
            solver, mixture.denoise, mixture.latents(256, seed), sigmas, substeps=10, **options, fit="greedy"
        )
        assert (fit.rms_after <= fit.rms_before * (1 + 1e-12)).all()
        assert fit.rms_after[1:].square().sum() < fit.rms_before[1:].square().sum()
        runs = (dode.sample(solver, mixture.denoise, fresh, sigmas, lambdas=given) for given in (None, fit))
        errors.append([mixture.rmse(run, exact) for run in runs])
    plain, corrected = np.mean(errors, axis=0)
    print(f"{case}: plain {plain:.3f}, IIA {corrected:.3f}")
    assert all(row[1] < row[0] for row in errors)
    assert corrected < share * plain


@pytest.mark.parametrize("variant", variants.SHARED, ids=variants.label)
@pytest.mark.parametrize("directions", [1, BOTH, EDM], ids=["one", "both", "edm"])
def test_every_solver_can_be_fitted_locally(variant, directions):
    name, options = variant
    solver, latents = solvers.create(name, **options), mixture.latents(24, 5)
    sigmas = grids.karras(steps=4)
    fit = dode.distill(
        solver,
        mixture.denoise,
        latents,
        sigmas,
        substeps=3,
        alignment="local",
        directions=directions,
        teacher="ddim",
        fit="greedy",
    )
    assert fit.lambdas.isfinite().all()
    assert fit.rms_before.isfinite().all()
    assert (fit.rms_after <= fit.rms_before * (1 + 1e-12)).all()
    assert dode.sample(solver, mixture.denoise, latents, sigmas, lambdas=fit).isfinite().all()


@pytest.mark.parametrize("alignment", ["aligned", "local"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_teacher_and_student_call_the_network_in_the_precision_of_the_latents(alignment, dtype):
    seen = set()

    def denoise(x, sigma):
        seen.add(x.dtype)
        return mixture.denoise(x, sigma)

    dode.distill(
        HEUN, denoise, mixture.latents(8, 0).to(dtype), grids.karras(steps=3), alignment=alignment, fit="greedy"
    )
    assert seen == {dtype}


def test_the_local_teacher_costs_its_substeps_once_per_interval_and_nothing_else():
    calls = []

    def counting(x, sigma):
        calls.append(len(x))
        return mixture.denoise(x, sigma)

    fit = dode.distill(
        DDIM, counting, mixture.latents(8, 0), grids.karras(steps=4), substeps=6, alignment="local", fit="greedy"
    )
    assert calls == [8] * (4 + 3 * 2 * 6 + 1), "4 of the student, Heun's on 3 intervals, one step to 0"
    assert fit.refinement is None


def spans(solver):
    return solver.method.spanning(**solver.options)


@pytest.mark.parametrize("name", [name for name in variants.SHARED_NAMES if spans(solvers.create(name))])
@pytest.mark.parametrize("alignment", ["aligned", "local"])
def test_a_solver_that_steps_over_levels_is_no_teacher(name, alignment):
    with pytest.raises(ValueError, match=f"'{name}' cannot be a teacher: it does not stop at every level"):
        dode.distill(
            DDIM,
            mixture.denoise,
            mixture.latents(8, 0),
            grids.karras(steps=3),
            alignment=alignment,
            teacher=name,
            fit="greedy",
        )


@pytest.mark.parametrize("variant", variants.SHARED, ids=variants.label)
def test_a_teacher_by_default_stops_at_every_level(variant):
    name, options = variant
    assert not spans(solvers.create(name, **options).teacher)


def test_a_difference_of_noise_estimates_that_is_rounding_is_left_out():
    """At sigma = 0.002 an image known to 1e-4 gives the noise to 0.05: the estimate's own share would let it pass."""
    latents, sigmas = mixture.latents(64, 6), grids.karras(steps=5)
    generator = torch.Generator().manual_seed(0)

    def rough(x, sigma):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return torch.ones_like(x) * (1 + 3e-5 * noise)

    fit = dode.distill(
        DDIM, rough, latents, sigmas, directions={"differences": 1, "outputs": "noise", "drift": True}, fit="greedy"
    )
    assert fit.lambdas[-1, 0] == 0
