"""Fits by back-propagation: their forms against public code, their gradients, their training, and its restart."""

import itertools
import math

import numpy as np
import pytest
import torch

import dode
import killing
import trained_reference as reference
from dode import grids, solvers
from dode.distillation import learned
from dode.distillation.backprop import ld3, runs, training
from dode.distillation.backprop.bns import BespokeNonStationary
from dode.distillation.backprop.dyweight import DyWeight
from dode.distillation.backprop.gs import GeneralizedSolver
from dode.distillation.backprop.levels import FreeLevels, differentiated
from dode.distillation.backprop.s4s import Multistep
from dode.distillation.fit_checks import CHECKED
from dode.distillation.linear_form import LinearForm, linear_form
from dode.distillation.task import Checkpoint, Task
from dode.grids.facts import ModelFacts, flow_prior, vp_prior
from dode.grids.schedules import FlowSchedule
from dode.models import mixture
from dode.sampling import Student
from dode.solvers.ipndm import ADAMS_BASHFORTH

FACTS = ModelFacts(sigma_min=0.002, sigma_max=80.0)
SHORT = {
    "gs": {"iterations": 12, "batch": 8},
    "s4s": {"iterations": 12, "batch": 8, "alternations": 2},
    "bns": {"iterations": 12, "batch": 8},
    "dyweight": {"iterations": 12, "batch": 8, "held_out": 0.25},
    "ld3": {"rounds": 1, "told_rounds": 2, "batch": 4},
}


def pixels(x):
    return x.flatten(1)[:3, :3]


def close(x, expected, **how):
    torch.testing.assert_close(pixels(x), torch.tensor(expected, dtype=torch.float64), rtol=0, **{"atol": 1e-6, **how})


def levels_of(steps, **options):
    return torch.tensor(grids.karras(steps=steps, **options).tolist(), dtype=torch.float64)


def task(count=24, solver="ipndm", steps=4, *, denoise=mixture.denoise, **options):
    latents, ends = mixture.latents(count, 5), mixture.exact(count, 5)
    return Task(solvers.create(solver), denoise, latents, levels_of(steps), ends, **options)


def fitted(name, own, **options):
    return learned.fits.get(name)(own, **{**SHORT[name], **options})


def numbers(student):
    """All that a student is made of."""
    told = [] if student.told is None else torch.as_tensor(student.told).tolist()
    return student.solver.options, torch.as_tensor(student.sigmas).tolist(), told


def gs_of(count, generator):
    """The form of GS with the numbers that the reference was given, which has arrays of a lag for all steps."""
    parameters = GeneralizedSolver(count, FACTS, 80.0, 0.002)
    theta, xi = generator.normal(size=count - 1) * 0.2, generator.normal(size=count) * 0.01
    lags = [(generator.normal(size=count) * 0.05, generator.normal(size=count) * 0.05) for _ in range(count)]
    of_steps = [[each[kind][step] for each in lags[: step + 1]] for step in range(count) for kind in (0, 1)]
    z = [parameters.start[: count - 1].numpy() + theta, xi, *of_steps]
    return parameters, torch.from_numpy(np.concatenate(z))


def in_vp(x, sigma):
    return mixture.denoise(x, sigma)


in_vp.prior_std = vp_prior


@pytest.mark.parametrize("count", reference.GS)
def test_gs_ends_where_its_authors_code_ends(count):
    parameters, z = gs_of(count, np.random.default_rng(count))
    parameters.facts = ModelFacts.of(in_vp)
    latents = mixture.latents(4, 7)
    close(parameters.student(parameters.start).sample(in_vp, latents), reference.GS[count]["begin"])
    close(parameters.student(z).sample(in_vp, latents), reference.GS[count]["random"])


