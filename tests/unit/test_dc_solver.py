"""DC-Solver against its public code with the same ratios, and the search for them."""

import math

import numpy as np
import pytest
import torch

import dode
import killing
from dode import grids, solvers
from dode.benchmark import fit_jobs, learning_jobs
from dode.distillation import by_method, learned
from dode.distillation import teacher as teachers
from dode.distillation.methods.dc_solver import rows
from dode.grids.facts import ModelFacts
from dode.models import mixture
from dode.sampling import Student
from dode.solvers.formulas import vp_sigma
from dode.solvers.non_stationary import NonStationary

RATIOS = [1.0, 1.0, 0.8, 1.3, 1.1, 0.7]
# End states of `mixture.latents(3, 7)` on the linear VP SDE from t = 1 to 0.001 in steps of log-SNR with RATIOS, in VE
# coordinates, by wl-zhao/DC-Solver (stable-diffusion/ldm/models/diffusion/dc_solver/dc_solver.py, fetched in November
# 2026; its matrices in float64), order 3, without lower orders at the end.
PUBLISHED = [
    (5, "bh2", [0.4881009954, -0.05308533586, -2.839752841]),
    (5, "bh1", [0.4927368261, -0.05276493473, -2.834890149]),
    (6, "bh2", [0.1110098401, -0.2205083781, -1.466279936]),
    (6, "bh1", [0.1110973528, -0.2204794669, -1.466200008]),
]


class Noise:
    """The toy as a model of noise prediction."""

    facts = ModelFacts.of_card({"prediction": "noise", "schedule": {"name": "linear"}})

    def __call__(self, x, sigma):
        return mixture.denoise(x, sigma)


@pytest.mark.parametrize(("steps", "variant", "expected"), PUBLISHED)
def test_ratios_are_those_of_the_public_code(steps, variant, expected):
    levels = np.geomspace(float(vp_sigma(1.0)), float(vp_sigma(1e-3)), steps + 1).tolist()
    first = float((1 + levels[0] ** 2) ** 0.5)
    states, _ = rows(levels, RATIOS[:steps], first, order=3, variant=variant)
    found = Student(NonStationary(states.tolist()), levels).run(Noise(), mixture.latents(3, 7))
    assert found.flatten()[:3].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("ending", ["zero", "sigma_min"])
def test_ratios_of_1_are_unipc(order, ending):
    levels = grids.karras(steps=6, end=ending)
    states, _ = rows(levels.tolist(), [1.0] * 6, 80.0, order=order, variant="bh2")
    found = Student(NonStationary(states.tolist()), levels).run(mixture.denoise, mixture.latents(4, 0))
    plain = dode.sample(solvers.create("unipc", order=order), mixture.denoise, mixture.latents(4, 0), levels)
    torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [5, 8])
def test_the_search_helps_and_costs_no_more_than_is_said(steps):
    unipc, levels = solvers.create("unipc"), grids.uniform_time(steps=steps)
    fit = dode.distill(unipc, mixture.denoise, mixture.latents(50, 0), levels, fit="dc-solver")
    method = learned.fits.get("dc-solver")
    assert 0.3 * method.expense(50, steps).evaluations <= fit.cost.evaluations <= method.expense(50, steps).evaluations
    fresh, exact = mixture.latents(512, 9), mixture.exact(512, 9)
    plain, fitted = (dode.sample(unipc, mixture.denoise, fresh, levels, lambdas=each) for each in (None, fit))
    assert mixture.rmse(fitted, exact) < 0.5 * mixture.rmse(plain, exact)


@pytest.mark.parametrize("killed", [18, 26])
def test_a_killed_search_goes_on_and_ends_in_the_same_bytes(tmp_path, killed):
    solver, noise, levels = solvers.create("unipc"), mixture.latents(20, 7), grids.karras(steps=6)
    pairing = teachers.aligned(solver, levels, 10)
    states = list(teachers.trajectory(pairing, mixture.denoise, noise))

    def run(path, limit=math.inf):
        denoise = killing.after_calls(mixture.denoise, limit)
        with learning_jobs.checkpoint(path, {}) as own:
            how = {"options": {}, "checkpoint": own, "seed": 3, "states": states}
            fit_jobs.write_fit(path, by_method.fit_by_method("dc-solver", solver, denoise, noise, levels, **how), {})

    run(tmp_path / "whole.json")
    with pytest.raises(killing.Killed):
        run(tmp_path / "killed.json", killed)
    run(tmp_path / "killed.json")
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


@pytest.mark.parametrize(
    ("solver", "levels", "options", "message"),
    [
        ("ipndm", grids.karras(steps=5), {}, "the solver must be 'unipc' without afs, not create"),
        ("unipc", grids.karras(steps=6, afs=True), {}, r"the solver must be 'unipc' without afs, not .*with_afs\(\)"),
        ("unipc", grids.karras(steps=2), {}, "a solver of 2 evaluations has nothing to compensate; at least 3"),
        ("unipc", grids.karras(steps=5), {"tries": 2}, "tries must be an integer of at least 4, not 2"),
    ],
)
def test_what_cannot_be_compensated_is_one_sentence(solver, levels, options, message):
    with pytest.raises(ValueError, match=message):
        dode.distill(
            solvers.create(solver), mixture.denoise, mixture.latents(8, 0), levels, fit="dc-solver", options=options
        )
