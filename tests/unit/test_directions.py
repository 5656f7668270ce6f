"""Which directions a correction has, how they are named, and coefficients that do not match them."""

import pytest
import torch

import dode
from dode import grids, sampling, solvers
from dode.directions import Directions
from dode.grids import schedules
from dode.grids.facts import ModelFacts, vp_prior
from dode.models import mixture

DDIM = solvers.create("ddim")
KARRAS5 = grids.karras(steps=5)
EIGHT = mixture.latents(8, 0)


@pytest.mark.parametrize("directions", [0, -1, True, "3", 1.0])
def test_directions_must_be_a_positive_integer(directions):
    with pytest.raises(ValueError, match="directions must be an integer of at least 1"):
        dode.distill(DDIM, mixture.denoise, EIGHT, KARRAS5, directions=directions, fit="greedy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"differences": 0}, "at least one direction is needed, but there are 0 differences without basis and drift"),
        ({"differences": -1, "drift": True}, "differences of directions must be an integer of at least 0, not -1"),
        ({"differences": 1.0}, "differences of directions must be an integer of at least 0, not 1.0"),
        ({"drift": 1}, "drift of directions must be True or False, not 1"),
        ({"drift": "no"}, "drift of directions must be True or False, not 'no'"),
        ({"outputs": "score"}, "must be 'data', 'noise', 'both', not 'score'"),
        ({"outputs": ["data"]}, r"must be 'data', 'noise', 'both', not \['data'\]"),
    ],
)
def test_impossible_directions_are_refused(options, message):
    for make in (lambda: Directions(**options), lambda: Directions.of(options, "data")):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_misspelt_attribute_of_directions_is_named_with_the_nearest():
    message = r"unknown key 'difference' \(did you mean 'differences'\?\); known: basis, differences, drift, from_noise"
    with pytest.raises(ValueError, match=message):
        dode.distill(DDIM, mixture.denoise, EIGHT, KARRAS5, directions={"difference": 1}, fit="greedy")
    with pytest.raises(ValueError, match=message):
        dode.sample(DDIM, mixture.denoise, EIGHT, KARRAS5, lambdas=torch.zeros(5, 1), directions={"difference": 1})


def test_an_integer_counts_differences_and_the_drift_in_the_prediction_of_the_model():
    assert Directions.of(1, "data") == Directions(differences=1, drift=False, outputs="data")
    assert Directions.of(3, "data") == Directions(differences=2, drift=True, outputs="data")
    assert Directions.of(2, "noise") == Directions(differences=1, drift=True, outputs="noise")


def test_a_dictionary_takes_the_models_kind_of_output_by_default():
    assert Directions.of({"differences": 2}, "noise") == Directions(differences=2, outputs="noise")
    assert Directions.of(1, "v") == Directions.of(1, "noise")
    assert Directions.of(2, "image") == Directions.of(2, "data")
    assert Directions.of({"drift": True}, "data") == Directions(differences=1, drift=True, outputs="data")


def test_both_outputs_are_the_differences_of_the_image_then_of_the_noise():
    directions = Directions.of({"differences": 2, "outputs": "both", "drift": True}, "data")
    assert (directions.count, directions.kinds) == (5, ("data", "noise"))
    sigmas, latents = grids.karras(steps=4), mixture.latents(6, 0)
    outputs = []

    def recorded(x, sigma):
        denoised = mixture.denoise(x, sigma)
        outputs.append((denoised, (x - denoised) / sigma))
        return denoised

    states = []
    for column in range(5):
        lambdas = torch.zeros(4, 5, dtype=torch.float64)
        lambdas[3, column] = 0.5
        outputs.clear()
        states.append(dode.sample(DDIM, recorded, latents, sigmas, lambdas=lambdas, directions=directions))
    plain = dode.sample(DDIM, mixture.denoise, latents, sigmas)
    image, noise = zip(*outputs, strict=True)
    expected = [image[3] - image[2], image[2] - image[1], noise[3] - noise[2], noise[2] - noise[1], -0.002 * noise[3]]
    for state, direction in zip(states, expected, strict=True):
        torch.testing.assert_close(state, plain + 0.5 * direction, rtol=0, atol=1e-12)


def test_directions_of_ones_own_are_fitted_and_sampled():
    own = Directions(differences=0, drift=True)
    latents = mixture.latents(64, 7)
    fit = dode.distill(DDIM, mixture.denoise, latents, KARRAS5, directions=own, fit="greedy")
    distilled = dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit.lambdas, directions=own)
    exact = mixture.exact(64, 7)
    assert fit.lambdas.shape == (5, 1)
    assert mixture.rmse(distilled, exact) < mixture.rmse(dode.sample(DDIM, mixture.denoise, latents, KARRAS5), exact)


def test_a_fit_brings_its_directions_along():
    """Bare numbers are taken for those of another choice of directions of the same number."""
    own, latents = {"outputs": "both"}, mixture.latents(32, 8)
    fit = dode.distill(DDIM, mixture.denoise, latents, KARRAS5, directions=own, fit="greedy")
    whole = dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit)
    assert torch.equal(whole, dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit.lambdas, directions=own))
    assert torch.equal(whole, dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit.lambdas))
    bare = fit.lambdas.tolist()
    assert not torch.equal(whole, dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=bare))
    with pytest.raises(ValueError, match="lambdas have 2 columns, but the number of directions is 1"):
        dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=bare, directions=1)
    with pytest.raises(ValueError, match="fitted along"):
        dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit.lambdas, directions=1)
    with pytest.raises(ValueError, match="directions and told: a fit has its own"):
        dode.sample(DDIM, mixture.denoise, latents, KARRAS5, lambdas=fit, directions=1)