def test_gs_is_trained_as_by_its_authors_code():
    """The same numbers after twenty iterations on the same images."""
    latents, ends = mixture.latents(16, 9), mixture.exact(16, 9, 80.0, vp_prior(80.0))
    latents[:12], ends[:12] = mixture.latents(12, 9), mixture.exact(12, 9, 80.0, vp_prior(80.0))
    own = Task(solvers.create("ddim"), in_vp, latents, levels_of(3), ends)
    pairs = runs.Pairs(own, loss="l2", held_out=0.25)
    parameters = GeneralizedSolver(3, pairs.facts, 80.0, 0.002)
    run = training._Training(own, parameters, pairs, 12, 0.0, None)
    errors = []
    for iteration in range(21):
        with torch.no_grad():
            errors.append(float(pairs.losses(pairs.form(parameters.form(run.z)), slice(0, 12)).mean()))
        if iteration < 20:
            run.step(pairs.batch(iteration, 12), 0.0, 1e-3)
    expected = reference.GS_TRAINED
    assert errors[0] == pytest.approx(expected["first"], rel=1e-6)
    assert errors[-1] == pytest.approx(expected["last"], rel=1e-5)
    theta, xi, *corrections = run.z.detach().split(parameters.sizes)
    assert parameters.times(theta).tolist() == pytest.approx(expected["times"], abs=1e-6)
    assert xi.tolist() == pytest.approx(expected["xi"], abs=1e-5)
    assert [float(each[0]) for each in corrections[::2]] == pytest.approx(expected["c1"], abs=1e-5)
    assert [float(each[1]) for each in corrections[2::2]] == pytest.approx(expected["c2"][1:], abs=1e-5)
    assert [float(each[0]) for each in corrections[1::2]] == pytest.approx(expected["a1"], abs=1e-5)


@pytest.mark.parametrize(("count", "analytic"), reference.DYWEIGHT)
def test_dyweight_ends_where_its_authors_code_ends(count, analytic):
    generator, steps = np.random.default_rng(count), count + analytic
    sigmas = levels_of(steps + 1)[:-1]
    orders = [min(step + 1, 3) for step in range(steps)]
    weights = [[value + generator.normal() * 0.05 for value in ADAMS_BASHFORTH[order]] for order in orders]
    factors = 1 + generator.normal(size=count) * 0.05
    parameters = DyWeight(sigmas, FACTS, history=3, analytic=analytic)
    student = parameters.student(torch.tensor([*itertools.chain(*weights), *factors], dtype=torch.float64))
    close(student.sample(mixture.denoise, mixture.latents(4, 7)), reference.DYWEIGHT[count, analytic])


@pytest.mark.parametrize("solver", ["dpm-solver++", "unipc", "ipndm"])
@pytest.mark.parametrize("count", reference.LD3)
def test_ld3_ends_where_its_authors_code_ends(count, solver):
    generator = np.random.default_rng(count)
    theta, deltas = 0.3 * generator.normal(size=count + 1)[1:], 0.05 * generator.normal(size=count + 1)[1:-1]
    options = {"dpm-solver++": {"variant": "3M"}, "unipc": {"variant": "bh1"}}.get(solver, {})
    estimate = "noise" if solver == "ipndm" else "data"
    levels = FreeLevels(80.0, 0.002, count)
    own = ld3.Discretisation(solvers.create(solver, **options), FACTS, levels, within=0.5, estimate=estimate)
    student = own.student(torch.tensor([*theta, *deltas], dtype=torch.float64))
    close(student.sample(mixture.denoise, mixture.latents(4, 7)), reference.LD3[count][solver])


