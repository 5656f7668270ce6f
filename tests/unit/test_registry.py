"""What the registry of solvers knows and refuses: names, options, numbers of evaluations, teachers."""

import re

import pytest
import torch

import variants
from dode import driver, grids, solvers
from dode.registry import Registry
from dode.solvers import base

NAMES = solvers.names()
every_solver = pytest.mark.parametrize("name", NAMES)
every_variant = pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)


def elementwise(x, sigma):
    """A nonlinear denoiser whose value at a pixel depends on that pixel alone."""
    return x / (1 + sigma**2 + x * x)


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry of solvers, to which a test can add its own."""
    monkeypatch.setattr(base, "_methods", dict(base._methods))


@every_solver
def test_steps_inverts_nfe(name):
    solver = solvers.create(name)
    for steps in range(1, 31):
        assert solver.steps(solver.nfe(steps)) == steps


@every_solver
def test_impossible_nfe_is_refused_with_the_nearest_possible(name):
    solver = solvers.create(name)
    possible = {solver.nfe(steps) for steps in range(1, 40)}
    for nfe in set(range(0, 30)) - possible:
        around = [
            n for n in (max({p for p in possible if p < nfe}, default=None), min(possible - set(range(nfe)))) if n
        ]
        with pytest.raises(
            ValueError, match=rf"'{re.escape(name)}' cannot make {nfe} evaluations.*: {' or '.join(map(str, around))}$"
        ):
            solver.steps(nfe)


def test_heun_refuses_ten_evaluations_and_names_nine_and_eleven():
    with pytest.raises(ValueError, match=r"cannot make 10 evaluations; the nearest possible: 9 or 11$"):
        solvers.create("heun").steps(nfe=10)


def test_unknown_solver_lists_the_known_with_a_suggestion():
    with pytest.raises(ValueError, match=r"unknown solver 'huen' \(did you mean 'heun'\?\); known: .*ddim.*heun"):
        solvers.create("huen")


def test_unknown_option_lists_the_known_with_a_suggestion(registry):
    @base.solver("optional", order=lambda *, order, **_: order, evaluations=lambda steps, *, order, **_: order * steps)
    def optional(denoise, x, sigmas, *, order=2, spacing="log"):
        yield from ()

    with pytest.raises(ValueError, match=r"'ordr' \(did you mean 'order'\?\); known: order, spacing$"):
        solvers.create("optional", ordr=3)
    solver = solvers.create("optional", order=3)
    assert solver.options == {"order": 3, "spacing": "log"}
    assert (solver.order, solver.nfe(4)) == (3, 12)
    assert solver.teacher is solver


def test_value_of_an_option_that_is_not_a_choice_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"solver 'ipndm': order must be one of 1, 2, 3, 4, not 5$"):
        solvers.create("ipndm", order=5)
    with pytest.raises(ValueError, match=r"'unipc': variant must be one of bh1, bh2, not 'bh3'$"):
        solvers.create("unipc", variant="bh3")
    with pytest.raises(ValueError, match=r"'deis': option 'order' must be a finite number, not True$"):
        solvers.create("deis", order=True)


@every_solver
def test_every_solver_refuses_an_option_that_it_does_not_have(name):
    with pytest.raises(ValueError, match=f"solver '{re.escape(name)}': unknown option 'no_such_option'"):
        solvers.create(name, no_such_option=1)


@every_variant
def test_every_teacher_can_stop_at_every_level(variant):
    """A teacher ends a step at each level of its grid, whose states are the targets."""
    name, options = variant
    solver, sigmas = solvers.create(name, **options).teacher, grids.karras(steps=7)
    stepper = driver.steps(solver, elementwise, torch.ones(1, 1, 2, 2), sigmas)
    ends = []
    driver.drive(stepper, lambda step: ends.append(float(step.proposal.sigma)) if not step.proposal.stage else None)
    assert ends == sigmas[1:].tolist()


def test_multistep_methods_teach_themselves_with_their_options_and_others_learn_from_heun():
    solver = solvers.create("deis", order=1, variable="log-sigma")
    assert solver.teacher is solver
    for name in ("ddim", "heun", "dpm-solver"):
        assert solvers.create(name).teacher.name == "heun"
    assert solvers.create("dpm-solver++", variant="2S").teacher.name == "heun"
    assert solvers.create("dpm-solver++", variant="2M").teacher.name == "dpm-solver++"


def test_a_name_is_registered_once(registry):
    with pytest.raises(ValueError, match="'ddim' is registered twice"):
        base.solver("ddim", order=1)(lambda denoise, x, sigmas: None)


@pytest.mark.parametrize("value", ["high", True, float("nan"), [1.0]])
def test_a_number_among_options_must_be_one(value):
    registry = Registry("thing")

    @registry.register("mine")
    def mine(*, theta=1, variant="a"):
        return theta

    assert registry.create("mine", theta=0.5, variant=None) == 0.5
    with pytest.raises(ValueError, match=r"^thing 'mine': option 'theta' must be a finite number, not "):
        registry.create("mine", theta=value)


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None])
def test_a_truth_value_among_options_must_be_one(value):
    """The text "no" is true in Python."""
    registry = Registry("thing")
    registry.register("mine")(lambda *, flips=False: flips)
    assert registry.create("mine", flips=True)
    with pytest.raises(ValueError, match=r"^thing 'mine': option 'flips' must be true or false, not "):
        registry.create("mine", flips=value)
