"""A run turned inside out: the caller evaluates the network."""

import itertools

import pytest
import torch

import dode
from dode import mixture, sampling, solvers
from dode.directions import Directions
from variants import ALL, label


def driven(run, denoise):
    """End state of a run whose points are answered by ``denoise``, and the points."""
    answer, points = None, []
    while True:
        try:
            point = run.send(answer)
        except StopIteration as end:
            return end.value, points
        points.append(point)
        answer = denoise(*point)


def noise_model(x, sigma):
    return mixture.denoise(x, sigma)


noise_model.prediction = "noise"
noise_model.prior_std = lambda sigma: (1 + sigma**2) ** 0.5


@pytest.mark.parametrize("variant", ALL, ids=label)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", [0.0, 0.01])
def test_a_run_inside_out_is_the_run_to_the_bit(variant, dtype, end):
    """Of every solver, with and without inner stages, plain and corrected, and with the same calls of the network."""
    name, options = variant
    solver = solvers.create(name, **options)
    sigmas = [*dode.grids.karras(steps=6, sigma_min=0.1).tolist()[:-1], end]
    evaluations = len(sampling.evaluated_levels(solver, sigmas))
    latents = mixture.latents(8, 3).to(dtype)
    lambdas = 0.01 * torch.sin(torch.arange(evaluations * 2, dtype=torch.float64)).view(-1, 2)
    lambdas[0, 0] = 0  # the first evaluation has no difference
    fitted = {"lambdas": lambdas, "directions": Directions.of(2, "noise")}
    for model, fitted in [
        (mixture.denoise, {}),
        # Of Heun's method a run that ends above 0 makes one evaluation more than it has coefficients for.
        *[(noise_model, {"lambdas": lambdas, "directions": Directions.of(2, "noise")})]
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
        assert [float(sigma) for _, sigma in points] == sampling.evaluated_levels(solver, sigmas)
        assert len(points) == len(calls)
        for (x, sigma), (called, level) in zip(points, calls, strict=True):
            assert torch.equal(x, called)
            assert float(sigma) == level


def test_a_solver_that_evaluates_elsewhere_is_refused(monkeypatch):
    """Not run to a wrong answer."""
    from dode.solvers import base

    monkeypatch.setattr(base, "_methods", dict(base._methods))

    @base.solver("elsewhere", order=1)
    def elsewhere(denoise, x, sigmas):
        for sigma, sigma_next in itertools.pairwise(sigmas):
            denoised = denoise(x, (sigma + sigma_next) / 2)
            x = yield base.Proposal(denoised, sigma_next, denoised)

    run = sampling.evaluations(solvers.create("elsewhere"), mixture.latents(2, 1), [2.0, 1.0])
    with pytest.raises(RuntimeError, match=r"another point \(sigma = 1.5\)"):
        driven(run, mixture.denoise)