def starts():
    """Each form with a solver that it begins as."""
    sigmas, above = levels_of(5), levels_of(6)[:-1]
    ipndm, third = solvers.create("ipndm"), solvers.create("dpm-solver++", variant="3M")
    uniform = torch.tensor(grids.log_snr(steps=6).tolist()).double()[:-1]
    gs = GeneralizedSolver(5, FACTS, 80.0, 0.002)
    times = gs.time.sigma(gs.times(gs.start[:4]))
    bns = BespokeNonStationary(linear_form(Student(ipndm, sigmas), FACTS), FACTS, 80.0, 0.0)
    short = {"order": 3, "lowest": 0.002}
    return {
        "gs": (gs, Student(third, times), (1 + times[-1] ** 2) ** -0.5),
        "bns": (bns, Student(ipndm, sigmas), 1),
        "s4s": (Multistep(sigmas, FACTS, alternations=0, **short), Student(third, sigmas), 1),
        "s4s-alt": (Multistep(above, FACTS, alternations=1, **short), Student(third, above), 1),
        "dyweight": (DyWeight(above, FACTS, history=4, analytic=False), Student(ipndm, above), 1),
        "ld3": (ld3.Discretisation(ipndm, FACTS, FreeLevels(80.0, 0.002, 5), within=0.5), Student(ipndm, uniform), 1),
    }


