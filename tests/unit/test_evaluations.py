"""A run turned inside out: the caller evaluates the network."""

import itertools
import subprocess
import sys

import pytest
import torch

import dode
from dode import driver, models, portable, sampling, solvers
from dode.directions import Directions
from dode.grids import schedules
from dode.models import mixture
from inside_out import driven
from noise_mixture import NoiseMixture
from variants import SHARED, paired


@pytest.mark.parametrize(("variant", "dtype", "end"), paired(SHARED, [torch.float32, torch.float64], [0.0, 0.01]))
def test_a_run_inside_out_is_the_run_to_the_bit(variant, dtype, end):
    """Of every solver, with and without inner stages, plain and corrected, and with the same calls of the network."""
    name, options = variant
    solver = solvers.create(name, **options)
    sigmas = [*dode.grids.karras(steps=6, sigma_min=0.1).tolist()[:-1], end]
    evaluations = len(driver.evaluated_levels(solver, sigmas))
    latents = mixture.latents(8, 3).to(dtype)
    lambdas = 0.01 * torch.sin(torch.arange(evaluations * 2, dtype=torch.float64)).view(-1, 2)
    lambdas[0, 0] = 0  # the first evaluation has no difference
    fitted = {"lambdas": lambdas, "directions": Directions.of(2, "noise")}
    for model, fitted in [
        (mixture.denoise, {}),
        # Of Heun's method a run that ends above 0 makes one evaluation more than it has coefficients for.
        *[(NoiseMixture(), {"lambdas": lambdas, "directions": Directions.of(2, "noise")})]
        * (evaluations == solver.nfe(6)),
    ]:
        calls = []

        def denoise(x, sigma, model=model, calls=calls):
            calls.append((x.clone(), float(sigma)))
            return model(x, sigma)

        facts = {key: getattr(model, key) for key in ("prediction", "prior_std") if hasattr(model, key)}
        for key, value in facts.items():
            setattr(denoise, key, value)
        expected = dode.sample(solver, denoise, latents, sigmas, **fitted)
        found, points = driven(sampling.evaluations(solver, latents, sigmas, **facts, **fitted), model)
        assert found.dtype == dtype
        assert torch.equal(found, expected)
        assert [float(sigma) for _, sigma in points] == driver.evaluated_levels(solver, sigmas)
        assert len(points) == len(calls)
        for (x, sigma), (called, level) in zip(points, calls, strict=True):
            assert torch.equal(x, called)
            assert float(sigma) == level


class Network(torch.nn.Module):
    """Noise prediction that differs from index to index."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x, index):
        return torch.tanh(self.weight * x + 1e-3 * index)


@pytest.mark.parametrize(
    ("solver", "options"), [("ddim", {}), ("ipndm", {}), ("deis", {"order": 2}), ("dpm-solver", {"order": 3})]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_recipe_of_the_authors_inside_out_is_its_run_to_the_bit(solver, options, dtype):
    """Scaled to images as they are, and answered where the network is called: at another index than the state's."""
    denoise = models.NoisePrediction(Network(), schedule=schedules.schedules.create("linear"))
    sigmas = dode.released.recipe(solver, options.get("order"), denoise, 5, 1).sigmas.tolist()
    made = {
        "format": portable.FORMAT,
        "version": 1,
        "solver": {"name": solver, "options": options},
        "grid": {"name": "released", "options": {}},
        "sigmas": sigmas,
        "nfe": 5,
        "lambdas": [[0.0], [0.1], [0.2], [-0.1], [0.05]],
        "directions": {"differences": 1, "drift": False, "outputs": "noise", "from_noise": False},
        "model": {
            "card": "m",
            "sha256": None,
            "prediction": "noise",
            "image_shape": [1, 4, 4],
            "schedule": {"name": "linear"},
        },
        "software": {},
        "citation": [],
    }
    sampler = dode.load(made)
    latents = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    facts, model = sampler.facts, {"prediction": "noise", "prior_std": denoise.prior_std}
    bound = denoise.at(facts.schedule, facts.shift)
    found, _ = driven(sampler.evaluations(latents, **model, shift=facts.shift), bound)
    assert torch.equal(found, sampler.sample(denoise, latents))
    with pytest.raises(ValueError, match=f"shift: 7 is not allowed; allowed: {facts.shift}, for the network is called"):
        sampler.evaluations(latents, **model, shift=7)
    with pytest.raises(ValueError, match="recipe is for noise prediction, but the model is for data"):
        sampler.evaluations(latents, prediction="data", shift=facts.shift)
    if facts.shift:
        with pytest.raises(ValueError, match="shift: 0 is not allowed"):
            sampler.evaluations(latents, **model)


@pytest.fixture
def elsewhere(monkeypatch):
    """A solver that tells the network another level than its state's, and evaluates ``away`` from its state."""
    from dode.solvers import base

    monkeypatch.setattr(base, "_methods", dict(base._methods))

    @base.solver("elsewhere", order=1)
    def method(denoise, x, sigmas, *, away=0.0):
        for sigma, sigma_next in itertools.pairwise(sigmas):
            denoised = denoise(x + away, (sigma + sigma_next) / 2)
            x = yield base.Proposal(denoised, sigma_next, denoised)

    return lambda away: solvers.create("elsewhere", away=away)


def test_a_solver_that_evaluates_another_state_is_refused(elsewhere):
    """Not run to a wrong answer."""
    run = sampling.evaluations(elsewhere(0.1), mixture.latents(2, 1), [2.0, 1.0])
    with pytest.raises(RuntimeError, match=r"another point \(sigma = 1.5\)"):
        driven(run, mixture.denoise)


def test_a_solver_that_tells_another_level_is_the_run_to_the_bit(elsewhere):
    solver, latents, sigmas = elsewhere(0.0), mixture.latents(2, 1), [2.0, 1.0, 0.5]
    found, points = driven(sampling.evaluations(solver, latents, sigmas), mixture.denoise)
    assert [float(sigma) for _, sigma in points] == [1.5, 0.75]
    assert torch.equal(found, dode.sample(solver, mixture.denoise, latents, sigmas))


def test_a_run_that_is_given_up_says_nothing_at_the_end_of_the_program():
    program = (
        "import torch, dode; from dode.sampling import evaluations, steps\n"
        "solver, x, sigmas = dode.solvers.create('ddim'), torch.ones(2, 1, 2, 2), [2.0, 1.0, 0.0]\n"
        "runs = evaluations(solver, x, sigmas), steps(solver, lambda x, sigma: x, x, sigmas)\n"
        "for run in runs: next(run)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_compute_without_gradients_and_leave_the_callers_alone():
    weight, states = torch.ones(1, requires_grad=True), []
    run = sampling.evaluations(solvers.create("ddim"), torch.ones(2, 1, 2, 2), [2.0, 1.0, 0.0])
    x = next(run).x
    for _ in range(2):
        assert torch.is_grad_enabled()
        states.append(x * weight)
        try:
            x = run.send(states[-1]).x
        except StopIteration as end:
            x = end.value
        assert states[-1].requires_grad
        assert not x.requires_grad
