"""The states of a few images on their way, as the driver shows them and as they are kept."""

import numpy as np
import pytest
import torch

import dode
from dode import storage
from dode.images import shards, trajectories

LATENTS = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 1, 2, 2)))
GRID = dode.grids.karras(steps=6)


def unit_normal(x, sigma):
    """The denoiser of unit-normal data: x is proportional to sqrt(1 + sigma^2) on the exact trajectory."""
    return x / (1 + sigma**2)


@pytest.mark.parametrize(
    ("name", "options", "levels"),
    [("ddim", {}, 7), ("heun", {}, 7), ("unipc", {"order": 3}, 7), ("pndm", {}, 7), ("dpm-solver", {"order": 2}, 5)],
)
def test_watching_shows_every_step_and_changes_nothing(name, options, levels):
    solver, recorder = dode.solvers.create(name, **options), trajectories.Recorder(4)
    lambdas = 0.01 * torch.arange(solver.nfe(6)) * (torch.arange(solver.nfe(6)) > 0)
    watched = dode.sample(solver, unit_normal, LATENTS, GRID, lambdas=lambdas, watch=recorder)
    assert watched.equal(dode.sample(solver, unit_normal, LATENTS, GRID, lambdas=lambdas))
    rows = recorder.rows()
    assert rows["sigmas"].shape == (4, levels)
    assert set(rows["sigmas"][0]) <= set(GRID.tolist())
    assert (rows["sigmas"][:, 0], rows["sigmas"][:, -1]) == (pytest.approx(80.0), pytest.approx(0.0))
    np.testing.assert_array_equal(rows["states"][:, -1], watched[:4].float().numpy())
    np.testing.assert_allclose(rows["states"][:, 0], 80 * LATENTS[:4].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"), [("ddim", {}), ("heun", {}), ("ipndm", {}), ("amed", {}), ("dpm-solver", {"order": 2})]
)
def test_an_analytic_first_step_is_shown_too(name, options):
    """From the first level on, though the first evaluation of the network is at a later state, or an inner one."""
    solver, recorder = dode.solvers.create(name, **options), trajectories.Recorder(4)
    sigmas = dode.grids.karras(steps=6, afs=True)
    dode.sample(solver, unit_normal, LATENTS, sigmas, watch=recorder)
    rows = recorder.rows()
    without = trajectories.Recorder(4)
    dode.sample(solver, unit_normal, LATENTS, GRID, watch=without)
    assert recorder.sigmas == pytest.approx(without.sigmas)
    np.testing.assert_allclose(rows["states"][:, 0], 80 * LATENTS[:4].numpy(), rtol=1e-6)


def test_states_of_a_fine_run_are_those_of_the_exact_solution(tmp_path):
    recorder = trajectories.Recorder(2)
    grid = dode.grids.karras(steps=200)
    dode.sample(dode.solvers.create("heun"), unit_normal, LATENTS, grid, watch=recorder)
    storage.write_array(tmp_path / "states.npy", recorder.rows())
    sigmas, states = trajectories.read(tmp_path / "states.npy")
    np.testing.assert_array_equal(sigmas, grid.numpy())
    exact = 80 * LATENTS[:2, None].numpy() * np.sqrt((1 + sigmas**2) / (1 + 80**2))[:, None, None, None]
    np.testing.assert_allclose(states, exact, rtol=1e-3)


def test_batches_and_shards_without_kept_images_put_together(tmp_path):
    """Four images in batches of three, and a shard that has none of them but the noise levels."""
    plan = shards.Plan(images=6, seeds=2, trajectory_images=1)
    counts = [plan.recorded(block, indices) for block, indices in plan.batches(0, 1, 3)]
    assert counts == [3, 1, 0, 0]
    assert [plan.recorded(0, range(start, start + 1)) for start in range(6)] == [1, 1, 1, 1, 0, 0]
    parts = []
    for number, count in enumerate([3, 1, 0]):
        recorder = trajectories.Recorder(count)
        start = 0 if count == 0 else 3 * number
        dode.sample(dode.solvers.create("ddim"), unit_normal, LATENTS[start : start + 3], GRID, watch=recorder)
        parts.append(tmp_path / f"{number}.npy")
        storage.write_array(parts[-1], recorder.rows())
    storage.gather_arrays(parts, tmp_path / "states.npy")
    sigmas, states = trajectories.read(tmp_path / "states.npy")
    assert sigmas.tolist() == GRID.tolist()
    np.testing.assert_allclose(states[:, 0], 80 * LATENTS[:4].numpy(), rtol=1e-6)
