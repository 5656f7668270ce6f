"""The released recipes against a second implementation (:mod:`released_reference`)."""

import numpy as np
import pytest
import torch

from dode import sampling, solvers
from dode.distillation import greedy, released, released_deis
from dode.distillation import teacher as teachers
from dode.grids import schedules
from dode.grids.facts import ModelFacts, vp_prior
from dode.models import NoisePrediction
from released_reference import (
    ABAR,
    COSINE,
    FIT,
    NEW,
    clean_estimate,
    cosine_model,
    edm_euler,
    edm_heun,
    edm_recipe,
    noise_estimate,
    noise_recipe,
)


def images(flat):
    """(B, 16) as a tensor of images."""
    return torch.from_numpy(flat).view(-1, 1, 4, 4)


def tensor_model(model):
    """A network of :mod:`released_reference` for tensors."""
    return lambda x, index: images(model(x.flatten(1).numpy(), float(index)))


noise_model = tensor_model(noise_estimate)


def data_model(x, sigma):
    """:func:`clean_estimate` for tensors."""
    return images(clean_estimate(x.flatten(1).numpy(), float(sigma)))


def close(result, lambdas, sampler, rtol=0):
    """Baseline and distilled samples agree to 1e-6."""
    expected = {
        "baseline_new": sampler(NEW, np.zeros(len(lambdas))),
        "distilled_fit": sampler(FIT, lambdas),
        "distilled_new": sampler(NEW, lambdas),
    }
    for name, flat in expected.items():
        torch.testing.assert_close(
            getattr(result, name), images(flat), rtol=rtol, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert not torch.allclose(result.baseline_new, result.distilled_new, atol=1e-3)


# Strides of the teacher that divide the 1,000 training steps (20, 10) and that do not (8.3, 12.5).
MATRIX = [(4, 20), (5, 10), (6, 20), (10, 10)]
CAPPED = [(60, 20), (26, 10)]
NOISE_RECIPES = [
    *(("ddim", None, steps, scale) for steps, scale in [*MATRIX, *CAPPED]),
    *(("ipndm", None, steps, scale) for steps, scale in [*MATRIX, (1, 10), (7, 200)]),
    *(("deis", order, steps, scale) for order in (1, 2, 3) for steps, scale in MATRIX),
    ("deis", 3, 10, 200),
    *(("dpm-solver", order, *pair) for order in (2, 3) for pair in [*MATRIX, (1, 10), (2, 10), (3, 10), (10, 200)]),
    *(("dpm-solver", 3, steps, 200) for steps in (6, 11)),
]


@pytest.mark.parametrize(("solver", "order", "steps", "scale"), NOISE_RECIPES)
def test_recipes_for_noise_prediction(solver, order, steps, scale):
    """Among the teachers are some capped at the 1,000 training steps, whose stride does not divide 1,000."""
    lambdas, sampler = noise_recipe(solver, order, steps, scale)
    result = released.run("noise", solver, order, steps, scale, noise_model, images(FIT), images(NEW))
    np.testing.assert_allclose(result.lambdas.numpy(), lambdas, rtol=1e-6, atol=1e-12)
    close(result, lambdas, sampler)


@pytest.mark.parametrize(
    ("solver", "order", "indices"),
    [
        ("ddim", None, [750, 500, 250, 0]),
        ("ipndm", None, [998, 748.25, 498.5, 248.75]),
        ("deis", 2, [998, 748.25, 498.5, 248.75]),
        ("dpm-solver", 2, [999, 749.25, 499.5, 249.75]),
        ("dpm-solver", 3, [999, 749.25, 499.5, 249.75]),
    ],
)
def test_where_the_network_is_called(solver, order, indices):
    """Inner stages of DPM-Solver are on the grid of the evaluations too."""
    seen = []

    def model(x, index):
        assert index.shape == ()
        assert index.dtype == torch.float64
        seen.append(float(index))
        return noise_model(x, index)

    released.run("noise", solver, order, 4, 1, model, images(FIT), images(NEW))
    for calls in (seen[-4:], seen[-12:-8]):  # the last run is the distilled one, the third last the plain one
        np.testing.assert_allclose(calls, indices, rtol=0, atol=1e-8)
    whole = [index for index, due in zip(seen[-4:], indices, strict=True) if due == int(due)]
    assert whole == [int(index) for index in whole]


def test_at_the_second_step_the_coefficient_absorbs_the_order():
    """There r is a multiple of eps_1 - eps_0 for every multistep order, and so is what the order changes."""
    schedule = schedules.schedules.create("linear")
    denoise = released._Noise(noise_model, ModelFacts("noise", schedule=schedule, prior_std=vp_prior))
    sigmas = torch.from_numpy(schedule.sigma(np.array([999.0, 500.0, 0.0])))
    fine = torch.from_numpy(schedule.sigma(np.linspace(999, 0, 41)))
    pairing = teachers.paired_in_vp(solvers.create("ddim"), fine, sigmas[1:].tolist(), teachers.strided(2, 40))
    ends, lambdas = [], []
    for order in (1, 2, 3, 4):
        student = solvers.create("ipndm", order=order)
        states = teachers.trajectory(pairing, denoise, images(FIT))
        fit = greedy.fit_to(student, denoise, images(FIT), sigmas, pairing, states)
        lambdas.append(float(fit.lambdas[1, 0]))
        ends.append(
            sampling.sample(student, denoise, images(NEW), sigmas, lambdas=fit.lambdas, directions=fit.directions)
        )
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-9)
    assert abs(lambdas[1] - lambdas[0]) > 0.1 * abs(lambdas[0])


