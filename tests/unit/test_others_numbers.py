"""Solvers, grids and tables of others against their public code on the exact toy, fetched in November 2026."""

import numpy as np
import pytest
import torch

import dode
from dode import driver, grids, solvers
from dode.grids.facts import ModelFacts
from dode.grids.spacings import dmn
from dode.models import mixture
from dode.solvers.formulas import PURE_NOISE

# The first numbers of the end states of `mixture.latents(3, 7)` on karras levels, six steps, by crowsonkb/k-diffusion's
# sample_lms, sample_dpmpp_2m_sde (solver_type="heun", eta=0), and sample_dpmpp_3m_sde (eta=0), and ComfyUI's
# sample_gradient_estimation.
K_DIFFUSION = [
    ("ipndm_v", {"order": 4}, [0.01982414199, -0.2749996384, -1.241764629]),
    ("res-multistep", {"order": 2}, [-0.05201281717, -0.1201173032, -2.470734129]),
    ("dpm-solver++", {"variant": "3M-full"}, [0.07146582762, 0.0343206182, -3.355650748]),
    ("gradient-estimation", {}, [0.03167888224, -0.2028408832, -1.687884432]),
]


@pytest.mark.parametrize(("name", "options", "expected"), K_DIFFUSION)
def test_samplers_of_k_diffusion_and_comfyui(name, options, expected):
    found = dode.sample(solvers.create(name, **options), mixture.denoise, mixture.latents(3, 7), grids.karras(steps=6))
    assert found.flatten()[:3].tolist() == pytest.approx(expected, rel=1e-8)


def test_res_of_order_3_integrates_a_square_in_log_snr_exactly():
    """D = (log sigma)^2 has no third derivative in log-SNR: after two steps there is no error but theirs."""
    levels = torch.logspace(1, -1, 7, dtype=torch.float64)

    def denoise(x, sigma):
        return torch.log(sigma) ** 2 * torch.ones_like(x)

    def exact(x, sigma, sigma_next):
        """(sigma' / sigma) x + sigma' int_sigma'^sigma D / s^2 ds, with -(l^2 + 2 l + 2) / s the integral."""
        begin, end = (torch.log(s) ** 2 + 2 * torch.log(s) + 2 for s in (sigma, sigma_next))
        return sigma_next / sigma * x + end - sigma_next / sigma * begin

    steps = driver.steps(solvers.create("res-multistep", order=3), denoise, mixture.latents(2, 0), levels)
    for step in steps:
        if step.index >= 2:
            torch.testing.assert_close(step.proposal.x, exact(step.x, step.sigma, step.proposal.sigma))


# Half log-SNRs that scxue/DM-NonUniform finds for the linear VP SDE from t = 1 to 0.001, from log-SNR steps.
DMN = {
    4: [-5.025, -1.9912, -0.791, 0.8899, 4.5577],
    5: [-5.025, -2.1818, -1.2158, -0.2578, 1.0646, 4.5577],
    6: [-5.025, -2.545, -1.4233, -0.8112, 0.0997, 1.2571, 4.5577],
}
VP = {"sigma_max": 152.16697028394645, "sigma_min": 0.010485992786703324, "power": 2}


@pytest.mark.parametrize("steps", DMN)
def test_dmn_finds_the_authors_steps(steps):
    sigmas = grids.grids.create("dmn", steps=steps, end="sigma_min", **VP)
    np.testing.assert_allclose(-np.log(sigmas.numpy()), DMN[steps], atol=1e-4)


def test_dmn_is_better_by_its_bound_than_what_it_begins_with():
    """The authors' code has a bound of 26.5585 at 7 steps, where it stops before the minimum."""

    def bound(sigmas, power):
        total, sums = dmn.error_parts(-np.log(sigmas.numpy()), power)
        return total + sum(map(abs, sums))

    assert bound(grids.grids.create("dmn", steps=7, end="sigma_min", **VP), 2) < 26.5
    for steps in (4, 10):
        plain = grids.log_snr(steps=steps, end="sigma_min")
        assert bound(grids.grids.create("dmn", steps=steps, end="sigma_min"), 1) < bound(plain, 1) / 1.5


