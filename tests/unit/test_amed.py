"""AMED and its plugins: against the authors' code, its training, and what cannot be done with levels by image."""

import itertools
import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dode
import killing
import sampler_records
from dode import calls, driver, grids, sampling, solvers
from dode.benchmark import learning_jobs, preparing
from dode.distillation import learned, task, teacher
from dode.distillation.backprop import amed as training
from dode.models import mixture
from dode.models.batches import Batches
from dode.models.guidance import ClassifierFree
from dode.models.networks import networks
from dode.models.predictions import DataPrediction
from dode.solvers import amed
from dode.solvers.bottleneck import Bottleneck

NOISE = mixture.latents(2, 0)
LEVELS = torch.as_tensor(grids.karras(steps=4), dtype=torch.float64)[:-1]  # three steps, which end above 0
# The order of the authors' parameters by name.
PUBLISHED = {
    "enter": ((128, 16), 0),
    "code": ((4, 128), 2),
    "share": ((1, 20), 4),
    "direction": ((1, 20), 6),
    "time": ((1, 20), 8),
    "levels": ((8, 8), 10),
}


def wave(shape, k):
    return (torch.sin(torch.arange(math.prod(shape)).double() * (1.1 + 0.1 * k) + k) * 0.5).view(shape)


def tensors(inputs=16):
    """The same numbers for both codes: 0.5 sin(j (1.1 + k / 10) + k) for entry j of the k-th parameter."""
    found = {}
    for name, (shape, k) in PUBLISHED.items():
        shape = (128, inputs) if name == "enter" else shape
        found[f"{name}.bias"], found[f"{name}.weight"] = wave(shape[:1], k), wave(shape, k + 1)
    for part in ("weight", "bias"):
        found[f"heads.{part}"] = torch.cat([found.pop(f"{name}.{part}") for name in ("share", "direction", "time")])
    return found | {"scales": torch.tensor([0.01, 0.2]).double()}


class Toy:
    """The exact toy as a network with a bottleneck of 8x8 pixels."""

    def __init__(self):
        self.network = self
        self.bottleneck = nn.Identity()

    def __call__(self, x, sigma):
        denoised = mixture.denoise(x, sigma)
        self.bottleneck(denoised.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return denoised


@pytest.fixture
def prepared(tmp_path):
    def write(found):
        save_file(found, tmp_path / "amed.safetensors")
        return str(tmp_path / "amed.safetensors")

    return write


# What amed_sampler, dpm_2_sampler and ipndm_sampler (max_order 4) of zju-pi/diff-sampler (commit 68d5ce4), run in
# float64 on the exact toy with the numbers above, scale_dir 0.01, scale_time 0.2 and its schedule 'polynomial', rho 7,
# from 80 to 0.002, give for the noise above: entries [:, 0, ::3, 1]. Its network's input is the denoiser's output.
@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("amed", [-0.895375705, -0.909624508, -0.864800027, -0.452947362]),
        ("dpm-solver", [-1.6197911, -1.158175296, -1.049262195, -0.562548205]),
        ("ipndm", [-0.184313395, -0.420811631, -0.238239628, -0.350923272]),
    ],
)
def test_end_states_are_those_of_the_authors_code(prepared, base, expected):
    solver = solvers.create("amed", base=base, prepared=prepared(tensors()))
    end = dode.sample(solver, mixture.denoise, NOISE, LEVELS)
    torch.testing.assert_close(end[:, 0, ::3, 1].flatten(), torch.tensor(expected).double(), rtol=0, atol=1e-6)
    assert solver.nfe(3, end=LEVELS[-1]) == solver.depth(3, end=LEVELS[-1]) == 6


def test_images_choose_their_levels(prepared):
    solver = solvers.create("amed", prepared=prepared(tensors()))
    run = driver.steps(solver, mixture.denoise, mixture.latents(8, 1), LEVELS)
    middles = []
    while True:
        try:
            step = next(run)
        except StopIteration:
            break
        if step.proposal.stage:
            middles.append(step.proposal.sigma.flatten())
    for middle, (high, low) in zip(middles, itertools.pairwise(LEVELS.tolist()), strict=True):
        assert ((middle < high) & (middle > low)).all()
        assert len(set(middle.tolist())) == 8