def test_the_released_deis_schedule():
    """abar is linear, not its logarithm; the way back is exact; slopes are right-hand and 0 where abar is clipped."""
    linear = released_deis.LinearAbar(schedules.schedules.create("linear"))
    assert linear.abar(500.25) == pytest.approx(0.75 * ABAR[500] + 0.25 * ABAR[501], rel=1e-12)
    indices = np.array([999.0, 998.001, 500.5, 333.0, 1.998, 0.001, 0.0])
    np.testing.assert_allclose(linear.index(linear.sigma(indices)), indices, rtol=0, atol=1e-8)
    assert linear.index(linear.sigma(333)) == 333
    assert linear.abar_and_slope(np.array([333.0]))[1] == ABAR[334] - ABAR[333]
    cosine = released_deis.LinearAbar(schedules.schedules.create("cosine"))
    assert len(cosine) == 4000
    assert cosine.abar(3999) == 1e-7
    assert cosine.index(cosine.sigma(3999)) == 3999
    assert cosine.abar_and_slope(np.array([3999.0]))[1] == 0


COSINE_RECIPES = [
    ("ddim", None, 10),
    ("ipndm", None, 5),
    ("deis", 2, 10),
    *(("dpm-solver", order, steps) for order in (2, 3) for steps in (5, 6, 10)),
]


@pytest.mark.parametrize(("solver", "order", "steps"), COSINE_RECIPES)
def test_recipes_on_the_cosine_schedule(solver, order, steps):
    """Improved DDPM: 4,000 steps, of which the authors' DPM-Solver leaves out 16; its teacher has them all."""
    lambdas, sampler = noise_recipe(solver, order, steps, 10, COSINE)
    cosine = schedules.schedules.create("cosine")
    result = released.run(
        "noise", solver, order, steps, 10, tensor_model(cosine_model), images(FIT), images(NEW), schedule=cosine
    )
    np.testing.assert_allclose(result.lambdas.numpy(), lambdas, rtol=1e-5, atol=1e-12)
    close(result, lambdas, sampler, rtol=1e-6)


@pytest.mark.parametrize(
    ("solver", "order", "student", "teacher"),
    [
        ("ddim", None, [3600, 3200, 2800], [3960, 3920]),
        ("ipndm", None, [3998, 3598.1, 3198.2], [3998, 3958.01]),
        ("deis", 2, [3998, 3598.1, 3198.2], [3998, 3958.01]),
        ("dpm-solver", 2, [999.749, 899.774, 799.799], [3960, 3920]),
        ("dpm-solver", 3, [999.749, 899.774, 799.799], [3960, 3920]),
    ],
)
def test_the_network_of_improved_ddpm_embeds_the_times_that_the_authors_gave_it(solver, order, student, teacher):
    """Times recorded in runs of their code, 10 steps: they call a network trained on times below 1,000 at up to 3,998.

    The network here multiplies the index by 0.25 before it embeds it, as its card says, and embeds the same times.
    """
    embedded = []

    class Network(torch.nn.Linear):
        def forward(self, x, index):
            embedded.append(round(0.25 * float(index), 3))
            return torch.tanh(x)

    schedule = schedules.schedules.create("cosine")
    denoise = NoisePrediction(Network(1, 1), schedule=schedule, index_scale=0.25)
    recipe = released.recipe(solver, order, denoise, 10, 10)
    list(teachers.trajectory(recipe.pairing, recipe.bound_for_teacher(denoise), images(FIT)))
    assert embedded[:2] == teacher
    embedded.clear()
    sampling.sample(recipe.student, recipe.bound(denoise), images(NEW), recipe.sigmas)
    assert embedded[:3] == student
    embedded.clear()
    sampling.sample(solvers.create("ddim"), denoise, images(NEW), schedule.sigma([3600, 3200]))
    assert embedded == [900]  # other cells have the time that it was trained on


