"""What the library hands out can be copied, pickled and sent to another process, and does the same there."""

import concurrent.futures
import copy
import functools
import multiprocessing
import pickle

import pytest
import torch

import dode
import test_portable
import variants
from dode import grids, models, solvers
from dode.distillation import released
from dode.grids import schedules
from dode.models import mixture

COPIES = {
    "deep": copy.deepcopy,
    "shallow": copy.copy,
    **{f"protocol {n}": lambda made, n=n: pickle.loads(pickle.dumps(made, protocol=n)) for n in (2, 5)},
}
copied = pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
LATENTS, SIGMAS = mixture.latents(40, 0), [20.0, 3.0, 0.5, 0.0]
DDIM = solvers.create("ddim")


@pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)
def test_a_solver(variant):
    solver = solvers.create(variant[0], **variant[1])
    expected = dode.sample(solver, mixture.denoise, LATENTS, SIGMAS)
    for name, how in COPIES.items():
        again = how(solver)
        assert repr(again) == repr(solver), name
        assert (again.order, again.nfe(4), repr(again.teacher)) == (solver.order, solver.nfe(4), repr(solver.teacher))
        assert torch.equal(dode.sample(again, mixture.denoise, LATENTS, SIGMAS), expected), name


def grid(name):
    """Some grid of this name, also on a model's schedule and on the levels of a discrete one."""
    schedule = schedules.schedules.create("cosine")
    of = {"on a schedule": models.ModelFacts("noise", schedule=schedule, prior_std=models.facts_of(vp).prior_std)}
    of["rounded"] = models.ModelFacts.of_card(test_portable.IDDPM)
    if name in of:
        return grids.for_model(of[name], "uniform-index" if name == "on a schedule" else "karras", 4)
    return grids.base.grids.create(name, steps=4)


vp = models.NoisePrediction(test_portable.Network(), schedule=schedules.schedules.create("linear"))


@copied
@pytest.mark.parametrize("name", [*grids.base.families(), "on a schedule", "rounded"])
def test_a_grid(how, name):
    """With what a fit asks of it: its variable, and the same family with other steps."""
    made = grid(name)
    again = how(made)
    assert type(again) is type(made)
    assert again.tolist() == made.tolist()
    assert again.remake(steps=7).tolist() == made.remake(steps=7).tolist()
    refined = (each.variable.refine(each.numpy(), 3).tolist() for each in (made, again))
    assert next(refined) == next(refined)
    fits = (dode.distill(DDIM, mixture.denoise, LATENTS, each, fit="greedy", substeps=2) for each in (made, again))
    assert torch.equal(*(fit.lambdas for fit in fits))


@functools.cache
def fitted(fit):
    """A fit of this kind and its grid, made once: copying changes nothing of it."""
    options = {"fit": fit} if fit in ("greedy", "refined", "joint") else {"family": fit, "budget": 20_000}
    sigmas = grids.karras(steps=3, sigma_max=20.0)
    return sigmas, dode.distill(DDIM, mixture.denoise, LATENTS, sigmas, **options)


@copied
@pytest.mark.parametrize("fit", ["greedy", "refined", "joint", "told", "lambda"])
def test_a_fit(how, fit):
    sigmas, made = fitted(fit)
    again = how(made)
    run = (dode.sample(DDIM, mixture.denoise, LATENTS, sigmas, lambdas=each) for each in (made, again))
    assert torch.equal(*run)
    assert again.family == made.family
    with pytest.raises(ValueError, match="the fit is of"):
        dode.sample(solvers.create("heun"), mixture.denoise, LATENTS, sigmas, lambdas=again)
    if made.family in (None, "lambda"):
        bare = how(made.lambdas)
        directions = made.directions
        run = {"lambdas": bare, "directions": directions}
        dode.sample(DDIM, mixture.denoise, LATENTS, sigmas, **run)
        with pytest.raises(ValueError, match="the fit is of"):
            dode.sample(solvers.create("ipndm"), mixture.denoise, LATENTS, sigmas, **run)


@copied
def test_a_fit_of_a_model_that_cannot_be_pickled(how):
    """Of the model it keeps what that says of itself, not the functions."""

    class Model:
        prior_std = staticmethod(lambda sigma: (1 + sigma**2) ** 0.5)

        def __call__(self, x, sigma):
            return mixture.denoise(x, sigma)

    made = dode.distill(DDIM, Model(), LATENTS, SIGMAS, fit="greedy")
    assert torch.equal(
        dode.sample(DDIM, Model(), LATENTS, SIGMAS, lambdas=how(made)).isnan(), torch.zeros_like(LATENTS) > 0
    )


@copied
@pytest.mark.parametrize("solver", ["ipndm", "deis", "dpm-solver", "ddim"])
def test_a_recipe_of_the_authors(how, solver):
    orders = {"deis": 2, "dpm-solver": 3}
    recipe = released.recipe(solver, orders.get(solver), vp, 5, 4)
    again = how(recipe)
    latents = torch.randn(2, 1, 4, 4)
    run = (dode.sample(each.student, each.bound(vp), latents, each.sigmas) for each in (recipe, again))
    assert torch.equal(*run)


@copied
def test_a_sampler(how):
    sampler = dode.load(test_portable.good.__wrapped__())
    again, latents = how(sampler), torch.randn(4, 1, 2, 2)
    assert repr(again) == repr(sampler)
    assert again.record == sampler.record
    assert torch.equal(again.sample(lambda x, sigma: x / (1 + sigma**2), latents), sampler.sample(denoise, latents))


def denoise(x, sigma):
    return x / (1 + sigma**2)


def elsewhere(sent):
    """In another process; bytes, as torch would share the memory of tensors."""
    solver, sigmas, fit, sampler, latents = pickle.loads(sent)
    return pickle.dumps([dode.sample(solver, denoise, latents, sigmas, lambdas=fit), sampler.sample(denoise, latents)])


def test_another_process():
    sigmas, latents = grids.karras(steps=3), torch.randn(40, 1, 2, 2)
    fit = dode.distill(DDIM, denoise, latents, sigmas, fit="greedy")
    sent = pickle.dumps((DDIM, sigmas, fit, dode.load(test_portable.good.__wrapped__()), latents))
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(elsewhere, sent).result()
    assert all(map(torch.equal, pickle.loads(found), pickle.loads(elsewhere(sent))))