def test_without_a_network_it_is_the_midpoint_method():
    solver, sigmas = solvers.create("amed"), grids.karras(steps=3)
    assert [solver.nfe(3), solver.nfe(3, end=1.0)] == [5, 6]
    levels = [float(step.sigma) for step in driver.steps(solver, mixture.denoise, NOISE, sigmas)]
    expected = [80, math.sqrt(80 * sigmas[1]), sigmas[1], math.sqrt(sigmas[1] * sigmas[2]), sigmas[2]]
    assert levels == pytest.approx([float(level) for level in expected])


def test_the_bottleneck_is_what_the_networks_lowest_level_puts_out():
    toy, x, sigma = Toy(), NOISE, torch.tensor(3.0).double()
    with Bottleneck(toy) as bottleneck:
        bottleneck(x, torch.tensor(9.0).double())
        denoised = bottleneck(x, sigma)
        found = bottleneck.features(denoised, 64)
        with pytest.raises(ValueError, match="the bottleneck has 64 means, but what is prepared is for 16"):
            bottleneck.features(denoised, 16)
    expected = mixture.denoise(x, sigma).repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(1)
    torch.testing.assert_close(found, expected)
    assert not toy.bottleneck._forward_hooks


def test_features_of_many_pixels_are_averaged_and_without_a_network_those_of_the_estimate():
    with Bottleneck(lambda x, sigma: x) as bottleneck:
        image = torch.arange(2 * 3 * 16 * 16).double().view(2, 3, 16, 16)
        found = bottleneck.features(bottleneck(image, torch.tensor(1.0)))
    expected = image.mean(1).view(2, 8, 2, 8, 2).mean((2, 4)).flatten(1)
    torch.testing.assert_close(found, expected)


class Seen(nn.Module):
    """A network whose bottleneck puts out the images."""

    def __init__(self):
        super().__init__()
        self.bottleneck, self.after = nn.Identity(), lambda x: x

    def forward(self, x):
        return self.after(self.bottleneck(x))


class Parts:
    """A denoiser of :class:`Seen`, in batches."""

    def __init__(self, network, size=None):
        self.network, self.batches = network, Batches(size)

    def __call__(self, x, sigma):
        return self.batches.map(self.network, x)


EIGHT = torch.arange(1.0, 9.0).view(8, 1, 1, 1).expand(8, 1, 8, 8)


def in_place(network):
    network.compile(backend="eager")
    return network


# The preparation looks at one image, goes through the teacher without looking, and then looks at all in the student.
@pytest.mark.parametrize("compiled", [lambda network: torch.compile(network, backend="eager"), in_place])
def test_the_bottleneck_of_a_compiled_network_is_seen_whatever_ran_before(compiled):
    torch.compiler.reset()
    denoise = Parts(compiled(Seen()))
    with Bottleneck(denoise) as bottleneck:
        assert bottleneck.features(bottleneck(EIGHT[:1], LEVELS[0])).shape == (1, 64)
    for _ in range(2):
        denoise(EIGHT, LEVELS[0])
        with Bottleneck(denoise) as bottleneck:
            found = bottleneck.features(bottleneck(EIGHT, LEVELS[0]), 64)
        torch.testing.assert_close(found[:, 0], EIGHT[:, 0, 0, 0])


def edm_network(**options):
    torch.manual_seed(0)
    network = networks.create("edm-song-unet", **EDM, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def test_amed_prepares_and_samples_the_same_on_a_compiled_network(prepared):
    plain = edm_network()
    noise, sigmas = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)), grids.karras(steps=2)
    found = []
    for network in (plain, torch.compile(plain, backend="eager")):
        denoise = DataPrediction(network, sigma_data=0.5)
        learnt = learned.preparations.get("amed")(
            task.Task(solvers.create("amed"), denoise, noise, sigmas), iterations=2
        )
        solver = solvers.create("amed", prepared=prepared(learnt))
        found.append(learnt | {"end": dode.sample(solver, denoise, noise, sigmas)})
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_bottleneck_that_does_not_run_is_refused():
    network = Seen()
    network.forward = lambda x: x
    with (
        Bottleneck(Parts(network)) as bottleneck,
        pytest.raises(ValueError, match="bottleneck, Identity, put something out for 0 images in an evaluation of 8"),
    ):
        bottleneck.features(bottleneck(EIGHT, LEVELS[0]), 64)