class Knowing:
    """The mixture's model with what a model may say of itself."""

    def __init__(self, **facts):
        self.facts = ModelFacts(**facts)

    def __call__(self, x, sigma):
        return mixture.denoise(x, sigma)


KNOWN = {"sigma_max": 100.0, "classes": 10}
LINEAR, COSINE = (schedules.schedules.create(name) for name in ("linear", "cosine"))


@pytest.mark.parametrize("of", [lambda fit: fit, lambda fit: fit.lambdas], ids=["fit", "its lambdas"])
@pytest.mark.parametrize("kind", ["greedy", "joint"])
def test_a_fit_is_sampled_with_its_own_solver_levels_and_model_alone(of, kind):
    """Each refusal names both."""
    latents, model = mixture.latents(16, 8), Knowing(**KNOWN)
    family = {"family": "lambda"} if kind == "joint" else {}
    fit = dode.distill(DDIM, model, latents, KARRAS5, fit=kind, **family)

    def sample(solver=DDIM, denoise=model, noise=latents, sigmas=KARRAS5):
        return dode.sample(solver, denoise, noise, sigmas, lambdas=of(fit))

    assert sample().isfinite().all()
    assert torch.equal(sample(denoise=mixture.denoise), sample()), "what a model does not say is not compared"
    for how, both in [
        ({"solver": solvers.create("heun")}, r"of create\('ddim'\), not of create\('heun'\)"),
        (
            {"sigmas": grids.karras(steps=5, rho=3.0)},
            r"levels 80, 17.5278, 2.51522, 0.169753, 0.002, 0, not from 80, 34.\d+, 10.*, 0.002, 0; give those",
        ),
        ({"denoise": Knowing(classes=5)}, "of a model with classes 10, not of one with 5"),
        ({"denoise": Knowing(sigma_max=90.0)}, "of a model with sigma_max 100, not of one with 90"),
        ({"denoise": Knowing(prediction="noise")}, "with prediction data, not of one with noise"),
        ({"noise": torch.randn(2, 1, 8, 8)}, r"of images \(1, 4, 4\), not of \(1, 8, 8\)"),
    ]:
        with pytest.raises(ValueError, match=both):
            sample(**how)
        if "denoise" not in how:  # its own
            run = {"solver": DDIM, "noise": latents, "sigmas": KARRAS5, **how}
            with pytest.raises(ValueError, match=both):
                next(sampling.evaluations(run["solver"], run["noise"], run["sigmas"], lambdas=of(fit)))


def test_a_fit_of_another_schedule_is_refused():
    own = {"prediction": "noise", "prior_std": vp_prior}
    fit = dode.distill(DDIM, Knowing(schedule=LINEAR, **own), EIGHT, KARRAS5, fit="greedy")
    with pytest.raises(ValueError, match=r"schedule 1000 steps with .* 157.4, not of one with 4000 steps"):
        dode.sample(DDIM, Knowing(schedule=COSINE, **own), EIGHT, KARRAS5, lambdas=fit)


@pytest.mark.parametrize(
    ("lambdas", "message"),
    [
        (torch.zeros(4), r"lambdas of shape \(4, 1\) do not match 5 evaluations"),
        (torch.zeros(6, 2), r"lambdas of shape \(6, 2\) do not match 5 evaluations"),
        (torch.zeros(5, 1, 1), r"lambdas of shape \(5, 1, 1\) do not match 5 evaluations"),
        (torch.tensor(1.0), r"lambdas of shape \(\) do not match 5 evaluations"),
        (torch.full((5, 1), float("nan")), "lambdas contain NaN"),
        (torch.zeros(5, 0), "directions must be an integer of at least 1"),
    ],
)
def test_lambdas_that_do_not_fit_are_refused(lambdas, message):
    with pytest.raises(ValueError, match=message):
        dode.sample(DDIM, mixture.denoise, EIGHT, KARRAS5, lambdas=lambdas)


def test_lambdas_of_other_directions_are_refused():
    with pytest.raises(ValueError, match="lambdas have 2 columns, but the number of directions is 1"):
        dode.sample(DDIM, mixture.denoise, EIGHT, KARRAS5, lambdas=torch.zeros(5, 2), directions=1)


def test_flat_lambdas_and_lists_serve():
    column = [0.0, 0.25, 0.5, 0.25, 0.0]
    first, second = (
        dode.sample(DDIM, mixture.denoise, EIGHT, KARRAS5, lambdas=lambdas)
        for lambdas in (column, torch.tensor(column).double()[:, None])
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, dode.sample(DDIM, mixture.denoise, EIGHT, KARRAS5))


def test_a_coefficient_on_a_direction_that_is_not_there_yet_is_refused():
    solver, sigmas = solvers.create("ddim"), grids.karras(steps=3)
    lambdas = torch.zeros(3, 3).index_put((torch.tensor(1), torch.tensor(1)), torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"lambdas\[1, 1\] is 0.5"):
        dode.sample(solver, mixture.denoise, mixture.latents(4, 0), sigmas, lambdas=lambdas)
