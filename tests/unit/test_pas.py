"""PAS and directions on a basis of each image's slopes."""

import json
import math

import pytest
import torch

import dode
import killing
from dode import driver, grids, sampling, solvers
from dode.benchmark import fit_jobs, jobs, learning_jobs
from dode.directions import Directions, History
from dode.distillation import by_method, learned
from dode.distillation import teacher as teachers
from dode.models import mixture
from inside_out import driven

SIGMAS = grids.karras(steps=6, end="sigma_min")
BASIS = Directions(differences=0, basis=4, drift=True, outputs="noise")
# End states of `mixture.latents(3, 9)` on SIGMAS with these coordinates by onefly123/PAS (pas_solvers.py, fetched in
# November 2026), with an exact singular value decomposition in the place of torch.pca_lowrank, which draws its own, and
# without the slope that it appends before it is corrected when it samples, but not when it fits.
COORDINATES = {3: [3.5, 0.6, -0.02, 0.05], 4: [3.2, 1.1, -0.005, 0.02], 5: [2.2, 2.0, 0.07, 0.19]}
PUBLISHED = [
    ("ddim", {}, [-1.100347188, -1.470676315, -1.079088241]),
    ("ipndm", {"order": 3}, [-1.166581304, -1.331443799, -1.352653552]),
]


@pytest.mark.parametrize(("solver", "options", "expected"), PUBLISHED)
def test_coordinates_are_those_of_the_public_code(solver, options, expected):
    lambdas = torch.zeros(6, 5, dtype=torch.float64)
    for index, coordinates in COORDINATES.items():
        lambdas[index, :4], lambdas[index, 4] = torch.tensor(coordinates), -1.0
    student = sampling.Student(solvers.create(solver, **options), SIGMAS, lambdas, BASIS)
    found = student.sample(mixture.denoise, mixture.latents(3, 9))
    assert found.flatten()[:3].tolist() == pytest.approx(expected, abs=1e-6)


def bases(solver="ddim", count=4):
    """The basis of each step of a plain run, and the steps."""
    history, found = History(Directions(differences=0, basis=count, outputs="noise")), []

    def advance(step):
        found.append((step, history.at(step)))
        return step.proposal.x

    driver.drive(driver.steps(solvers.create(solver), mixture.denoise, mixture.latents(8, 1), SIGMAS), advance)
    return found


def test_the_basis_is_orthonormal_and_begins_with_the_slope():
    for index, (step, columns) in enumerate(bases()):
        assert sorted(columns) == list(range(len(columns)))
        assert len(columns) == min(4, index + 2)
        vectors = torch.stack([columns[place] / step.h for place in columns], dim=1).flatten(2)
        gram = vectors @ vectors.mT
        own = vectors.any(dim=2)  # zeros where an image's slopes do not differ by more than rounding
        assert own[:, :3].all()
        torch.testing.assert_close(gram, torch.diag_embed(own.double()), rtol=0, atol=1e-8)
        slope = ((step.proposal.x - step.x) / step.h).flatten(1)
        torch.testing.assert_close(vectors[:, 0], slope / slope.norm(dim=1, keepdim=True))


def test_a_component_points_where_the_image_has_gone():
    """So that its sign, which a decomposition leaves open, is the same for all images and on every machine."""
    begun = 80 * mixture.latents(8, 1)
    for step, columns in bases()[1:]:
        gone = (step.x - begun).flatten(1)
        for place in range(1, len(columns)):
            assert bool(((columns[place] / step.h).flatten(1) * gone).sum(dim=1).ge(0).all())


def test_an_image_with_parallel_slopes_decides_nothing_for_the_others():
    """Its past spans fewer directions; it has zeros in the place of vectors, the others all of theirs."""
    along = torch.ones(1, 1, 4, 4, dtype=torch.float64)

    def towards(x, sigma):  # the mode of two that is nearer: noise along the modes stays on their line
        nearer = torch.tanh((x * along).flatten(1).sum(1) / (sigma**2 + 0.01)).view(-1, 1, 1, 1)
        return 0.5 * nearer * along + (x - 0.5 * nearer * along) * 0.01 / (sigma**2 + 0.01)

    noise = mixture.latents(64, 3)
    options = {"epochs": 100, "tau": 0.0, "components": 2}
    fit = dode.distill(solvers.create("ddim"), towards, noise, SIGMAS, fit="pas", options=options)
    assert (fit.student.lambdas[1:, 1] != 0).any()
    alone = dode.sample(solvers.create("ddim"), towards, noise[:3], SIGMAS, lambdas=fit)
    for other in (along, 0 * along):
        beside = dode.sample(solvers.create("ddim"), towards, torch.cat([noise[:3], other]), SIGMAS, lambdas=fit)
        assert beside.isfinite().all()
        torch.testing.assert_close(beside[:3], alone, rtol=0, atol=1e-9)
    assert dode.sample(solvers.create("ddim"), towards, along, SIGMAS, lambdas=fit).isfinite().all()


def test_our_own_fits_take_the_basis_as_they_take_differences():
    noise, fresh, exact = mixture.latents(200, 0), mixture.latents(512, 9), mixture.exact(512, 9)
    errors = {}
    for name, directions in {"difference": {"differences": 1}, "basis": {"differences": 1, "basis": 3}}.items():
        for fit in ("greedy", "refined"):
            found = dode.distill(
                solvers.create("ipndm"), mixture.denoise, noise, SIGMAS, fit=fit, directions=directions
            )
            made = dode.sample(solvers.create("ipndm"), mixture.denoise, fresh, SIGMAS, lambdas=found)
            errors[name, fit] = mixture.rmse(made, exact)
    assert errors["basis", "greedy"] < 0.9 * errors["difference", "greedy"]
    assert errors["basis", "refined"] < errors["basis", "greedy"]


