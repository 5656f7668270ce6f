"""The search for a grid: the path against brute force, the cost by hand, the gain on the exact mixture."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import dode
from dode import driver, grids, models, solvers
from dode.distillation import search
from dode.images import noise
from dode.models import mixture
from noise_mixture import NoiseMixture

EULER, HEUN = solvers.create("ddim"), solvers.create("heun")
MODELS = Path(__file__).parents[2] / "config" / "models"


def cheapest(cost, steps, coefficient):
    """(cost, indices) of the best path by trying all of them."""
    last = len(cost) - 1
    paths = [(0, *inner, last) for inner in itertools.combinations(range(1, last), steps - 1)]
    sums = [sum(coefficient**k * cost[step] for k, step in enumerate(itertools.pairwise(path))) for path in paths]
    best = int(np.argmin(sums))
    return sums[best], list(paths[best])


@pytest.mark.parametrize("coefficient", [0.9, 1.0, 1.15, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_the_best_of_all_paths(seed, coefficient):
    cost = np.where(np.triu(np.ones((9, 9)), 1) > 0, np.random.default_rng(seed).random((9, 9)), np.inf)
    for steps in range(1, 9):
        total, indices = cheapest(cost, steps, coefficient)
        found = search.path(cost, steps, coefficient).tolist()
        assert found == indices
        spent = sum(coefficient**k * cost[step] for k, step in enumerate(itertools.pairwise(found)))
        assert spent == pytest.approx(total, rel=1e-14)


def test_a_coefficient_weighs_the_later_step():
    """From 0 to 3 in two steps: over 1 at 1 + 2 c, over 2 at 2 + c + 0.5."""
    cost = np.full((4, 4), np.inf)
    cost[0, 1], cost[1, 3], cost[0, 2], cost[2, 3] = 1.0, 2.0, 2.5, 1.0
    assert search.path(cost, 2, 1.4).tolist() == [0, 1, 3]
    assert search.path(cost, 2, 1.6).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "from 1 to 3 for 4 candidates, not 0"),
        ((4,), "from 1 to 3 for 4 candidates, not 4"),
        ((True,), "from 1 to 3 for 4 candidates, not True"),
        ((2, 0.0), r"coefficient must be a finite number above 0, not 0\.0"),
        ((2, float("nan")), "coefficient must be a finite number above 0, not nan"),
    ],
)
def test_impossible_paths_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.path(np.ones((4, 4)), *arguments)


def test_the_cost_is_the_distance_of_one_euler_step_from_the_teachers_state():
    """By hand for D(x; sigma) = x / (1 + sigma^2), two images of two pixels and an Euler teacher on 4, 2, 1, 0."""
    levels = [4.0, 2.0, 1.0, 0.0]
    start = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64).view(2, 1, 1, 2)

    def slope(sigma):
        return (1 - 1 / (1 + sigma**2)) / sigma

    factors = [4.0]
    for left, right in itertools.pairwise(levels):
        factors.append(factors[-1] * (1 + (right - left) * slope(left)))
    size = (np.sqrt((1 + 4) / 2) + np.sqrt((0.25 + 9) / 2)) / 2
    found = search.costs(lambda x, sigma: x / (1 + sigma**2), start, levels, teacher="ddim")
    for i, j in itertools.product(range(4), range(4)):
        if j <= i:
            assert found[i, j] == np.inf
        else:
            jump = factors[i] * (1 + (levels[j] - levels[i]) * slope(levels[i]))
            assert found[i, j] == pytest.approx(abs(jump - factors[j]) * size, rel=1e-12, abs=1e-15)
    assert found[0, 2] > 0.01


def test_the_teacher_of_the_cost_may_be_any_solver_and_starts_as_the_model_says():
    """The first state of a noise-prediction model has the standard deviation sqrt(1 + sigma^2)."""
    model, start, levels = NoiseMixture(), mixture.latents(8, 3), grids.uniform_index(steps=5).tolist()
    heun = {levels[0]: start * (1 + levels[0] ** 2) ** 0.5}
    stepper = driver.steps(HEUN, model, start, levels)
    for step in stepper:
        if not step.proposal.stage:
            heun[float(step.proposal.sigma)] = step.proposal.x
    found = search.costs(model, start, levels)
    for i, j in ((0, 1), (0, 5), (2, 4), (4, 5)):
        x, sigma = heun[levels[i]], levels[i]
        jump = x + (levels[j] - sigma) * (x - model(x, torch.tensor(sigma, dtype=torch.float64))) / sigma
        expected = (jump - heun[levels[j]]).flatten(1).square().mean(dim=1).sqrt().mean()
        assert found[i, j] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


def test_the_images_held_at_once_do_not_matter():
    start, levels = mixture.latents(10, 1), grids.karras(steps=12)
    whole = search.costs(mixture.denoise, start, levels)
    np.testing.assert_allclose(search.costs(mixture.denoise, start, levels, batch_size=3), whole, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_the_grid_has_the_steps_asked_for_among_the_candidates(steps):
    candidates = grids.log_snr(steps=12)
    sigmas = search.search(mixture.denoise, mixture.latents(4, 1), candidates, steps)
    assert len(sigmas) == steps + 1
    assert (sigmas[0], sigmas[-1]) == (80.0, 0.0)
    assert set(sigmas.tolist()) <= set(candidates.tolist())
    assert bool((torch.diff(sigmas) < 0).all())
    assert sigmas.variable is candidates.variable
    assert sigmas.remake is None
    if steps == 12:
        assert sigmas.tolist() == candidates.tolist()


def test_a_distilled_solver_is_fitted_on_a_searched_grid():
    candidates, fresh = grids.karras(steps=40), mixture.latents(512, 5)
    sigmas = search.search(mixture.denoise, mixture.latents(64, 1), candidates, 6)
    fit = dode.distill(EULER, mixture.denoise, mixture.latents(256, 2), sigmas, fit="greedy")
    plain, distilled = (
        mixture.rmse(dode.sample(EULER, mixture.denoise, fresh, sigmas, lambdas=lambdas), mixture.exact(512, 5))
        for lambdas in (None, fit.lambdas)
    )
    assert distilled < 0.8 * plain


@pytest.mark.parametrize("coefficient", [1.0, 1.15])
@pytest.mark.parametrize(("nfe", "gain"), [(5, 0.85), (6, 0.85), (8, 0.9), (10, 0.95)])
def test_the_searched_grid_beats_karras_for_euler(nfe, gain, coefficient):
    """Mean of 5 seeds, each with a search and fresh images of its own."""
    errors = {"karras": [], "searched": []}
    for seed in range(5):
        start, candidates = mixture.latents(100, 100 + seed), grids.karras(steps=60)
        found = search.search(mixture.denoise, start, candidates, nfe, coefficient=coefficient)
        exact, fresh = mixture.exact(512, seed), mixture.latents(512, seed)
        for name, sigmas in (("karras", grids.karras(steps=nfe)), ("searched", found)):
            errors[name].append(mixture.rmse(dode.sample(EULER, mixture.denoise, fresh, sigmas), exact))
    karras, searched = np.mean(errors["karras"]), np.mean(errors["searched"])
    print(f"NFE {nfe}, coefficient {coefficient}: karras {karras:.3f}, searched {searched:.3f}")
    assert searched < gain * karras


# The search's candidates are levels of karras from the model's highest on, where there is little to do at sigma = 80: a
# grid that begins at 14.6, or makes one long step from there, may do better.
AHEAD = {"align-your-steps", "flow-linear"}


@pytest.fixture(scope="module", params=["digits-edm", "digits-ddpm"])
def embedded(request):
    """An embedded model, noise of images and their end states by fine steps."""
    card = yaml.safe_load((MODELS / f"{request.param}.yaml").read_text())
    model = models.load(card, MODELS / f"{request.param}.safetensors")
    fresh = noise.latents(range(200), (1, 8, 8), seed=0)
    return request.param, model, fresh, dode.sample(HEUN, model, fresh, grids.for_model(model, "karras", 40))


@pytest.mark.parametrize("nfe", [5, 10])
def test_the_searched_grid_beats_karras_for_euler_on_the_embedded_models(embedded, nfe):
    name, model, fresh, fine = embedded
    candidates = grids.for_model(model, "karras", 60)
    cost = search.costs(model, noise.latents(range(100), (1, 8, 8), seed=0, stream="fit", block=1), candidates)
    found = {f"searched, {c}": candidates.numpy()[search.path(cost, nfe, c)] for c in (1.0, 1.15)}
    others = {family: grids.for_model(model, family, nfe) for family in grids.families()}
    errors = {
        label: mixture.rmse(dode.sample(EULER, model, fresh, sigmas), fine)
        for label, sigmas in (others | found).items()
    }
    print(f"{name}, NFE {nfe}: " + "; ".join(f"{label} {error:.3f}" for label, error in errors.items()))
    assert errors["searched, 1.0"] < 0.75 * errors["karras"]
    assert errors["searched, 1.0"] < min(errors[family] for family in {*others} - AHEAD)
    assert errors["searched, 1.0"] < 1.3 * min(errors.values())
    assert errors["searched, 1.15"] < errors["karras"]
