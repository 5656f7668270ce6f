"""Methods of others by name: what they are given, what they cost, and that a killed one ends in the same numbers."""

import json

import pytest
import torch

import dode
import killing
from dode import sampling
from dode.benchmark import fit_jobs, jobs, learning_jobs
from dode.distillation import by_method, fine_solution, learned
from dode.distillation.task import Checkpoint, Task
from dode.models import mixture

NFE, IMAGES, ROUNDS = 4, 24, 6
SIGMAS = torch.as_tensor(dode.grids.karras(steps=NFE), dtype=torch.float64)


def stretch(task, *, rounds=ROUNDS, killed=None):
    """The grid of the best of random powers of its levels: a method that draws, evaluates and can be interrupted."""
    state = task.checkpoint.read() or {"step": 0, "best": 1.0, "error": float("inf"), "generator": None}
    generator = task.generator()
    if state["generator"] is not None:
        generator.set_state(state["generator"])
    while state["step"] < rounds:
        power = float(torch.rand((), generator=generator)) + 0.5
        levels = task.sigmas.clone()
        levels[:-1] = levels[0] * (levels[:-1] / levels[0]) ** power
        error = float((sampling.sample(task.solver, task.denoise, task.latents, levels) - task.ends).square().mean())
        if error < state["error"]:
            state |= {"best": power, "error": error}
        state |= {"step": state["step"] + 1, "generator": generator.get_state()}
        task.checkpoint.write(state)
        if state["step"] == killed:
            raise killing.Killed
    levels = task.sigmas.clone()
    levels[:-1] = levels[0] * (levels[:-1] / levels[0]) ** state["best"]
    return sampling.Student(task.solver, levels)


@pytest.fixture(autouse=True)
def method(monkeypatch):
    """The method ``stretch`` among the registered ones."""
    monkeypatch.setattr(learned.fits, "_functions", dict(learned.fits._functions))
    monkeypatch.setitem(learned.fits.modules, "stretch", __name__)

    def check(images, nfe, *, rounds, killed):
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {rounds}")

    expense = lambda images, nfe, *, rounds, killed: learned.Expense(images * nfe * rounds)  # noqa: E731
    learned.fit("stretch", source="here", expense=expense, check=check)(stretch)
    yield learned.fits.get("stretch")
    del learned.fits.modules["stretch"]


def given():
    latents = mixture.latents(IMAGES, 0)
    return dode.solvers.create("ddim"), mixture.denoise, latents, SIGMAS


def exact():
    return fine_solution.fine_ends(*given()[1:])


def test_a_method_is_a_fit_by_its_name_and_its_cost_is_counted(method):
    fit = dode.distill(*given(), fit="stretch", seed=3)
    assert (fit.family, fit.cost.evaluations, fit.cost.gradients) == ("stretch", ROUNDS * IMAGES * NFE, 0)
    assert method.expense(IMAGES, NFE).work == fit.cost.evaluations
    plain = dode.sample(*given())
    fitted = dode.sample(*given(), lambdas=fit)
    assert (fitted - exact()).square().mean() < (plain - exact()).square().mean()
    with pytest.raises(ValueError, match="the coefficients alone are no solver"):
        fit.lambdas  # noqa: B018


def test_the_seed_decides_what_is_drawn_and_nothing_else_does():
    levels = [dode.distill(*given(), fit="stretch", seed=seed).student.sigmas for seed in (3, 3, 4)]
    assert torch.equal(levels[0], levels[1])
    assert not torch.equal(levels[0], levels[2])


