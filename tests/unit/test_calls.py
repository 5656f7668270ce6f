"""What a caller may do in good faith with networks and noise: right, or refused in one sentence."""

import functools
import types

import numpy as np
import pytest
import torch

import dode
import test_portable
import variants
from dode import calls, grids, models, sampling, solvers
from dode.distillation import search
from dode.grids import schedules
from inside_out import driven

DDIM, KARRAS = solvers.create("ddim"), grids.karras(steps=6)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def right(x, sigma):
    """Whose values are the same whether or not they are computed in place."""
    return x / (1 + sigma**2)


def in_place(x, sigma):
    """Writes over the state and over its noise level."""
    x.div_(1 + sigma**2)
    sigma.fill_(7.0)
    return x


class Reusing:
    """Returns the same memory at every call, as compiled graphs do; it is overwritten before each call as well."""

    def __init__(self):
        self.buffers = {}

    def __call__(self, x, sigma):
        buffer = self.buffers.setdefault((x.shape, x.dtype), torch.empty_like(x))
        buffer.fill_(1e30 if x.dtype == torch.float64 else 3e4)
        return buffer.copy_(right(x, sigma))


def noise(images=6, dtype=torch.float64, seed=0):
    return torch.randn(images, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


BAD = pytest.mark.parametrize("bad", [lambda: in_place, Reusing], ids=["in place", "one buffer"])


@BAD
@pytest.mark.parametrize("variant", variants.DEFAULTS, ids=variants.label)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampling_shares_no_memory_with_the_network(bad, variant, dtype):
    solver, latents, levels = solvers.create(variant[0]), noise(dtype=dtype), KARRAS.clone()
    lambdas = torch.linspace(-0.2, 0.3, solver.nfe(6))
    for how in ({}, {"lambdas": lambdas}):
        expected = dode.sample(solver, right, latents, levels, **how)
        assert torch.equal(dode.sample(solver, bad(), latents, levels, **how), expected)
        if not solver.per_image:
            assert torch.equal(driven(sampling.evaluations(solver, latents, levels, **how), bad())[0], expected)
    assert torch.equal(latents, noise(dtype=dtype))
    assert torch.equal(levels, KARRAS.clone())


@functools.cache
def fitted(denoise, dtype, how, latents=None):
    """A fit to a model, of noise of its own by default; to the same model once."""
    latents, how = noise(40, dtype) if latents is None else latents, dict(how)
    budget = {"budget": 6_000} if how["fit"] == "joint" else {}
    return dode.distill(solvers.create("ipndm"), denoise, latents, [20.0, 3.0, 0.5, 0.0], **how, **budget)


@BAD
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "how",
    [
        {"fit": "greedy"},
        {"fit": "greedy", "directions": 3, "alignment": "local"},
        {"fit": "refined", "directions": 2},
        *({"fit": "joint", "family": family} for family in ("lambda", "directions", "levels", "told", "general")),
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_every_kind_of_fit_shares_no_memory_with_the_network(bad, dtype, how):
    """The same numbers to the bit: in float32 a joint fit keeps outputs in the network's own type."""
    latents = noise(40, dtype)
    expected, found = fitted(right, dtype, tuple(how.items())), fitted.__wrapped__(bad(), dtype, how, latents)
    ends = [sampling.Student.sample(fit.student, right, latents) for fit in (expected, found)]
    assert expected.family == found.family
    assert torch.equal(*ends)
    assert torch.equal(latents, noise(40, dtype))


@BAD
def test_the_search_for_a_grid_shares_no_memory_with_the_network(bad):
    expected, found = (search.search(denoise, noise(), KARRAS, 3) for denoise in (right, bad()))
    assert expected.tolist() == found.tolist()


@BAD
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_exported_result_shares_no_memory_with_the_network(bad, dtype):
    sampler, latents = dode.load(test_portable.good.__wrapped__()), noise(dtype=dtype)
    expected = sampler.sample(right, latents)
    assert torch.equal(sampler.sample(bad(), latents), expected)
    assert torch.equal(driven(sampler.evaluations(latents), bad())[0], expected)


class Network(torch.nn.Module):
    """Writes over its input, or returns one buffer; a network behind one of this package's denoisers."""

    def __init__(self, bad=None):
        super().__init__()
        self.weight, self.bad = torch.nn.Parameter(torch.ones(1)), bad

    def forward(self, x, time=None, condition=None):
        time = time if condition is None else condition
        return right(x, time / 1000) if self.bad is None else self.bad(x, time / 1000)


@BAD
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(
    "behind",
    [
        lambda network, size: models.DataPrediction(network, sigma_data=0.5, batch_size=size),
        lambda network, size: models.NoisePrediction(
            network, schedule=schedules.schedules.create("linear"), batch_size=size
        ),
    ],
)
def test_a_network_behind_a_denoiser_may_do_so_too(bad, batch_size, behind):
    expected, found = (
        dode.sample(DDIM, behind(Network(own), batch_size), noise(dtype=torch.float32), KARRAS) for own in (None, bad())
    )
    assert torch.equal(found, expected)


def test_watching_may_paint_too():
    expected = dode.sample(DDIM, right, noise(), KARRAS)
    assert torch.equal(
        dode.sample(DDIM, right, noise(), KARRAS, watch=lambda sigma, x: x.fill_(sigma.zero_())), expected
    )


class Output(dict):
    """As of diffusers: a dictionary whose values are attributes too."""


PLAIN = {
    "a tuple": lambda out: (out,),
    "a list": lambda out: [out],
    "an output object": lambda out: Output(sample=out),
    "with what was left out": lambda out: Output(sample=out, other=None),
    "an array": lambda out: out.numpy(),
    "an array in a tuple": lambda out: (out.numpy(),),
}
UNCLEAR = {
    "nothing": (lambda out: None, "not NoneType"),
    "two": (lambda out: (out, out), "not tuple of 2"),
    "none": (lambda out: (), "not tuple of 0"),
    "two names": (lambda out: {"sample": out, "variance": out}, "not dict with 'sample', 'variance'"),
    "integers": (lambda out: out.long(), "not Tensor of int64"),
    "integers of NumPy": (lambda out: out.numpy().astype(int), "not ndarray of int64"),
    "objects": (lambda out: np.array([object()]), "not ndarray of object"),
    "a number": (lambda out: 3.0, "not float"),
    "complex": (lambda out: out + 0j, "not Tensor of complex128"),
    "something else": (lambda out: types.SimpleNamespace(sample=out), "not SimpleNamespace"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_outputs_whose_meaning_is_plain_are_taken(kind):
    def denoise(x, sigma):
        return PLAIN[kind](right(x, sigma))

    assert torch.equal(dode.sample(DDIM, denoise, noise(), KARRAS), dode.sample(DDIM, right, noise(), KARRAS))
    fits = (dode.distill(DDIM, each, noise(40), [9.0, 1.0, 0.0], budget=9_000) for each in (right, denoise))
    assert torch.equal(*(dode.sample(DDIM, right, noise(), [9.0, 1.0, 0.0], lambdas=fit) for fit in fits))


@pytest.mark.parametrize("kind", UNCLEAR)
def test_outputs_whose_meaning_is_not_plain_are_one_sentence(kind):
    made, told = UNCLEAR[kind]
    for run in (dode.sample, dode.distill):
        with pytest.raises(ValueError, match=f"the network must return one floating-point tensor, {told}"):
            run(DDIM, lambda x, sigma: made(right(x, sigma)), noise(40), KARRAS)


@pytest.mark.parametrize("behind", [models.DataPrediction, models.NoisePrediction])
def test_outputs_of_a_network_behind_a_denoiser_are_taken_alike(behind):
    options = {"sigma_data": 0.5} if behind is models.DataPrediction else {}
    options = options or {"schedule": schedules.schedules.create("linear")}
    network = Network(lambda x, time: Output(sample=right(x, time)))
    expected = dode.sample(DDIM, behind(Network(), **options), noise(), KARRAS)
    assert torch.equal(dode.sample(DDIM, behind(network, **options), noise(), KARRAS), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_latents_keep_their_type_and_the_network_is_called_in_it(dtype):
    seen = set()

    def seeing(x, sigma):
        seen.add(x.dtype)
        return right(x, sigma)

    found = dode.sample(DDIM, seeing, noise(dtype=dtype), KARRAS)
    assert found.dtype == dtype
    assert seen == {dtype}
    exact = dode.sample(DDIM, right, noise(dtype=dtype).double(), KARRAS)
    torch.testing.assert_close(found.double(), exact, rtol=4 * torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_numpy_are_latents_too(dtype):
    latents = noise(40).numpy().astype(dtype)
    tensors, levels = torch.from_numpy(latents), [9.0, 1.0, 0.0]
    assert torch.equal(dode.sample(DDIM, right, latents, KARRAS), dode.sample(DDIM, right, tensors, KARRAS))
    sampler = dode.load(test_portable.good.__wrapped__())
    assert torch.equal(sampler.sample(right, latents), sampler.sample(right, tensors))
    assert torch.equal(next(sampler.evaluations(latents)).x, next(sampler.evaluations(tensors)).x)
    if dtype != np.float16:  # in which the network is too rough for a joint fit
        ends = np.zeros_like(latents)
        fits = (dode.distill(DDIM, right, each, levels, ends=ends, budget=9_000) for each in (latents, tensors))
        assert torch.equal(*(fit.student.sample(right, tensors) for fit in fits))


def test_arrays_that_torch_does_not_take_as_they_are():
    latents = noise().numpy()
    expected = dode.sample(DDIM, right, latents, KARRAS)
    fixed = latents.copy()
    fixed.flags.writeable = False
    for array in (latents.astype(">f8"), latents[::-1].copy()[::-1], fixed):
        assert torch.equal(dode.sample(DDIM, right, array, KARRAS), expected)


def test_ends_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"ends of shape \(3, 1, 2, 2\) do not match latents of shape \(40, 1, 2, 2\)"):
        dode.distill(DDIM, right, noise(40), [9.0, 1.0, 0.0], ends=noise(3))


def runs_with(latents, sampler):
    """Every way to begin with noise of one's own."""
    return (
        lambda: dode.sample(DDIM, right, latents, KARRAS),
        lambda: dode.distill(DDIM, right, latents, KARRAS),
        lambda: next(sampling.evaluations(DDIM, latents, KARRAS)),
        lambda: sampler.sample(right, latents),
        lambda: next(sampler.evaluations(latents)),
    )


@pytest.mark.parametrize(
    ("latents", "told"),
    [
        (np.ones((2, 1, 2, 2), dtype=np.longdouble), "not ndarray of float(128|96)"),
        (torch.ones(2, 1, 2, 2, dtype=torch.int64), "not Tensor of int64"),
        (torch.ones(2, 1, 2, 2, dtype=torch.uint8), "not Tensor of uint8"),
        (torch.ones(2, 1, 2, 2, dtype=torch.bool), "not Tensor of bool"),
        (torch.ones(2, 1, 2, 2, dtype=torch.complex64), "not Tensor of complex64"),
        (np.ones((2, 1, 2, 2), dtype=np.int32), "not ndarray of int32"),
        (np.array([["a"]]), "an array of floating-point numbers, not ndarray of <U1"),
        ([[1.0]], "not list of 1"),
        (None, "not NoneType"),
        (torch.ones(2, 1, 2, 2).to_sparse(), "not sparse Tensor of float32"),
        (np.ma.masked_greater(np.ones((2, 1, 2, 2)), 0), "not MaskedArray of float64"),
        (torch.ones(4), r"of shape \(B, C, H, W\), one entry per image, not \(4,\)"),
        (torch.tensor(1.0), r"not \(\)"),
    ],
)
def test_what_is_no_noise_is_refused(latents, told):
    sampler = dode.load(test_portable.good.__wrapped__())
    for run in runs_with(latents, sampler):
        with pytest.raises(ValueError, match=f"latents must be .*{told}"):
            run()


def large(images=16, seed=0):
    return torch.randn(images, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("latents", "size"),
    [
        (large() * 80, "8?[0-9]"),
        (large(1) * 80, "8?[0-9]"),
        (noise(1) * 80, "[0-9]+"),
        (large() * 2, r"(1\.9|2)"),
        (large() / 80, r"0\.012"),
        (torch.rand(200, 1, 8, 8), r"0\.5"),
        ((large() * 50 + 128).clamp(0, 255), "1"),
    ],
)
def test_noise_that_was_scaled_already_is_refused(latents, size):
    sampler = dode.load({**test_portable.good.__wrapped__(), "lambdas": None, "directions": None})
    for run in runs_with(latents, sampler):
        with pytest.raises(ValueError, match=rf"latents: their standard deviation must be 1, not {size}"):
            run()


def test_unit_normal_noise_is_not_refused_and_neither_is_what_resembles_it():
    generator = torch.Generator().manual_seed(0)
    for count in (4, 16, 64, 3072):
        for _ in range(3_000):
            calls.check_unit(torch.randn(1, count, generator=generator))
    calls.check_unit(0.8 * large())  # a lower temperature
    calls.check_unit(torch.zeros(2, 1, 2, 2))
    calls.check_unit(torch.zeros(0, 1, 2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_noise_that_is_not_finite_is_refused(value):
    latents = noise()
    latents[3, 0, 1, 1] = value
    with pytest.raises(ValueError, match="latents: they contain NaN or infinity"):
        dode.sample(DDIM, right, latents, KARRAS)


@pytest.mark.parametrize(
    "levels",
    [
        torch.arange(999, -1, -1),
        [999, 799, 599, 399, 199],
        np.linspace(999, 0, 6),
        np.linspace(999, 0, 7).round(),  # whole, and so not quite even
        [981, 961, 941, 921, 901],
        [999, 851, 640, 399, 131, 0],  # as Karras et al. space them
        np.linspace(999**0.5, 0, 6).round() ** 2,
        [150.0, 100.0, 50.0, 0.0],
    ],
)
def test_timesteps_in_the_place_of_noise_levels_are_refused(levels):
    for run in (
        lambda: dode.sample(DDIM, right, noise(), levels),
        lambda: dode.distill(DDIM, right, noise(40), levels),
        lambda: next(sampling.evaluations(DDIM, noise(), levels)),
    ):
        with pytest.raises(ValueError, match=r"sigmas: \d+, .* are timesteps and not noise levels"):
            run()
    sigmas = [float(level) for level in levels if level > 0]
    with pytest.raises(ValueError, match="are timesteps and not noise levels"):
        grids.of_model.check("explicit", len(sigmas), models.ModelFacts(), sigmas=sigmas)


def test_whole_noise_levels_are_no_timesteps():
    for levels in ([500, 200, 50, 10, 5, 2, 1, 0], [100, 50, 20, 0], [1000, 100, 10, 1, 0]):
        grids.of_model.check_levels(np.array(levels, dtype=float))


def test_timesteps_that_the_network_is_told_are_refused():
    with pytest.raises(ValueError, match="told: 999, 819, 639, 459, 279, 99 are timesteps and not noise levels"):
        dode.sample(DDIM, right, noise(), KARRAS, told=np.linspace(999, 99, 6))


def test_times_of_flow_matching_are_no_noise_levels():
    """diffusers calls them sigmas."""
    model = models.FlowPrediction(Network(), schedule=schedules.schedules.create("flow"))
    with pytest.raises(ValueError, match="the first, 1, is no noise level to begin with; of the times t of flow"):
        dode.sample(DDIM, model, noise(), np.linspace(1, 0, 6))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"solver": "ddim"}, r"solver: 'ddim' is not allowed; allowed: what dode.solvers.create\(name\) returns"),
        ({"sigmas": "80 5 0"}, "sigmas must be noise levels, numbers, not '80 5 0'"),
        ({"lambdas": "fit.json"}, "lambdas must be a fit, or its coefficients .*, not str; an exported result samples"),
        ({"lambdas": 1j}, "lambdas must be a fit, .* not complex"),
    ],
)
def test_an_argument_of_another_kind_is_one_sentence(changed, says):
    given = {"solver": DDIM, "denoise": right, "latents": noise(), "sigmas": KARRAS}
    for run in (dode.sample, dode.distill) if "solver" in changed or "sigmas" in changed else (dode.sample,):
        with pytest.raises(ValueError, match=says) as caught:
            run(**{**given, **changed})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changed", [{"clip": "yes"}, {"clip": (-1, 1)}, {"fit": "greedy", "stages": "no"}])
def test_a_truth_value_of_a_fit_must_be_one(changed):
    with pytest.raises(ValueError, match=r"(clip|stages) must be True or False, not"):
        dode.distill(DDIM, right, noise(40), KARRAS, **changed)


def test_levels_above_the_models_own_are_refused():
    model = models.NoisePrediction(Network(), schedule=schedules.schedules.create("linear"))
    with pytest.raises(ValueError, match=r"the first, 999, is above 157.407, the highest noise level that the model"):
        dode.sample(DDIM, model, noise(), [999.0, 500.0, 40.0, 0.0])
    with pytest.raises(ValueError, match="sigmas: the first, 999, is above"):
        grids.of_model.check("karras", 3, model.facts, sigma_max=999.0)
    assert dode.sample(DDIM, model, noise(), grids.for_model(model, "karras", 4)).isfinite().all()
    discrete = models.ModelFacts.of_card({**test_portable.IDDPM, "sigma_max": 100.0})
    sigmas = grids.of_model.for_facts(discrete, "karras", 4)
    assert float(sigmas[0]) == pytest.approx(106.94, abs=0.01), "the nearest that it knows"
    grids.of_model.check_levels(sigmas.numpy(), discrete)


@pytest.mark.parametrize("grid", sorted(set(grids.base.families()) - {"released"}))
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_grids_are_no_timesteps(grid, steps):
    grids.of_model.check_levels(grids.base.grids.create(grid, steps=steps).numpy())


def test_numbers_of_numpy_are_options_too():
    made = grids.karras(steps=np.int64(5), sigma_min=np.float32(0.002), sigma_max=np.float16(80), rho=np.int32(7))
    assert made.tolist() == grids.karras(steps=5, sigma_min=float(np.float32(0.002))).tolist()
    with pytest.raises(ValueError, match="sigma_min must be a finite number above 0, not True"):
        grids.karras(steps=5, sigma_min=np.bool_(True))


@pytest.mark.parametrize("lowered", [False, True])
def test_a_network_in_half_precision_says_so_when_it_breaks_down(lowered):
    """Behind a denoiser its states are single, and the network alone is half."""

    class Overflowing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(60_000.0, dtype=torch.float16 if lowered else torch.float32))

        def forward(self, x, index):
            return x * self.weight * 3e38

    model = models.NoisePrediction(Overflowing(), schedule=schedules.schedules.create("linear"))
    told = r"16 images at evaluation 1 of 2 \(noise level 80, timestep 929\.618\)" + (
        "; float16 has no numbers above 65504: bfloat16 or float32 helps$" if lowered else "$"
    )
    with pytest.raises(calls.NonFiniteError, match=told):
        dode.sample(DDIM, model, large(), [80.0, 1.0, 0.0])
