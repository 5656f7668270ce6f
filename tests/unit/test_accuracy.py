"""How accurate every solver is: its order, few steps, exact cases."""

import math

import pytest
import torch

import dode
import variants
from dode import driver, grids, solvers
from dode.models import mixture

every_variant = pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)
every_step_count = pytest.mark.parametrize("steps", [1, 2, 3, 7])


@every_variant
def test_few_steps_stay_finite(variant):
    """On every grid, with 1, 2 or 3 steps, which another variant has with other grids."""
    name, options = variant
    solver, first = solvers.create(name, **options), variants.ALL.index(variant)
    for number, grid in enumerate(grids.families(), start=first):
        steps = number % 3 + 1
        result = dode.sample(solver, mixture.denoise, mixture.latents(64, 7), grids.grids.create(grid, steps=steps))
        assert result.isfinite().all(), (grid, steps)


@every_variant
def test_one_evaluation_is_eulers_step(variant):
    name, options = variant
    latents, sigmas = mixture.latents(4, 7), grids.karras(steps=1)
    plain = dode.sample(solvers.create("ddim"), mixture.denoise, latents, sigmas)
    torch.testing.assert_close(dode.sample(solvers.create(name, **options), mixture.denoise, latents, sigmas), plain)


@every_variant
def test_multistep_outputs_are_those_of_an_euler_step(variant):
    """Where every evaluation ends a step, Euler's step with the denoising output makes the proposal (but for UniPC,
    whose step begins at the corrected state)."""
    name, options = variant
    solver = solvers.create(name, **options)
    if solver.teacher is not solver or name in ("unipc", "pndm", "plms"):
        pytest.skip("not a plain multistep method")

    def check(step):
        ratio = step.proposal.sigma / step.sigma
        expected = step.proposal.denoised + ratio * (step.x - step.proposal.denoised)
        torch.testing.assert_close(step.proposal.x, expected, rtol=1e-9, atol=1e-9)

    driver.drive(driver.steps(solver, mixture.denoise, mixture.latents(4, 7), grids.karras(steps=6)), check)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_keeps_a_correction_that_its_corrector_would_undo(order):
    """With D = 0 states shrink like sigma, and so must what was added to the first proposal."""
    solver = solvers.create("unipc", order=order)
    latents, sigmas = mixture.latents(4, 7), grids.karras(steps=6, sigma_max=2.0)[:-1]

    def end(shift):
        stepper = driver.steps(solver, lambda x, sigma: 0 * x, latents, sigmas)
        return driver.drive(stepper, lambda step: step.proposal.x + shift * (step.index == 0))

    moved = end(1.0) - end(0.0)
    torch.testing.assert_close(moved, (sigmas[-1] / sigmas[1]).expand_as(moved))


@pytest.mark.parametrize("name", variants.DETERMINISTIC)
@every_step_count
def test_exact_where_the_denoiser_is_constant(name, steps):
    """The trajectory to a single data point is a straight line in sigma, which every consistent method follows."""
    point = torch.linspace(-1, 1, 16).double().view(1, 1, 4, 4)
    run = driver.steps(
        solvers.create(name), lambda x, sigma: point.expand_as(x), mixture.latents(3, 8), grids.karras(steps=steps)
    )
    states = []
    driver.drive(run, lambda step: states.append((step.proposal.sigma, step.proposal.x)))
    for sigma, x in states:
        torch.testing.assert_close(x, point + sigma * mixture.latents(3, 8) - sigma / 80 * point, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["ddim", "heun", "flow-heun", "flow-midpoint"])
def test_order_on_the_mixture(name):
    """Slope of the error; sigma_min is small enough to hide the first-order step from there to sigma = 0."""
    solver, latents, exact = solvers.create(name), mixture.latents(16, 0), mixture.exact(16, 0)
    errors = [
        mixture.rmse(dode.sample(solver, mixture.denoise, latents, grids.karras(steps=n, sigma_min=1e-5)), exact)
        for n in (320, 640)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(solver.order, abs=0.1)


def test_order_of_res_3_on_the_mixture():
    """From a large sigma on, where the first steps, of lower order, add little."""
    solver, latents, grid = solvers.create("res-multistep", order=3), mixture.latents(16, 0), logarithmic(80, 0.05)
    exact = dode.sample(solvers.create("deis", order=3), mixture.denoise, latents, grid(6400))
    errors = [mixture.rmse(dode.sample(solver, mixture.denoise, latents, grid(n)), exact) for n in (200, 400)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.2)


def linear(first, last):
    """Steps equal in sigma."""
    return lambda steps: torch.linspace(first, last, steps + 1, dtype=torch.float64)


def logarithmic(first, last):
    """Steps equal in log-SNR."""
    return lambda steps: torch.logspace(math.log10(first), math.log10(last), steps + 1, dtype=torch.float64)


def order_grid(name, options):
    """Grids on which the order shows: weights for equal steps need those, and the start must not hide the rest.

    The first steps of a multistep method are of lower order; from a large sigma, where the noise estimate hardly
    changes, their error is below that of the other steps.
    """
    if name in ("ipndm", "pndm"):
        return linear(40, 1), (1600, 3200)
    if name == "ipndm_v" or name.startswith("flow-") or options == {"order": 2, "variable": "log-sigma"}:
        return logarithmic(1000, 1), (160, 320)  # elsewhere another term of their error is as large as the leading one
    return logarithmic(1000, 0.01), (160, 320)


@every_variant
def test_measured_order_is_the_claimed_order_on_a_linear_equation(variant):
    """A single unit Gaussian, D = x / (1 + sigma^2), has the exact solution x proportional to sqrt(1 + sigma^2)."""
    name, options = variant
    if options.get("stages") == "grid":
        pytest.skip("the order of stages on the grid depends on the grid")
    if (name, options) == ("res-multistep", {"order": 3}):
        pytest.skip("of fourth order on every Gaussian; measured on the mixture")
    if name == "dpm-solver-v3":
        pytest.skip("its last step is of first order and its corrector of a pseudo-order")
    if name == "flow-midpoint":
        pytest.skip("of third order on every Gaussian, where x_t^2 is quadratic in t; measured on the mixture")
    solver, errors = solvers.create(name, **options), []
    grid, counts = order_grid(name, options)
    for steps in counts:
        levels = grid(steps)
        stepper = driver.steps(solver, lambda x, sigma: x / (1 + sigma**2), torch.ones(1, 1, 1, 1).double(), levels)
        exact = levels[0] * ((1 + levels[-1] ** 2) / (1 + levels[0] ** 2)).sqrt()
        errors.append(float(driver.drive(stepper) - exact))
    assert math.log2(abs(errors[0] / errors[1])) == pytest.approx(solver.order, abs=0.15)