@pytest.mark.parametrize("solver", ["heun", "dpm-solver", "flow-midpoint"])
def test_solvers_with_inner_stages_have_no_such_basis(solver):
    given = solvers.create(solver), mixture.denoise, mixture.latents(80, 0), SIGMAS
    for fit in ({"fit": "greedy", "directions": {"basis": 2}}, {"fit": "pas"}):
        with pytest.raises(ValueError, match=f"a basis of slopes needs a solver that ends a step .* unlike '{solver}'"):
            dode.distill(*given, **fit)


def test_a_joint_fit_has_no_such_basis():
    with pytest.raises(ValueError, match="a basis depends on the image, which a joint fit cannot have"):
        dode.distill(solvers.create("ddim"), mixture.denoise, mixture.latents(80, 0), SIGMAS, directions={"basis": 2})


OPTIONS = {"epochs": 200}


@pytest.mark.parametrize("solver", ["ddim", "ipndm"])
def test_the_fit_helps_and_costs_what_is_said(solver):
    made = solvers.create(solver)
    fit = dode.distill(made, mixture.denoise, mixture.latents(200, 7), SIGMAS, fit="pas", options=OPTIONS)
    method = learned.fits.get("pas")
    assert fit.cost.evaluations == method.expense(200, 6, **OPTIONS).evaluations == 1200
    assert fit.cost.gradients == 0
    corrected = fit.student.lambdas[:, -1] != 0
    assert not bool(corrected[0])
    assert bool(corrected.any())
    assert bool((fit.student.lambdas[~corrected] == 0).all())
    fresh, exact = mixture.latents(512, 9), mixture.exact(512, 9)
    plain, fitted = (dode.sample(made, mixture.denoise, fresh, SIGMAS, lambdas=each) for each in (None, fit))
    assert mixture.rmse(fitted, exact) < 0.95 * mixture.rmse(plain, exact)


def test_coordinates_found_are_those_of_the_public_code():
    """do_search of onefly123/PAS on the same states, batches and settings, at the first step that it corrects."""
    fit = dode.distill(
        solvers.create("ddim"), mixture.denoise, mixture.latents(200, 7), SIGMAS, fit="pas", options={"epochs": 300}
    )
    assert fit.student.lambdas[4, :4].tolist() == pytest.approx([3.2657353, 1.1409348, -0.0049401, 0.0178147], abs=2e-4)


def test_a_gain_below_tau_changes_nothing():
    options = {**OPTIONS, "tau": 10.0}
    fit = dode.distill(
        solvers.create("ddim"), mixture.denoise, mixture.latents(80, 7), SIGMAS, fit="pas", options=options
    )
    assert not bool(fit.student.lambdas.any())


@pytest.mark.parametrize("killed", [1, 5])
def test_a_killed_fit_goes_on_and_ends_in_the_same_bytes(tmp_path, killed):
    solver, noise = solvers.create("ipndm"), mixture.latents(80, 7)
    pairing = teachers.aligned(solver, SIGMAS, 10)
    states = list(teachers.trajectory(pairing, mixture.denoise, noise))

    def run(path, limit=math.inf):
        denoise = killing.after_calls(mixture.denoise, limit)
        with learning_jobs.checkpoint(path, {}) as own:
            how = {"options": OPTIONS, "checkpoint": own, "seed": 3, "states": states}
            fit = by_method.fit_by_method("pas", solver, denoise, noise, SIGMAS, **how)
            fit_jobs.write_fit(path, fit, {})

    run(tmp_path / "whole.json")
    with pytest.raises(killing.Killed):
        run(tmp_path / "killed.json", killed)
    run(tmp_path / "killed.json")
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    read = jobs.fitted(solver, SIGMAS, json.loads((tmp_path / "whole.json").read_text()))
    assert read.directions == BASIS
    assert read.sample(mixture.denoise, mixture.latents(4, 0)).isfinite().all()


def test_an_exported_fit_has_the_basis_to_the_bit(tmp_path):
    fit = dode.distill(
        solvers.create("ipndm"), mixture.denoise, mixture.latents(80, 7), SIGMAS, fit="pas", options=OPTIONS
    )
    record = {
        **{"format": "dode sampler", "version": 4, "nfe": 6, "software": {}, "citation": []},
        **{"solver": {"name": "ipndm", "options": {}}, "grid": {"name": "karras", "options": {"end": "sigma_min"}}},
        **{"sigmas": SIGMAS.tolist(), "lambdas": fit.student.lambdas.tolist(), "directions": BASIS.said()},
        "model": {"card": "c", "sha256": None, "prediction": "data", "image_shape": [1, 4, 4]},
    }
    loaded, noise = dode.load(record), mixture.latents(5, 1)
    expected = fit.student.sample(mixture.denoise, noise)
    assert torch.equal(loaded.sample(mixture.denoise, noise), expected)
    end, points = driven(loaded.evaluations(noise), mixture.denoise)
    assert len(points) == 6
    assert torch.equal(end, expected)
    with pytest.raises(ValueError, match="version: 4 is of results with afs, or a basis of slopes; this is of 1"):
        dode.load({**record, "lambdas": None, "directions": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 5}, "components must be at most 4, not 5"),
        ({"loss": "LPIPS"}, "loss must be 'L1' or 'L2', not 'LPIPS'"),
        ({"tau": -1.0}, "tau must be a finite number of at least 0, not -1.0"),
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    method = learned.fits.get("pas")
    with pytest.raises(ValueError, match=message):
        method.check(200, 5, **options)
    with pytest.raises(ValueError, match="basis of directions must be an integer of at least 0, not -1"):
        Directions(basis=-1)