@pytest.mark.parametrize("name", ["gs", "bns", "s4s", "s4s-alt", "dyweight", "ld3"])
def test_a_training_begins_as_a_plain_solver(name):
    parameters, plain, factor = starts()[name]
    latents = mixture.latents(5, 1)
    found = parameters.student(parameters.start).sample(mixture.denoise, latents)
    torch.testing.assert_close(found, factor * plain.sample(mixture.denoise, latents), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gs", "bns", "s4s", "s4s-alt", "dyweight", "ld3"])
def test_gradients_are_those_of_small_changes(name):
    parameters = starts()[name][0]
    latents, ends = mixture.latents(6, 1), mixture.exact(6, 1)
    trained = parameters.trained(0.0) if name.startswith("s4s") else None  # the levels of s4s stay where it has none
    generator = torch.Generator().manual_seed(1)
    z = parameters.start + 1e-3 * torch.randn(len(parameters.start), generator=generator, dtype=torch.float64)

    def error(z):
        return (runs.end_states(parameters.form(z), mixture.denoise, latents) - ends).square().mean()

    leaf = z.clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad(error(leaf), leaf)
    for index in range(len(z)) if trained is None else trained.nonzero().flatten().tolist():
        change = torch.zeros_like(z)
        change[index] = 1e-5
        with torch.no_grad():
            slope = float(error(z + change) - error(z - change)) / 2e-5
        assert float(slopes[index]) == pytest.approx(slope, rel=1e-3, abs=1e-4 * float(slopes.abs().max()))


def kept(caplog):
    """The loss of the held-out images that a training logs, and that at first."""
    return [record.args for record in caplog.records if "held-out" in record.getMessage()][-1][-2:]


@pytest.mark.parametrize("name", SHORT)
def test_what_is_kept_is_no_worse_on_held_out_images_than_the_beginning(name, caplog):
    """And samples there with the loss that was judged; LD3 judges them at noise that has moved a little."""
    caplog.set_level("INFO")
    own = task()
    student = fitted(name, own, loss="l2", held_out=0.25)
    best, first = kept(caplog)
    assert best <= first
    x = student.sample(mixture.denoise, own.latents[18:])
    assert float((x - own.ends[18:]).square().mean()) == pytest.approx(best, rel=0.3 if name == "ld3" else 1e-6)


@pytest.mark.parametrize("name", SHORT)
def test_a_training_costs_what_it_is_expected_to(name):
    own = task()
    fitted(name, own)
    expected = learned.fits.get(name).expense(24, 4, **SHORT[name])
    assert (own.meter.evaluations, own.meter.gradients) == tuple(expected)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", SHORT)
def test_no_more_images_are_held_out_at_once_than_fit_in_the_memory_of_an_iteration(name, recompute):
    """An iteration keeps what its evaluations made, four times a batch of 4, or with ``recompute`` that of one."""
    seen = []

    def counting(x, sigma):
        seen.append(len(x))
        return mixture.denoise(x, sigma)

    fitted(name, task(60, denoise=counting), batch=4, held_out=0.8, recompute=recompute)
    assert max(seen) <= max(CHECKED, 4 if recompute else 16)


def test_a_gradient_keeps_each_state_once():
    """What is kept grows as the evaluations, not as their square."""
    evaluations, latents, kept = 16, mixture.latents(4, 1), {}
    student = Student(solvers.create("ipndm"), levels_of(evaluations))
    coefficients = linear_form(student, FACTS).coefficients.requires_grad_(True)
    form = LinearForm(coefficients, torch.as_tensor(student.sigmas[:-1].tolist()))

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        end = runs.end_states(form, lambda x, sigma: 2 * x / (1 + sigma**2), latents)
    states = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / latents.nbytes
    assert states < 2 * evaluations + 2
    (found,) = torch.autograd.grad(end.square().sum(), coefficients)
    assert bool(found[-1].all())


class Often(Checkpoint):
    """Writes after every iteration, and dies after so many."""

    due = True

    def __init__(self, path, left=math.inf):
        super().__init__(path)
        self.left = left

    def write(self, state):
        super().write(state)
        self.left -= 1
        if not self.left:
            raise killing.Killed


@pytest.mark.parametrize("name", SHORT)
def test_a_training_that_is_killed_goes_on_to_the_same_numbers(name, tmp_path):
    whole = task()
    expected = numbers(fitted(name, whole))
    for left in (1, 5, 3, math.inf):
        own = task(checkpoint=Often(tmp_path / "checkpoint", left))
        try:
            found = fitted(name, own)
        except killing.Killed:
            continue
    assert numbers(found) == expected
    assert (own.meter.evaluations, own.meter.gradients) == (whole.meter.evaluations, whole.meter.gradients)


@pytest.mark.parametrize("name", SHORT)
def test_the_seed_decides(name):
    one, again, other = (numbers(fitted(name, task(seed=seed))) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize(
    ("denoise", "what"),
    [
        (torch.no_grad()(lambda x, sigma: x / (1 + sigma**2)), "images"),
        (lambda x, sigma: x / (1 + float(sigma.detach()) ** 2), "noise level"),
    ],
    ids=["no_grad", "float"],
)
def test_a_model_without_gradients_is_refused(name, denoise, what):
    options = {"rounds": 0} if name == "ld3" else {}
    with pytest.raises(ValueError, match=f"gradients must flow through the model, to its (images|{what}), but this"):
        fitted(name, task(denoise=denoise), **options)


def bound(offsets):
    """A denoiser bound to images, each of which is seen with an offset of its own."""

    class Bound:
        def __call__(self, x, sigma):
            assert len(x) == len(offsets)
            return mixture.denoise(x - offsets, sigma) + offsets

        def for_images(self, start, stop):
            return bound(offsets[start:stop])

    return Bound()


@pytest.mark.parametrize("name", SHORT)
def test_each_image_meets_its_own_condition(name):
    """Offsets move states and end states alike where noise counts for little, so a fit finds the same numbers."""
    offsets = 1e-3 * torch.arange(24, dtype=torch.float64).view(-1, 1, 1, 1)
    plain, own = task(), task(denoise=bound(offsets))
    own.ends = own.ends + offsets
    found = fitted(name, own).sample(bound(offsets[:4]), own.latents[:4]) - offsets[:4]
    torch.testing.assert_close(found, fitted(name, plain).sample(mixture.denoise, plain.latents[:4]), rtol=0, atol=0.05)


def test_a_model_that_knows_some_levels_is_told_those():
    table = np.geomspace(80, 0.002, 400)

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.round_sigma = lambda sigmas: table[np.abs(np.log(np.asarray(sigmas)[..., None] / table)).argmin(-1)]
    for name in SHORT:
        student = fitted(name, task(denoise=denoise))
        assert set(student.evaluated_levels()) <= set(table.tolist()), name


def test_batches_are_whole_and_each_image_comes_once_in_an_epoch():
    pairs = runs.Pairs(task(), loss="l2", held_out=0.25)
    assert pairs.fitted == 18
    epochs = [[pairs.batch(3 * epoch + index, 5) for index in range(3)] for epoch in range(8)]
    for parts in epochs:
        images = [image for part in parts for image in range(part.start, part.stop)]
        assert len(set(images)) == 15
        assert set(images) <= set(range(18))
    assert len({tuple(part.start for part in parts) for parts in epochs}) > 4


def test_noise_stays_in_its_ball():
    latents = mixture.latents(3, 1)
    soft = runs.Soft(latents, 0.5)
    step = torch.ones_like(latents) * torch.tensor([0.01, 1.0, 0.0]).view(-1, 1, 1, 1).double()
    soft.noise[:] = soft.moved(slice(0, 3), step)
    away = torch.linalg.vector_norm((soft.noise - latents).flatten(1), dim=1)
    assert away.tolist() == pytest.approx([0.04, 0.5, 0.0])


def test_numbers_become_differentiable_by_the_levels():
    sigmas = torch.tensor([8.0, 2.0, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    (found,) = differentiated(lambda levels: ((levels**2).sum(),), sigmas)
    (slopes,) = torch.autograd.grad(found, sigmas)
    assert slopes.tolist() == pytest.approx([0.0, 4.0, 1.0, 0.0], rel=1e-6)


@pytest.mark.parametrize("variable", ["log-snr", "time"])
@pytest.mark.parametrize("to_zero", [False, True])
def test_free_levels_descend_and_begin_where_they_are_told(variable, to_zero):
    own = levels_of(5, sigma_min=0.05) if to_zero else levels_of(6, sigma_min=0.05)[:-1]
    levels = FreeLevels(80.0, 0.02 if to_zero else 0.05, 5, variable=variable, to_zero=to_zero, like=own)
    torch.testing.assert_close(levels.sigmas(levels.start), own, rtol=2e-2, atol=0)
    moved = levels.sigmas(torch.tensor([5.0, -5.0, 0.0, 3.0, -3.0], dtype=torch.float64))
    assert bool((moved.diff() < 0).all())
    assert (float(moved[0]), float(moved[-1])) == (80.0, 0.0 if to_zero else 0.05)


def test_from_pure_noise_all_begin_where_there_is_an_image():
    """Flow matching, whose levels are infinite in log-SNR: at least half of them show something."""

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.facts = ModelFacts("flow", schedule=FlowSchedule(1000), prior_std=flow_prior)
    sigmas = torch.tensor(grids.for_model(denoise, "flow-linear", 5).tolist(), dtype=torch.float64)
    latents = mixture.latents(24, 5)
    for name in SHORT:
        own = Task(solvers.create("ipndm"), denoise, latents, sigmas, mixture.exact(24, 5))
        if name == "dyweight":
            with pytest.raises(ValueError, match="dyweight weighs slopes in sigma, which pure noise has none of"):
                fitted(name, own)
            continue
        student = fitted(name, own)
        levels = student.evaluated_levels()
        assert sum(level < 20 for level in levels) >= 3, name
        assert bool(student.sample(denoise, latents).isfinite().all()), name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gs", {"iterations": 0}, "iterations must be an integer of at least 1, not 0"),
        ("bns", {"loss": "l3"}, r"loss must be one of 'l2', 'l1', 'log', or a function, not 'l3' \(did"),
        ("gs", {"held_out": 1.0}, "held_out must be a share above 0 and below 1, not 1.0"),
        ("s4s", {"order": 0}, "order must be an integer of at least 1, not 0"),
        ("dyweight", {"history": 5}, "history must be an integer from 1 to 4, not 5"),
        ("ld3", {"variable": "t"}, "variable must be one of 'log-snr', 'time', not 't'"),
        ("ld3", {"within": 0.7}, "within must be a share from 0 to 0.5, not 0.7"),
        ("ld3", {"learning_rate": 0.0}, "learning_rate must be a number above 0, not 0.0"),
    ],
)
def test_bad_options_are_refused_before_any_work(name, options, message):
    with pytest.raises(ValueError, match=message):
        learned.fits.get(name).check(24, 4, **options)


@pytest.mark.parametrize("name", ["s4s", "dyweight"])
@pytest.mark.parametrize(
    ("solver", "steps", "end"),
    [
        (solvers.create("heun"), 3, 0.0),
        (solvers.create("heun"), 1, 0.002),
        (solvers.create("heun").with_afs(), 2, 0.002),
        (solvers.create("ipndm").with_afs(), 3, 0.0),
    ],
)
def test_forms_of_one_evaluation_per_step_refuse_others(name, solver, steps, end):
    options = {"afs": False} if name == "dyweight" else {}
    with pytest.raises(ValueError, match=f"fit '{name}'.* makes one evaluation in each of {steps} steps, but"):
        learned.fits.get(name).check_solver(solver, learned.Span(steps, end), **options)


def test_one_step_of_heun_above_0_makes_two_evaluations_and_is_no_fit_of_one():
    how = {"afs": False, "iterations": 2}
    sigmas = grids.karras(steps=1, end="sigma_min")
    with pytest.raises(ValueError, match=r"one evaluation in each of 1 steps, but create\('heun'\) makes 2"):
        dode.distill(
            solvers.create("heun"), mixture.denoise, mixture.latents(24, 5), sigmas, fit="dyweight", options=how
        )


def test_a_fit_of_another_number_of_evaluations_is_none(monkeypatch):
    monkeypatch.setattr(learned.Learned, "__call__", lambda _, own, **options: Student(own.solver, levels_of(2)))
    with pytest.raises(RuntimeError, match="fit 'gs' made a solver of 2 evaluations, not of 4"):
        dode.distill(solvers.create("ddim"), mixture.denoise, mixture.latents(24, 5), levels_of(4), fit="gs")


@pytest.mark.parametrize("name", ["gs", "bns", "dyweight", "ld3"])
def test_a_grid_with_an_analytic_first_step_is_taken(name, caplog):
    caplog.set_level("INFO")
    sigmas = grids.karras(steps=5, afs=True)
    latents, ends = mixture.latents(24, 5), mixture.exact(24, 5)
    how = {"fit": name, "options": {**SHORT[name], "loss": "l2", "held_out": 0.25}, "ends": ends}
    fit = dode.distill(solvers.create("ipndm"), mixture.denoise, latents, sigmas, **how)
    assert fit.student.nfe == 4
    x = dode.sample(solvers.create("ipndm"), mixture.denoise, latents[18:], sigmas, lambdas=fit)
    best = kept(caplog)[0]
    assert float((x - ends[18:]).square().mean()) == pytest.approx(best, rel=0.3 if name == "ld3" else 1e-6)


def test_ld3_takes_a_solver_with_stages():
    own = task(solver="heun", steps=3)
    student = fitted("ld3", own)
    assert student.nfe == own.nfe == 5
    assert float(student.sigmas[-1]) == 0


def test_a_loss_may_be_a_function():
    calls = []

    def loss(x, target):
        calls.append(x.shape)
        return (x - target).square().mean((1, 2, 3), keepdim=True)

    student = fitted("bns", task(), loss=loss, iterations=2)
    assert calls[1] == (8, 1, 4, 4)
    assert student.nfe == 4


def test_more_memory_or_computing_again_is_the_same():
    plain, again = (numbers(fitted("gs", task(), recompute=recompute)) for recompute in (False, True))
    assert plain == again


def test_the_library_trains_by_name():
    sigmas = grids.karras(steps=4)
    fit = dode.distill(
        solvers.create("ddim"), mixture.denoise, mixture.latents(24, 5), sigmas, fit="bns", options=SHORT["bns"]
    )
    assert fit.family == "bns"
    assert fit.cost.gradients == 12 * 8 * 4
    x = dode.sample(solvers.create("ddim"), mixture.denoise, mixture.latents(3, 8), sigmas, lambdas=fit)
    assert bool(x.isfinite().all())