def test_parts_that_ran_before_memory_ran_out_do_not_count():
    network = Seen()
    denoise = Parts(network, 4)

    def fails_once(x):
        if len(x) == 4 and float(x[0, 0, 0, 0]) > 4:
            raise RuntimeError("CUDA out of memory")
        return x

    network.after = fails_once
    with Bottleneck(denoise) as bottleneck:
        found = bottleneck.features(bottleneck(EIGHT, LEVELS[0]), 64)
    assert denoise.batches.size == 2
    torch.testing.assert_close(found[:, 0], EIGHT[:, 0, 0, 0])
    assert not denoise.batches.beside


SMALL = {"image_size": 8, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}
EDM = {
    "image_shape": (3, 8, 8),
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_blocks": 2,
    "attn_resolutions": (4,),
}
HUB = {
    "sample_size": 8,
    "block_out_channels": [32, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
SDE = {"image_shape": (3, 8, 8), "nf": 16, "ch_mult": (1, 2), "num_res_blocks": 2, "attn_resolutions": (4,)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ddpm-unet", SMALL),
        ("adm-unet", SMALL),
        ("edm-song-unet", EDM),
        ("edm-dhariwal-unet", EDM | {"head_width": 16}),
        ("edm2-unet", EDM | {"head_width": 16}),
        ("score-sde-ncsnpp", SDE),
        ("score-sde-ncsnpp", SDE | {"attn_resolutions": ()}),
        ("score-sde-ddpm", SDE | {"nf": 32}),
        ("diffusers-unet2d", {"config": HUB}),
    ],
)
def test_every_unet_says_where_its_bottleneck_is(name, options):
    network = networks.create(name, **options).eval()
    denoise = DataPrediction(network, sigma_data=0.5, batch_size=2)
    x, sigma = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(2.0).double()
    with Bottleneck(denoise) as bottleneck, torch.no_grad():
        if name in ("ddpm-unet", "adm-unet", "diffusers-unet2d"):
            network(x, torch.tensor(2.0))
            seen = torch.cat(bottleneck.seen)
        else:
            bottleneck.features(bottleneck(x, sigma), 16)
            seen = torch.cat(bottleneck.seen)
    assert seen.shape[0] == 3
    assert seen.shape[2:] == (4, 4)
    assert seen.std() > 0


def test_the_bottleneck_is_read_in_training_and_sampling_alike_whatever_the_batches(prepared):
    network = edm_network()
    noise, sigmas = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)), grids.karras(steps=2)
    ends = []
    for batch_size in (None, 2):
        denoise = DataPrediction(network, sigma_data=0.5, batch_size=batch_size)
        own = task.Task(solvers.create("amed"), denoise, noise, sigmas)
        found = learned.preparations.get("amed")(own, iterations=2, batch=3)
        assert found["enter.weight"].shape == (128, 16)
        solver = solvers.create("amed", prepared=prepared(found))
        ends.append(dode.sample(solver, denoise, noise, sigmas))
        assert not network.bottleneck._forward_hooks
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="the bottleneck has 16 means, but what is prepared is for 64"):
        dode.sample(solvers.create("amed", prepared=prepared(tensors(64))), denoise, noise, sigmas)


def test_guidance_counts_with_the_bottleneck_of_the_conditional_images():
    network = edm_network(label_dim=3)
    denoise = DataPrediction(network, sigma_data=0.5, classes=3).conditioned([0, 1, 2])
    x, sigma = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor(2.0).double()
    found = []
    for own in (denoise, ClassifierFree(denoise, scale=2.0)):
        with Bottleneck(own) as bottleneck:
            found.append(bottleneck.features(bottleneck(x, sigma)))
    torch.testing.assert_close(*found)


