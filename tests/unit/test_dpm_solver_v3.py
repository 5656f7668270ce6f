"""DPM-Solver-v3 against its public code with the same statistics, and how these are measured."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import dode
import killing
from dode import driver, grids, sampling, solvers
from dode.benchmark import learning_jobs, preparing
from dode.distillation import learned
from dode.distillation.preparations import dpm_solver_v3
from dode.distillation.task import Task
from dode.models import mixture
from inside_out import driven

LEVELS = torch.as_tensor(grids.karras(steps=5, end="sigma_min"), dtype=torch.float64)


def task(noises=96, seed=0, **options):
    solver = solvers.create("dpm-solver-v3")
    sigmas = LEVELS.as_subclass(torch.Tensor)
    return Task(solver, mixture.denoise, mixture.latents(noises, 5), sigmas, seed=seed, **options)


def made_up(path, count=60):
    """Statistics in closed form, of images (1, 4, 4)."""
    places = torch.linspace(-np.log(80.0), -np.log(0.002), count + 1, dtype=torch.float64)
    pixel = torch.linspace(0, 1, 16, dtype=torch.float64).view(1, 1, 4, 4)
    u = places.view(-1, 1, 1, 1)
    tensors = {"log_snr": places, "l": torch.sigmoid(-u) + 0.05 * pixel, "s": 0.3 * torch.cos(u + pixel)}
    tensors["b"] = 0.1 * torch.sin(u) * torch.exp(-(u**2) / 20) * (1 + pixel)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


# The first numbers of the end states of `mixture.latents(3, 7)` from 80 to 0.002 in steps equal in log-SNR, with
# `made_up` statistics, by thu-ml/DPM-Solver-v3 (codebases/edm/samplers/dpm_solver_v3.py, fetched in November 2026; its
# tensors of levels in float64): steps, order, corrector, pseudo predictor.
PUBLISHED = [
    (4, 3, True, False, [0.800672506, 0.803233907, 0.258208324]),
    (5, 3, True, False, [0.558271594, -0.518956741, -0.233955582]),
    (6, 3, False, False, [1.05723045, 0.37506469, -0.559237534]),
    (6, 2, True, True, [0.379069574, -0.186667732, -0.850950752]),
    (10, 3, True, False, [0.0562327171, -0.340183601, -1.20592475]),
    (10, 2, False, True, [0.140321191, -0.143950794, -1.17351472]),
]


@pytest.mark.parametrize(("steps", "order", "corrector", "pseudo", "expected"), PUBLISHED)
def test_it_is_the_public_code_with_the_same_statistics(tmp_path, steps, order, corrector, pseudo, expected):
    options = {"order": order, "corrector": corrector, "pseudo_predictor": pseudo}
    solver = solvers.create("dpm-solver-v3", **options, prepared=made_up(tmp_path / "statistics.safetensors"))
    levels = grids.log_snr(steps=steps, end="sigma_min")
    found = dode.sample(solver, mixture.denoise, mixture.latents(3, 7), levels)
    assert found.flatten()[:3].tolist() == pytest.approx(expected, abs=1e-6)


def test_without_statistics_it_is_dpm_solver_plus_plus():
    levels, noise = grids.log_snr(steps=6), mixture.latents(8, 0)
    own = solvers.create("dpm-solver-v3", order=2, corrector=False)
    found = dode.sample(own, mixture.denoise, noise, levels)
    # True derivatives at the newest output: RES, but for lower orders at the end.
    res = [x for _, x in watched(solvers.create("res-multistep"), levels, noise)]
    here = [x for _, x in watched(own, levels, noise)]
    for one, other in zip(res[:-2], here[:-2], strict=True):
        torch.testing.assert_close(one, other)
    assert found.isfinite().all()


def test_its_levels_are_known_whatever_images_were_measured(tmp_path):
    path = tmp_path / "solver.safetensors"
    places = torch.linspace(-5, 7, 101, dtype=torch.float64)
    save_file({"log_snr": places} | {key: torch.zeros(101, 1, 8, 8) for key in "lsb"}, path)
    student = sampling.Student(solvers.create("dpm-solver-v3", prepared=str(path)), dode.grids.karras(steps=5))
    assert student.evaluated_levels() != student.sigmas[:-1].tolist()
    seen = []
    student.sample(lambda x, sigma: seen.append(float(sigma)) or x, torch.randn(2, 1, 8, 8))
    assert student.evaluated_levels() == seen
    assert driver.proposal_levels(student.solver, student.sigmas) == [*seen[1:], 0.0]


@pytest.mark.parametrize("end", ["zero", "sigma_min"])
def test_levels_that_its_statistics_move_are_what_is_evaluated_fitted_and_turned_inside_out(tmp_path, end):
    path = made_up(tmp_path / "statistics.safetensors", count=31)
    solver, noise = solvers.create("dpm-solver-v3", prepared=str(path)), mixture.latents(24, 3)
    sigmas = grids.karras(steps=4, end=end)
    found, points = driven(sampling.evaluations(solver, noise, sigmas), mixture.denoise)
    assert torch.equal(found, dode.sample(solver, mixture.denoise, noise, sigmas))
    assert [float(sigma) for _, sigma in points] == driver.evaluated_levels(solver, sigmas)
    fit = dode.distill(solver, mixture.denoise, noise, sigmas, fit="greedy")
    assert fit.sigmas.tolist() == driver.proposal_levels(solver, sigmas)
    assert (fit.rms_after[1:-1] < fit.rms_before[1:-1]).all()
    for fit in ("joint", "bns"):
        with pytest.raises(ValueError, match=f"'dpm-solver-v3' was prepared for its model; a fit '{fit}' takes other"):
            dode.distill(solver, mixture.denoise, noise, sigmas, fit=fit)


def watched(solver, levels, noise):
    states = []
    dode.sample(solver, mixture.denoise, noise, levels, watch=lambda sigma, x: states.append((float(sigma), x)))
    return states


def test_statistics_are_those_of_a_gaussian_in_closed_form():
    """D = x / (1 + sigma^2): f = sigma eps - l x = 0 with l = sigma^2 / (1 + sigma^2), and nothing more to explain."""

    def denoise(x, sigma):
        return x / (1 + sigma**2)

    sigmas = LEVELS.as_subclass(torch.Tensor)
    own = Task(solvers.create("dpm-solver-v3"), denoise, mixture.latents(64, 0), sigmas)
    found = learned.preparations.get("dpm-solver-v3")(own, levels=40)
    sigma = torch.exp(-found["log_snr"]).view(-1, 1, 1, 1)
    torch.testing.assert_close(found["l"], (sigma**2 / (1 + sigma**2)).expand_as(found["l"]), rtol=1e-6, atol=1e-6)
    assert found["s"].shape == found["b"].shape == (41, 1, 4, 4)


def test_statistics_make_few_steps_better_and_cost_what_is_said(tmp_path):
    own = task()
    method = learned.preparations.get("dpm-solver-v3")
    tensors = method(own, levels=120)
    assert own.meter.evaluations == method.expense(96, 5, levels=120).evaluations
    preparing.write_prepared(tmp_path / "v3.safetensors", tensors, own.meter, {})
    noise, exact = mixture.latents(256, 9), mixture.exact(256, 9)
    for nfe in (5, 6):
        levels = grids.log_snr(steps=nfe, end="sigma_min")
        plain, measured = (
            mixture.rmse(dode.sample(solvers.create("dpm-solver-v3", **given), mixture.denoise, noise, levels), exact)
            for given in ({}, {"prepared": tmp_path / "v3.safetensors"})
        )
        assert measured < 0.7 * plain


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_preparation_ends_in_the_same_bytes(tmp_path, monkeypatch, killed):
    method = learned.preparations.get("dpm-solver-v3")
    monkeypatch.setattr(learning_jobs.Checkpoint, "due", True)

    def run(path):
        with learning_jobs.checkpoint(path, {}) as checkpoint:
            own = task(noises=120, checkpoint=checkpoint)
            preparing.write_prepared(path, method(own, levels=20), own.meter, {})

    run(tmp_path / "whole.safetensors")
    add, calls = dpm_solver_v3._add, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > killed:
            raise killing.Killed
        add(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(dpm_solver_v3, "_add", interrupted)
        with pytest.raises(killing.Killed):
            run(tmp_path / "killed.safetensors")
    run(tmp_path / "killed.safetensors")
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_the_seed_draws_the_probes_alone():
    method = learned.preparations.get("dpm-solver-v3")
    first, again, other = (method(task(seed=seed), levels=20) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["l"], other["l"])


def test_no_two_blocks_of_images_have_the_same_probes_whatever_the_seeds(monkeypatch):
    probes, add = [], dpm_solver_v3._add

    def watched(sums, denoise, noise, sigmas, generator):
        probes.append(torch.randint(0, 2, (64,), generator=generator.clone_state()).tolist())
        add(sums, denoise, noise, sigmas, generator)

    monkeypatch.setattr(dpm_solver_v3, "_add", watched)
    for seed in (0, 50, 2**63 - 1):  # a block of images is 50
        learned.preparations.get("dpm-solver-v3")(task(seed=seed), levels=20)
    assert len({tuple(each) for each in probes}) == len(probes) == 6


def test_its_levels_are_known_without_a_network(tmp_path):
    solver = solvers.create("dpm-solver-v3", prepared=made_up(tmp_path / "statistics.safetensors"))
    levels = driver.evaluated_levels(solver, grids.karras(steps=5))
    assert levels[0] == pytest.approx(80.0)
    assert len(levels) == 5
    assert sorted(levels, reverse=True) == levels


def test_what_cannot_work_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="levels must be an integer of at least 10, twice the evaluations, not 9"):
        learned.preparations.get("dpm-solver-v3").check(200, 5, levels=9)
    path = made_up(tmp_path / "few.safetensors", count=4)
    solver = solvers.create("dpm-solver-v3", prepared=path)
    with pytest.raises(ValueError, match="its 5 prepared noise levels are too few"):
        dode.sample(solver, mixture.denoise, mixture.latents(2, 0), grids.karras(steps=8))
    with pytest.raises(ValueError, match=r"is of images \(1, 4, 4\), not of \(1, 2, 2\)"):
        dode.sample(solver, lambda x, sigma: x, torch.randn(2, 1, 2, 2), grids.karras(steps=2))
    assert load_file(path)["l"].shape == (5, 1, 4, 4)