def test_a_schedule_of_which_too_little_is_left_is_refused():
    steep = schedules.schedules.create("linear", steps=10, beta_min=0.998, beta_max=0.999)
    with pytest.raises(ValueError, match=r"below a half log-SNR of -5\.1, of which this one keeps 1; at least 2"):
        released.run("noise", "dpm-solver", 2, 5, 10, noise_model, images(FIT), images(NEW), schedule=steep)


@pytest.mark.parametrize("steps", [4, 5, 6, 10])
@pytest.mark.parametrize("scale", [10, 20])
def test_ddim_for_data_prediction(steps, scale):
    lambdas, sampler = edm_recipe(edm_euler, steps, steps, scale)
    result = released.run("data", "ddim", None, steps, scale, data_model, images(FIT), images(NEW))
    assert result.lambdas[0] == 0
    close(result, lambdas, sampler)


@pytest.mark.parametrize("steps", [4, 5, 6, 10])
@pytest.mark.parametrize("scale", [10, 20])
def test_heun_for_data_prediction(steps, scale):
    lambdas, sampler = edm_recipe(edm_heun, 2 * steps - 1, steps, scale)
    result = released.run("data", "heun", None, steps, scale, data_model, images(FIT), images(NEW))
    assert result.lambdas.shape == (2 * steps - 1,)
    assert result.lambdas[0] == 0
    close(result, lambdas, sampler)


@pytest.mark.parametrize(
    ("prediction", "solver", "order", "message"),
    [
        ("image", "ddim", None, "the authors' code has recipes for noise and data prediction, not for 'image'"),
        ("noise", "ddim", 2, "solver 'ddim' has only one order; order must be None, not 2"),
        ("noise", "ipndm", 4, "solver 'ipndm' has only one order; order must be None, not 4"),
        ("data", "heun", 2, "solver 'heun' has only one order; order must be None, not 2"),
        ("noise", "deis", None, "solver 'deis': order must be one of 1, 2, 3, not None"),
        ("noise", "deis", 4, "solver 'deis': order must be one of 1, 2, 3, not 4"),
        ("noise", "deis", True, "solver 'deis': order must be one of 1, 2, 3, not True"),
        ("noise", "dpm-solver", 1, "solver 'dpm-solver': order must be one of 2, 3, not 1"),
        ("noise", "dpm-solver", 2.0, "solver 'dpm-solver': order must be one of 2, 3, not 2.0"),
        ("noise", "heun", None, "'heun' with noise prediction; it has 'ddim', 'ipndm', 'deis', 'dpm-solver'"),
        ("data", "deis", 2, "'deis' with data prediction; it has 'ddim', 'heun'"),
        ("noise", "dimm", None, r"unknown solver 'dimm' \(did you mean 'ddim'\?\)"),
    ],
)
def test_recipes_that_do_not_exist_are_refused(prediction, solver, order, message):
    with pytest.raises(ValueError, match=message):
        released.run(prediction, solver, order, 4, 10, noise_model, images(FIT), images(NEW))


@pytest.mark.parametrize(
    ("steps", "scale", "message"),
    [
        (0, 10, "steps must be an integer of at least 1, not 0"),
        (4, 2.5, "scale must be an integer of at least 1, not 2.5"),
        (1001, 1, "steps must be at most 1000 on this schedule, not 1001"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(steps, scale, message):
    with pytest.raises(ValueError, match=message):
        released.run("noise", "ipndm", None, steps, scale, noise_model, images(FIT), images(NEW))