def made(nfe=5, images=40, base="amed", **more):
    solver = solvers.create("amed", base=base)
    grid = grids.karras(steps=solver.steps(nfe))
    return task.Task(solver, mixture.denoise, mixture.latents(images, 3).float(), grid, seed=4, **more)


HOW = {"iterations": 6, "batch": 16}


# The authors' loss and loop (training/loss.py, training_loop.py of the same commit) in the same way: what three batches
# of 16 images of the toy make of the numbers above, by Adam with rate 0.005.
@pytest.mark.parametrize(
    ("base", "options", "share", "enter", "levels"),
    [
        (
            "amed",
            {},
            [-0.48599933, 0.218991658, 0.426472748, -0.322422373],
            [0.007844112, -0.292513379, 0.459841344, -0.486632663],
            [-0.263708221, -0.208740008],
        ),
        (
            "dpm-solver",
            {},
            [-0.487101374, 0.212581467, 0.425302391, -0.323706359],
            [0.009544972, -0.291868296, 0.46424103, -0.480999232],
            [-0.264093593, -0.208997415],
        ),
        (
            "ipndm",
            {"teacher": "ipndm", "substeps": 3, "scale_time": 0.2},
            [-0.468217653, 0.213188709, 0.416263224, -0.336421447],
            [-0.011682705, -0.299502583, 0.490825789, -0.46823413],
            [-0.278515633, -0.22283206],
        ),
    ],
)
def test_a_training_is_that_of_the_authors(monkeypatch, base, options, share, enter, levels):
    scales = {"scales": torch.tensor([0.01, options.get("scale_time", 0.0)]).double()}
    monkeypatch.setattr(training, "begun", lambda *_: tensors() | scales)
    own = task.Task(solvers.create("amed", base=base), mixture.denoise, mixture.latents(48, 3), LEVELS)
    found = learned.preparations.get("amed")(own, iterations=3, batch=16, **options)
    for name, every, expected in (("enter.bias", 32, enter), ("levels.bias", 4, levels)):
        torch.testing.assert_close(found[name][::every], torch.tensor(expected).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["heads.weight"][0, ::5], torch.tensor(share).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("base", amed.BASES)
def test_it_learns_to_end_steps_where_the_teacher_does(prepared, base):
    own = made(base=base)
    found = learned.preparations.get("amed")(own, iterations=40, batch=20)
    noise, solver = mixture.latents(64, 9), solvers.create("amed", base=base, prepared=prepared(found))
    first = own.sigmas[:2]
    pairing = training.followed(own.sigmas, "heun", 2)
    target = dict(teacher.trajectory(pairing, mixture.denoise, noise))[float(first[1])]
    errors = [
        mixture.rmse(dode.sample(each, mixture.denoise, noise, first), target)
        for each in (solver, solvers.create("amed", base=base))
    ]
    assert errors[0] < 0.95 * errors[1]


def test_the_prepared_network_has_the_authors_size(prepared):
    found = learned.preparations.get("amed")(made(), **HOW)
    assert sum(tensor.numel() for name, tensor in found.items() if name != "scales") == sum(
        math.prod(shape) + shape[0] for shape, _ in PUBLISHED.values()
    )
    assert not any(tensor.requires_grad for tensor in found.values())


def test_it_costs_at_most_what_it_says():
    for nfe in (5, 7):
        own = made(nfe)
        learned.preparations.get("amed")(own, **HOW)
        expense = learned.preparations.get("amed").expense(40, nfe, **HOW)
        steps, seen = (nfe - 1) // 2, 16 + 16 + 8 + 16 + 16 + 8
        assert own.meter.gradients == seen * steps
        # The teacher, two evaluations in each step of half the size, and the one to 0; the student but for that one.
        assert own.meter.evaluations == 1 + seen * (4 * steps + 1 + 2 * steps)
        assert own.meter.gradients <= expense.gradients
        assert own.meter.evaluations <= expense.evaluations < 1.6 * own.meter.evaluations


@pytest.mark.parametrize(("base", "writes"), [("amed", 1), ("ipndm", 5)])
def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch, base, writes):
    monkeypatch.setattr(task, "EVERY", 0.0)

    def run(name):
        path = str(tmp_path / name)
        with learning_jobs.checkpoint(path, {}) as own:
            found = learned.preparations.get("amed")(made(base=base, checkpoint=own), **HOW)
            preparing.write_prepared(path, found, own.meter, {})
        return (tmp_path / name).read_bytes()

    whole = run("whole.safetensors")
    killing.after_writes(monkeypatch, writes)
    with pytest.raises(killing.Killed):
        run("killed.safetensors")
    assert run("killed.safetensors") == whole
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    assert json.loads(header["__metadata__"]["dode"])["cost"]["gradients"] == 80 * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 0}, "iterations must be an integer of at least 1, not 0"),
        ({"learning_rate": -1.0}, r"learning_rate must be a number above 0, not -1\.0"),
        ({"scale_dir": 1.0}, r"scale_dir must be a number of at least 0 and below 1, not 1\.0"),
        ({"teacher": "dpm-solver"}, "solver 'dpm-solver' cannot be a teacher"),
        ({"teacher": "amed"}, "solver 'amed' cannot be a teacher: its noise levels depend on the image"),
    ],
)
def test_what_cannot_be_learnt_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        learned.preparations.get("amed").check(40, 5, **options)