def test_dmn_goes_to_0_in_one_step_more_and_is_planned_without_the_optimisation(monkeypatch):
    ended = grids.grids.create("dmn", steps=4, end="sigma_min")
    assert grids.grids.create("dmn", steps=5).tolist() == [*ended.tolist(), 0.0]
    assert grids.grids.create("dmn", steps=1).tolist() == [80.0, 0.0]
    monkeypatch.setattr(dmn, "_best", None)
    grids.check("dmn", 5, ModelFacts())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3, "power": 3}, "power must be 1 or 2, not 3"),
        ({"steps": 3, "start": "edm"}, "start must be one of 'log-snr', 'uniform-time', 'karras', not 'edm'"),
        ({"steps": 22}, "at most 21 steps, not 22"),
    ],
)
def test_dmn_refuses_what_it_cannot_optimise(options, message):
    with pytest.raises(ValueError, match=message):
        grids.check("dmn", options.pop("steps"), ModelFacts(), **options)


def test_optimal_steps_are_the_tables_and_begin_where_the_model_does():
    flux = grids.grids.create("optimal-steps", steps=10)
    assert (flux[:-1] / (1 + flux[:-1])).tolist() == pytest.approx(
        [0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808], rel=1e-12
    )
    assert grids.grids.create("optimal-steps", steps=20, table="wan")[0].item() == PURE_NOISE
    # ComfyUI's loglinear_interp of the table for five steps: every other time.
    five = grids.grids.create("optimal-steps", steps=5)
    assert five.tolist() == pytest.approx(flux[::2].tolist(), rel=1e-9)
    edm = grids.grids.create("optimal-steps", steps=6, sigma_max=80.0)
    assert edm[0].item() == 80.0
    with pytest.raises(ValueError, match="table must be one of 'flux', 'wan', not 'chroma'"):
        grids.grids.create("optimal-steps", steps=10, table="chroma")


class Flow:
    """The toy as a model of flow matching."""

    facts = ModelFacts.of_card({"prediction": "flow", "schedule": {"name": "flow"}})

    def __call__(self, x, sigma):
        return mixture.denoise(x, sigma)


class Noise(Flow):
    """The toy as one of noise prediction."""

    facts = ModelFacts.of_card({"prediction": "noise", "schedule": {"name": "linear"}})


# End states of MCG-NJU/NeuralSolver (flow_matching/ and ddpm/ns_sampling.py; in the latter without the second update of
# the state that follows the first), from `mixture.latents(3, 7)`, in VE coordinates.
NEURAL = [
    ("flow", 5, [0.2557510867, -0.2833091225, -1.315698008]),
    ("flow", 8, [0.04227235242, -0.2556656932, -1.274100785]),
    ("flow", 15, [0.09990165973, -0.2559830035, -1.263293926]),
    ("noise", 5, [0.2312372687, -0.2653817931, -1.501434736]),
    ("noise", 8, [0.1093458087, -0.2665075761, -1.249765688]),
]


@pytest.mark.parametrize(("table", "nfe", "expected"), NEURAL)
def test_neural_solver_is_its_authors(table, nfe, expected):
    model, grid = (Flow(), "flow-linear") if table == "flow" else (Noise(), "uniform-index")
    given = dode.solvers.create("ddim"), model, mixture.latents(4, 0), grids.for_model(model, grid, nfe)
    fit = dode.distill(*given, fit="neural-solver", options={"table": table})
    found = fit.student.sample(model, mixture.latents(3, 7))
    assert found.flatten()[:3].tolist() == pytest.approx(expected, abs=1e-6)
    assert (fit.family, fit.cost.evaluations, fit.student.nfe) == ("neural-solver", 0, nfe)


def test_neural_solver_begins_where_a_model_does_and_has_its_numbers_of_evaluations():
    noise = mixture.latents(32, 0)
    fit = dode.distill(solvers.create("heun"), mixture.denoise, noise, grids.karras(steps=3), fit="neural-solver")
    assert float(fit.student.sigmas[0]) > 1e6  # this function says nothing of itself
    for options, message in (
        ({}, "table 'flow' has 5, 6, 7, 8, 9, 10, 15 evaluations, not 4"),
        ({"table": "dit"}, "unknown table 'dit'"),
    ):
        with pytest.raises(ValueError, match=message):
            dode.distill(
                solvers.create("ddim"),
                mixture.denoise,
                noise,
                grids.karras(steps=4),
                fit="neural-solver",
                options=options,
            )


def test_tables_are_square_and_their_times_end_at_the_image():
    from dode.distillation.methods.neural_solver import tables

    for table, entries in tables().items():
        for nfe, own in entries.items():
            assert len(own["steps"]) == len(own["weights"]) == nfe
            assert [len(row) for row in own["weights"]] == list(range(nfe))
            assert sum(own["steps"]) == pytest.approx(1.0, abs=2e-3), (table, nfe)