def test_what_is_asked_for_in_vain_is_refused_before_any_evaluation():
    solver, _, latents, sigmas = given()

    def never(x, sigma):
        raise AssertionError("the network was called")

    for options, message in [
        ({"options": {"round": 3}}, "fit 'stretch': unknown option .round..*did you mean .rounds."),
        ({"options": {"rounds": 0}}, "rounds must be at least 1, not 0"),
        ({"directions": 2}, "directions: a fit 'stretch' has no such option"),
        ({"substeps": 3}, "substeps: a fit 'stretch' has no such option"),
        ({"budget": 10**6}, "budget: a fit 'stretch' has no such option"),
    ]:
        with pytest.raises(ValueError, match=message):
            dode.distill(solver, never, latents, sigmas, fit="stretch", ends=latents, **options)
    for name, option, value, says in [
        ("ect", "rate", -1e-3, "a number above 0"),
        ("ect", "rate", None, "a finite number"),
        ("progressive-distillation", "iterations", 2.5, "a whole number"),
        ("consistency-distillation", "batch", True, "a whole number"),
        ("amed", "teacher", ["heun"], "a name"),
        ("ect", "spread", -1.0, "is no standard deviation"),
    ]:
        with pytest.raises(ValueError, match=f"{option}.* {says}"):
            learned.preparations.get(name).check(300, 2, **{option: value})
    with pytest.raises(ValueError, match="averaging must be a decay from 0 to below 1, not 2"):
        learned.fits.get("gs").check(300, 2, averaging=2)
    with pytest.raises(ValueError, match=r"fit must be one of 'joint', .*did you mean 'stretch'"):
        dode.distill(solver, never, latents, sigmas, fit="strech")
    with pytest.raises(ValueError, match="options: a fit 'greedy' has no such option"):
        dode.distill(solver, never, latents, sigmas, fit="greedy", options={})


def run(path, made, killed=None):
    solver, denoise, latents, sigmas = given()
    with learning_jobs.checkpoint(path, made) as own:
        how = {"options": {"killed": killed}, "checkpoint": own, "seed": 3, "ends": exact()}
        fit = by_method.fit_by_method("stretch", solver, denoise, latents, sigmas, **how)
        fit_jobs.write_fit(path, fit, made)


@pytest.mark.parametrize("killed", [1, ROUNDS - 1, ROUNDS])
def test_a_killed_method_goes_on_and_ends_in_the_same_bytes(tmp_path, killed):
    run(tmp_path / "whole.json", {})
    with pytest.raises(killing.Killed):
        run(tmp_path / "killed.json", {}, killed)
    assert (tmp_path / "killed.json.checkpoint").exists()
    run(tmp_path / "killed.json", {})
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not (tmp_path / "killed.json.checkpoint").exists()


def test_what_another_fit_has_left_is_passed_over(tmp_path):
    with pytest.raises(killing.Killed):
        run(tmp_path / "fit.json", {"seed": 1}, 2)
    run(tmp_path / "fit.json", {"seed": 2})
    assert json.loads((tmp_path / "fit.json").read_text())["cost"]["evaluations"] == ROUNDS * IMAGES * NFE


@pytest.mark.parametrize("damage", ["empty", "short", "cut", "flipped", "other"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog, damage):
    run(tmp_path / "whole.json", {})
    with pytest.raises(killing.Killed):
        run(tmp_path / "fit.json", {}, 2)
    path = tmp_path / "fit.json.checkpoint"
    content = path.read_bytes()
    flipped = bytes([*content[:-300], content[-300] ^ 1, *content[-299:]])
    path.write_bytes(
        {"empty": b"", "short": b"a", "cut": content[:-40], "flipped": flipped, "other": b"{}" * 99}[damage]
    )
    run(tmp_path / "fit.json", {})
    assert f"{path} is damaged, or of another version; beginning anew" in caplog.text
    assert (tmp_path / "fit.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_fit_by_a_method_is_read_with_its_levels(tmp_path):
    run(tmp_path / "fit.json", {})
    values = json.loads((tmp_path / "fit.json").read_text())
    student = jobs.fitted(given()[0], SIGMAS, values)
    assert student.sigmas.tolist() == values["levels"] != SIGMAS.tolist()
    assert student.lambdas is None


def test_gradients_are_counted_where_they_flow():
    task = Task(*given())
    x = task.latents.clone().requires_grad_()
    task.denoise(x, torch.tensor(1.0)).sum().backward()
    with torch.no_grad():
        task.denoise(x, torch.tensor(1.0))
    assert (task.meter.evaluations, task.meter.gradients) == (2 * IMAGES, IMAGES)


def test_a_checkpoint_without_a_place_keeps_nothing():
    own = Checkpoint()
    own.write({"step": 1})
    assert own.read() is None
    assert not own.due