def test_a_loss_that_is_not_finite_ends_the_training():
    own = made()
    own.denoise = lambda x, sigma: mixture.denoise(x, sigma) * (1e200 if sigma.ndim else 1)
    with pytest.raises(calls.NonFiniteError, match="amed: the loss is inf; a lower learning_rate may help"):
        training.train(own, training.followed(own.sigmas, "heun", 2), (0.01, 0.0), **HOW, learning_rate=1e-3)


@pytest.mark.parametrize("fit", ["joint", "greedy"])
def test_it_is_not_fitted_besides(fit):
    with pytest.raises(ValueError, match="solver 'amed' chooses its noise levels by image, so it has no list of them"):
        dode.distill(solvers.create("amed"), mixture.denoise, mixture.latents(64, 1), grids.karras(steps=3), fit=fit)


def test_it_is_no_file_and_no_scheduler():
    how = {"version": 1, "grid": "karras", "own": {"lambdas": None, "directions": None}}
    model = {"prediction": "data", "sigma_min": 0.002, "sigma_max": 80.0}
    sigmas = torch.as_tensor(grids.karras(steps=3), dtype=torch.float64)
    record = sampler_records.of("amed", {}, 5, sigmas=sigmas, model=model, shape=(1, 4, 4), **how)
    with pytest.raises(ValueError, match="solver 'amed' chooses its noise levels by image, so it has no list of them"):
        dode.load(record)
    with pytest.raises(ValueError, match="solver 'amed' chooses its noise levels by image"):
        next(sampling.evaluations(solvers.create("amed"), NOISE, sigmas))


# The same of both codes with an analytic first slope, for which the network is given zeros, and a bottleneck of 8x8.
@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("amed", [-1.399606345, -0.619780295, -0.844125909, -0.302238705]),
        ("ipndm", [-0.27533622, -0.491472599, -0.325808704, -0.391694886]),
    ],
)
def test_a_first_slope_may_be_analytic(prepared, base, expected):
    sigmas = grids.karras(steps=3, afs=True, end="sigma_min")
    solver = solvers.create("amed", base=base, prepared=prepared(tensors(64)))
    end = dode.sample(solver, Toy(), NOISE, sigmas)
    torch.testing.assert_close(end[:, 0, ::3, 1].flatten(), torch.tensor(expected).double(), rtol=0, atol=1e-6)
    student = sampling.Student(solver, sigmas)
    assert student.nfe == student.depth == 5


def test_a_training_with_an_analytic_first_slope_counts_what_it_evaluates():
    own = made()
    own.solver, own.sigmas = own.solver.with_afs(), grids.karras(steps=3, afs=True, end="sigma_min")
    found = learned.preparations.get("amed")(own, **HOW)
    assert own.nfe == 5
    # Of the teacher two in each step of half the size.
    assert own.meter.evaluations == 1 + 80 * (4 * 3 + 5)
    assert own.meter.gradients == 80 * 3
    assert found["enter.weight"].shape == (128, 16)
