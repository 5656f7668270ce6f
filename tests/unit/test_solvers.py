"""What every solver owes, whichever file it comes from, and what the driver refuses."""

import dataclasses
import math
import re
import subprocess
import sys

import pytest
import torch

import dode
import variants
from dode import driver, grids, sampling, solvers
from dode.calls import NonFiniteError
from dode.models import mixture
from dode.solvers import base

NAMES = solvers.names()
STEPS = [1, 2, 3, 7]

every_solver = pytest.mark.parametrize("name", NAMES)
every_variant = pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)
every_step_count = pytest.mark.parametrize("steps", STEPS)


def elementwise(x, sigma):
    """A nonlinear denoiser whose value at a pixel depends on that pixel alone."""
    return x / (1 + sigma**2 + x * x)


def some_lambdas(solver, steps):
    """Coefficients that move every evaluation, (K, 1)."""
    return torch.linspace(-0.3, 0.4, solver.nfe(steps)).double()[:, None]


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry of solvers, to which a test can add its own."""
    monkeypatch.setattr(base, "_methods", dict(base._methods))


def test_the_registry_finds_the_solver_files():
    paper, rivals = {"ddim", "heun", "ipndm", "ipndm_v", "pndm", "dpm-solver", "deis"}, {"dpm-solver++", "unipc"}
    assert {*paper, *rivals, "dpm-solver-multistep"} <= set(NAMES)
    assert sorted(NAMES) == NAMES
    assert solvers.module_of("heun") == "dode.solvers.heun"


@every_solver
def test_a_solver_declares_whose_method_it_is(name):
    source = solvers.create(name).method.source
    assert source, f"solver '{name}' has no source: name authors, year and paper in @solver(..., source=...)"
    assert re.search(r"\b(1[89]|20)\d\d\b.*\barXiv:\d{4}\.\d{5}\b", source), source


@every_variant
@pytest.mark.parametrize("grid", [grids.karras, grids.uniform_index])
def test_proposals_have_so_many_different_levels(variant, grid):
    name, options = variant
    solver = solvers.create(name, **options)
    for steps in STEPS:
        sigmas = grid(steps=steps)
        levels = set(driver.proposal_levels(solver, sigmas))
        assert len(levels) == solver.levels(steps), steps
        assert solver.method.spanning(**solver.options) or set(sigmas[1:].tolist()) <= levels, steps


@every_variant
def test_counted_evaluations_are_nfe(variant):
    (name, options), calls = variant, []
    solver = solvers.create(name, **options)

    def counting(x, sigma):
        calls.append(float(sigma))
        return mixture.denoise(x, sigma)

    for steps in STEPS:
        calls.clear()
        dode.sample(solver, counting, mixture.latents(2, 0), grids.karras(steps=steps))
        assert len(calls) == solver.nfe(steps), steps
        assert min(calls) > 0


@every_variant
def test_counted_evaluations_are_nfe_on_a_grid_that_ends_above_0(variant):
    """The convention of grids that end at the smallest noise level: Heun's last step has a corrector too.

    On two grids in turn; the next variant has the other one for the same number of steps.
    """
    (name, options), calls, first = variant, [], variants.ALL.index(variant)
    solver = solvers.create(name, **options)

    def counting(x, sigma):
        calls.append(float(sigma))
        return mixture.denoise(x, sigma)

    for steps in range(1, 9):
        grid = (grids.karras, grids.uniform_index)[(first + steps) % 2]
        sigmas = grid(steps=steps + 1)[:-1]
        calls.clear()
        dode.sample(solver, counting, mixture.latents(2, 0), sigmas)
        assert len(calls) == solver.nfe(steps, end=sigmas[-1]) == sampling.Student(solver, sigmas).nfe, steps
        if name in ("heun", "pndm"):
            assert len(calls) == {"heun": 2 * steps, "pndm": min(4 * steps, steps + 9)}[name]


def test_a_solver_that_makes_other_evaluations_than_it_declares_is_an_error():
    def runge_kutta(denoise, x, sigmas):
        yield base.Proposal(denoise(x, sigmas[0]), sigmas[1], x)
        yield base.Proposal(denoise(x, sigmas[1]), sigmas[-1], x)

    method = solvers.create("ddim").method
    two = solvers.Solver(dataclasses.replace(method, name="two", function=runge_kutta), {})
    with pytest.raises(RuntimeError, match=r"made 2 evaluations on 2 levels that end at 0\.5, but it declares 1"):
        dode.sample(two, mixture.denoise, mixture.latents(2, 0), [1.0, 0.5])


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_has_shape_and_dtype_of_the_latents(name, dtype):
    latents, seen = torch.ones(3, 2, 4, 5, dtype=dtype), set()

    def watching(x, sigma):
        seen.add((x.dtype, tuple(x.shape), sigma.dtype, sigma.ndim))
        return elementwise(x, sigma)

    result = dode.sample(solvers.create(name), watching, latents, grids.karras(steps=3))
    assert result.dtype == dtype
    assert result.shape == latents.shape
    assert seen == {(dtype, (3, 2, 4, 5), torch.float64, 0)}


@every_solver
def test_float32_latents_lose_no_more_than_float32(name):
    solver, sigmas, latents = solvers.create(name), grids.karras(steps=5), mixture.latents(16, 0).float()
    single = dode.sample(solver, mixture.denoise, latents, sigmas)
    double = dode.sample(solver, mixture.denoise, latents.double(), sigmas)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=5e-5)


@every_solver
def test_the_state_is_kept_in_float64_whatever_the_latents(name):
    stepper = driver.steps(solvers.create(name), elementwise, torch.ones(2, 1, 2, 2), grids.karras(steps=3))
    kept = []
    end = driver.drive(
        stepper, lambda step: kept.extend([step.x, step.latents, step.proposal.x, step.proposal.denoised])
    )
    assert {x.dtype for x in [*kept, end]} == {torch.float64}


def test_a_step_tells_the_point_of_its_evaluation_and_the_width_from_the_beginning_of_the_solvers_step():
    seen = []
    stepper = driver.steps(solvers.create("heun"), elementwise, mixture.latents(1, 0), [4.0, 3.0, 1.0, 0.0])
    driver.drive(stepper, lambda step: seen.append((step.index, float(step.sigma), step.h, step.proposal.stage)))
    assert seen == [(0, 4, -1, True), (1, 3, -1, False), (2, 3, -2, True), (3, 1, -2, False), (4, 1, -1, False)]


def test_a_step_gives_its_output_as_image_and_as_noise():
    stepper = driver.steps(solvers.create("heun"), elementwise, mixture.latents(1, 0), [4.0, 3.0, 0.0])

    def check(step):
        assert torch.equal(step.output("data"), elementwise(step.x, step.sigma))
        torch.testing.assert_close(step.x - step.sigma * step.output("noise"), step.output("data"))

    driver.drive(stepper, check)


@every_solver
@every_step_count
def test_the_last_proposal_ends_a_step_at_the_last_level_and_levels_descend(name, steps):
    sigmas = grids.karras(steps=steps)
    proposals = []
    driver.drive(
        driver.steps(solvers.create(name), elementwise, torch.ones(1, 1, 2, 2), sigmas),
        lambda step: proposals.append(step.proposal),
    )
    levels = [float(proposal.sigma) for proposal in proposals]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == float(sigmas[-1])
    assert not proposals[-1].stage


@every_solver
@every_step_count
def test_runs_are_deterministic(name, steps):
    solver, sigmas, latents = solvers.create(name), grids.karras(steps=steps), mixture.latents(8, 3)
    lambdas = some_lambdas(solver, steps)
    first, second = (dode.sample(solver, mixture.denoise, latents, sigmas, lambdas=lambdas) for _ in range(2))
    assert torch.equal(first, second)


@every_solver
@every_step_count
def test_splitting_the_batch_changes_no_bit_with_an_elementwise_denoiser(name, steps):
    solver, sigmas, latents = solvers.create(name), grids.karras(steps=steps), mixture.latents(7, 4)
    for lambdas in (None, some_lambdas(solver, steps)):
        whole = dode.sample(solver, elementwise, latents, sigmas, lambdas=lambdas)
        parts = [dode.sample(solver, elementwise, part, sigmas, lambdas=lambdas) for part in latents.split(3)]
        assert torch.equal(whole, torch.cat(parts))


@every_solver
def test_splitting_the_batch_keeps_mixture_samples(name):
    solver, sigmas, latents = solvers.create(name), grids.karras(steps=6), mixture.latents(7, 5)
    whole = dode.sample(solver, mixture.denoise, latents, sigmas)
    parts = [dode.sample(solver, mixture.denoise, part, sigmas) for part in latents.split(3)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-12, atol=1e-12)


@every_solver
@every_step_count
def test_zero_lambdas_are_the_plain_solver_to_the_bit(name, steps):
    solver, sigmas, latents = solvers.create(name), grids.karras(steps=steps), mixture.latents(4, 6)
    plain = dode.sample(solver, mixture.denoise, latents, sigmas)
    for directions in (1, 3):
        zeros = torch.zeros(solver.nfe(steps), directions)
        assert torch.equal(plain, dode.sample(solver, mixture.denoise, latents, sigmas, lambdas=zeros)), directions


@every_solver
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_breaks_down_is_named_with_its_evaluation(name, value):
    def broken(x, sigma):
        out = x / (1 + sigma**2)
        out[1] = value
        return out

    solver, sigmas = solvers.create(name), [8.0, 1.0, 0.0]
    told = rf"NaN or infinity for 1 of 3 images at evaluation 1 of {solver.nfe(2)} \(noise level 8\)$"
    with pytest.raises(NonFiniteError, match=told):
        dode.sample(solver, broken, torch.ones(3, 1, 2, 2), sigmas)


def test_a_breakdown_that_a_later_evaluation_hides_is_found():
    """Infinity becomes 1 in a network that saturates."""

    def saturated(x, sigma):
        return torch.tanh(x) if sigma < 2 else x * torch.inf

    with pytest.raises(NonFiniteError, match=r"4 of 4 images at evaluation 1 of 3 \(noise level 9\)"):
        dode.sample(solvers.create("heun"), saturated, mixture.latents(4, 0), [9.0, 1.0, 0.0])


def test_a_state_that_breaks_down_by_itself_is_not_the_networks_fault():
    huge, denoise = [0.0, 1e200, 1e200, 0.0], lambda x, sigma: x / (1 + sigma**2)
    told = r"was given NaN or infinity for 4 of 4 images at evaluation 4 of 4 .* own state had broken down before"
    with pytest.raises(NonFiniteError, match=told):
        dode.sample(solvers.create("ddim"), denoise, mixture.latents(4, 0), [9.0, 3.0, 2.0, 1.0, 0.0], lambdas=huge)
    with pytest.raises(NonFiniteError, match="2 of 2 end states"):
        driver.drive(
            driver.steps(solvers.create("ddim"), elementwise, mixture.latents(2, 0), [2.0, 0.0]),
            lambda step: step.proposal.x * torch.inf,
        )


@pytest.mark.parametrize(
    ("dtype", "helps"), [(torch.float16, "bfloat16 or float32 helps"), (torch.bfloat16, "float32 may help")]
)
def test_of_half_precision_it_is_said_what_helps(dtype, helps):
    def overflowing(x, sigma):
        return x * 3e38

    with pytest.raises(NonFiniteError, match=helps):
        dode.sample(solvers.create("ddim"), overflowing, mixture.latents(2, 0).to(dtype), [80.0, 1.0, 0.0])


def two_evaluations(denoise, x, sigmas):
    """Evaluates twice before its first proposal."""
    denoised = denoise(x, sigmas[0])
    yield base.Proposal(denoise(denoised, sigmas[1]), sigmas[1], denoised)


def no_evaluation(denoise, x, sigmas):
    """Proposes without looking."""
    yield base.Proposal(x, sigmas[1], x)


def evaluation_left_over(denoise, x, sigmas):
    """Evaluates once more after its last proposal."""
    x = yield base.Proposal(denoise(x, sigmas[0]), sigmas[1], x)
    denoise(x, sigmas[1])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (two_evaluations, "made 2 evaluations before its proposal 1"),
        (no_evaluation, "made 0 evaluations before its proposal 1"),
        (evaluation_left_over, "made an evaluation without a proposal after it"),
    ],
)
def test_a_solver_that_breaks_the_protocol_is_an_error(registry, function, message):
    base.solver("broken", order=1)(function)
    with pytest.raises(RuntimeError, match=message):
        dode.sample(solvers.create("broken"), elementwise, torch.ones(1, 1, 2, 2), grids.karras(steps=2))


def test_a_denoiser_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 1, 2, 2\) for states of shape \(3, 1, 2, 2\)"):
        dode.sample(solvers.create("ddim"), lambda x, sigma: x[:2], torch.ones(3, 1, 2, 2), grids.karras(steps=2))


@pytest.mark.parametrize(
    "sigmas", [[1.0], [1.0, 2.0], [2.0, 1.0, 1.0], [2.0, float("nan"), 0.0], [1.0, -1.0], [[2.0, 1.0]]]
)
def test_unusable_noise_levels_are_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas must be"):
        dode.sample(solvers.create("ddim"), elementwise, torch.ones(1, 1, 2, 2), sigmas)


@every_variant
def test_what_is_handed_out_or_taken_in_is_never_overwritten(variant):
    """Solvers reuse memory of their own."""
    (name, options), seen = variant, []

    def keep(*tensors):
        seen.extend((tensor, tensor.clone()) for tensor in tensors)

    def denoise(x, sigma):
        denoised = mixture.denoise(x, sigma)
        keep(x, denoised)
        return denoised

    def advance(step):
        keep(step.proposal.x, step.proposal.denoised)
        return step.proposal.x + 0.01 if step.index == 4 else None

    latents = mixture.latents(2, 0)
    driver.drive(driver.steps(solvers.create(name, **options), denoise, latents, grids.karras(steps=20)), advance)
    assert len(seen) >= 80
    assert all(torch.equal(tensor, copy) for tensor, copy in seen)


def test_a_plain_list_of_noise_levels_serves():
    sigmas, latents = grids.karras(steps=4), mixture.latents(2, 0)
    result = dode.sample(solvers.create("heun"), mixture.denoise, latents, sigmas.tolist())
    assert torch.equal(result, dode.sample(solvers.create("heun"), mixture.denoise, latents, sigmas))


class Recorded:
    """Remembers the first state that it is called with."""

    def __init__(self):
        self.first = None

    def __call__(self, x, sigma):
        self.first = x if self.first is None else self.first
        return x / (1 + sigma**2)


class RecordedVP(Recorded):
    """The same with the prior of a variance-preserving model."""

    def prior_std(self, sigma):
        return (1 + sigma**2) ** 0.5


@pytest.mark.parametrize(("model", "scale"), [(Recorded, 2.0), (RecordedVP, math.sqrt(5.0))])
def test_latents_are_scaled_to_the_first_noise_level(model, scale):
    denoise, latents = model(), mixture.latents(2, 9)
    dode.sample(solvers.create("ddim"), denoise, latents, [2.0, 1.0, 0.0])
    torch.testing.assert_close(denoise.first, scale * latents, rtol=1e-15, atol=0)


def test_the_registry_and_the_grids_are_read_without_torch():
    code = (
        "import sys, dode, dode.solvers, dode.grids, dode.grids.schedules\n"
        "assert dode.solvers.create('heun').nfe(5) == 9\n"
        "assert 'karras' in dode.grids.names()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
