"""A result in the place of a pipeline's scheduler makes what dode.sample makes of the same network and noise."""

import copy
import functools
import pickle
import re

import diffusers
import numpy as np
import pytest
import torch

import dode
import sampler_records
from dode import models, portable
from dode.calls import NonFiniteError
from dode.diffusers_scheduler import DodeScheduler
from dode.distillation import released
from dode.grids import schedules

SHAPE = (1, 8, 8)
CLOSE = {"rtol": 0, "atol": 1e-6}
CASES = {
    "ddim": ("ddim", {}, 5),
    "dpm-solver-3 with inner stages": ("dpm-solver", {"order": 3}, 7),
    "heun, two evaluations a step": ("heun", {}, 9),
    "pndm, which evaluates a time twice": ("pndm", {}, 9),
    "unipc, whose state is corrected": ("unipc", {}, 5),
}


def tiny_unet():
    """The smallest network of its kind, with random weights."""
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, **sizes
    )
    return network.eval().requires_grad_(False)


def tiny_pipeline():
    """A pipeline around it."""
    return diffusers.DDPMPipeline(unet=tiny_unet(), scheduler=diffusers.DDPMScheduler())


@pytest.fixture(scope="module")
def unet():
    return tiny_unet().double()


class Network(torch.nn.Module):
    """The contract of dode's noise prediction around the pipeline's network, whatever that predicts."""

    def __init__(self, unet, kind, rounded=False):
        super().__init__()
        self.unet, self.kind, self.rounded = unet, kind, rounded
        self.schedule = schedules.schedules.create("linear")

    def forward(self, x, index):
        output = self.unet(x, index.round() if self.rounded else index).sample
        abar = float(np.exp(self.schedule.log_abar(float(index))))
        alpha, noise = abar**0.5, (1 - abar) ** 0.5
        return {
            "epsilon": lambda: output,
            "v_prediction": lambda: alpha * output + noise * x,
            "sample": lambda: (x - alpha * output) / noise,
        }[self.kind]()


noise = functools.partial(sampler_records.noise, SHAPE)
record = sampler_records.of_noise_model


def stepped(scheduler, network, latents, **options):
    """The loop of every pipeline."""
    scheduler.set_timesteps(**options)
    sample = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        output = network(scheduler.scale_model_input(sample, timestep), timestep)
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("case", CASES)
def test_steps_make_what_the_library_makes(unet, case, kind):
    solver, options, nfe = CASES[case]
    made = record(solver, options, nfe)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler(prediction_type=kind).config, result=made)
    assert len(scheduler.timesteps) == nfe
    found = stepped(scheduler, lambda x, t: unet(x, t).sample, noise(1))
    own = models.NoisePrediction(Network(unet, kind), schedule=schedules.schedules.create("linear"))
    expected = portable.load(made).sample(own, noise(1))
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(
    ("pipeline_of", "scheduler"),
    [(diffusers.DDPMPipeline, diffusers.DDPMScheduler()), (diffusers.DDIMPipeline, diffusers.DDIMScheduler())],
)
@pytest.mark.parametrize("case", ["dpm-solver-3 with inner stages", "heun, two evaluations a step"])
def test_a_pipeline_from_noise_to_images_saved_and_loaded(unet, tmp_path, pipeline_of, scheduler, case):
    """From a small noise level on, where a network that knows nothing ends near images."""
    solver, options, nfe = CASES[case]
    made = record(solver, options, nfe, sigma_max=0.5)
    unet = copy.deepcopy(unet).float()
    pipeline = pipeline_of(unet=unet, scheduler=scheduler)
    pipeline.scheduler = DodeScheduler.from_config(pipeline.scheduler.config, result=made)
    pipeline.set_progress_bar_config(disable=True)
    own = models.NoisePrediction(Network(unet, "epsilon"), schedule=schedules.schedules.create("linear"))
    latents = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(7))
    expected = dode.load(made).sample(own, latents)
    assert (expected.abs() < 1).float().mean() > 0.5
    expected = (expected / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()

    def images(pipeline):
        generator = torch.Generator().manual_seed(7)
        return pipeline(batch_size=2, generator=generator, num_inference_steps=nfe, output_type="np").images

    np.testing.assert_allclose(images(pipeline), expected, **CLOSE)
    np.testing.assert_allclose(images(pipeline), expected, **CLOSE)  # a second run begins anew
    with pytest.raises(ValueError, match=f"num_inference_steps: the result has {nfe} network evaluations, not 50"):
        pipeline(num_inference_steps=50)
    pipeline.save_pretrained(tmp_path / "saved")
    again = pipeline_of.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    if pipeline_of is diffusers.DDIMPipeline:  # it makes every scheduler a DDIMScheduler, which keeps the result
        again.scheduler = DodeScheduler.from_config(again.scheduler.config)
    assert isinstance(again.scheduler, DodeScheduler)
    np.testing.assert_allclose(images(again), expected, **CLOSE)


@pytest.mark.parametrize(
    ("solver", "options"), [("ddim", {}), ("ipndm", {}), ("deis", {"order": 2}), ("dpm-solver", {"order": 3})]
)
def test_a_recipe_of_the_authors_in_its_own_coordinates(unet, solver, options):
    """Another interpolation, another index, an end above the clean image."""
    schedule = schedules.schedules.create("linear")
    own = models.NoisePrediction(Network(unet, "epsilon"), schedule=schedule)
    recipe = released.recipe(solver, options.get("order"), own, 5, 4)
    made = record(solver, options, 5, grid="released") | {"sigmas": recipe.sigmas.tolist()}
    sampler = dode.load(made)
    fitted = {"lambdas": sampler.lambdas, "directions": sampler.directions}
    expected = dode.sample(recipe.student, recipe.bound(own), noise(2), recipe.sigmas, **fitted) * recipe.to_images
    assert torch.equal(sampler.sample(own, noise(2)), expected)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made)
    found = stepped(scheduler, lambda x, t: unet(x, t).sample, noise(2))
    torch.testing.assert_close(found, expected, **CLOSE)
    with pytest.raises(ValueError, match="recipe is for noise prediction, but the model is for data"):
        DodeScheduler(made, sigma_data=0.5)
    if sampler.facts.shift:
        with pytest.raises(ValueError, match=r"a method at\(schedule, shift\)"):
            sampler.sample(Bare(), noise(2))


@pytest.mark.parametrize("solver", ["ddim", "ipndm", "dpm-solver"])
def test_a_recipe_for_a_network_that_rescales_the_index(solver):
    """The pipeline's network is called as that of the card is: here at four times the times of the authors' code."""
    cosine = {"name": "cosine", "steps": 4000}
    facts = models.ModelFacts.of_card({"prediction": "noise", "schedule": cosine, "index_scale": 0.25})
    recipe = released.recipe(solver, 3 if solver == "dpm-solver" else None, facts, 10, 1)
    model = {"schedule": cosine, "index_scale": 0.25}
    made = record(solver, {}, 10, grid="released", **model) | {"sigmas": recipe.sigmas.tolist(), "version": 3}
    config = diffusers.DDPMScheduler(4000, beta_schedule="squaredcos_cap_v2").config
    expected = {"ddim": [3600, 3200], "ipndm": [3998, 3598.1], "dpm-solver": [999.749, 899.774]}[solver]
    scheduler = DodeScheduler.from_config(config, result=made)
    np.testing.assert_allclose(0.25 * scheduler.timesteps[:2].numpy(), expected, atol=1e-3)
    levels, images = torch.tensor(scheduler.levels[1:]), torch.zeros(9, 1, 1, 1)
    noised = scheduler.add_noise(images, images + 1, scheduler.timesteps[1:]).flatten()
    torch.testing.assert_close(noised, levels / (1 + levels**2) ** 0.5, rtol=1e-3, atol=1e-6)
    found = stepped(scheduler, lambda x, t: torch.tanh(0.1 * x + 1e-3 * t), noise(2))
    own = models.NoisePrediction(Times(1, 1).double(), schedule=schedules.schedules.create(**cosine), index_scale=0.25)
    torch.testing.assert_close(found, dode.load(made).sample(own, noise(2)), rtol=1e-6, atol=1e-6)


class Times(torch.nn.Linear):
    """A network that shows at which index it was called."""

    def forward(self, x, index):
        return torch.tanh(0.1 * x + 1e-3 * index)


class Bare:
    prediction = "noise"


def test_a_network_under_edms_preconditioning():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 1, 3, padding=1).double().requires_grad_(False)

    class Conditioned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x, condition):
            return self.network(x) * torch.cos(condition)

    made = record("heun", {}, 5, prediction="data")
    del made["model"]["schedule"]
    config = diffusers.EDMEulerScheduler(sigma_data=0.5).config
    scheduler = DodeScheduler.from_config(config, result=made)
    expected = dode.load(made).sample(models.DataPrediction(Conditioned(), sigma_data=0.5), noise(3))
    torch.testing.assert_close(stepped(scheduler, Conditioned(), noise(3)), expected, **CLOSE)


def test_rounded_timesteps_are_whole_and_leave_the_noise_level(unet):
    made = record("heun", {}, 9)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made, round_timesteps=True)
    assert scheduler.timesteps.dtype == torch.int64
    fractional = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made).timesteps
    assert (fractional - fractional.round()).abs().max() > 0.1
    found = stepped(scheduler, lambda x, t: unet(x, t).sample, noise(4))
    own = models.NoisePrediction(Network(unet, "epsilon", rounded=True), schedule=schedules.schedules.create("linear"))
    torch.testing.assert_close(found, dode.load(made).sample(own, noise(4)), **CLOSE)


def test_guidance_happens_outside(unet):
    """The pipeline runs the network twice and hands over one guided output."""
    made = record("dpm-solver", {"order": 3}, 7)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made)

    def guided(x, t):
        without, given = unet(torch.cat([x, x]), t).sample.chunk(2)
        return without + 3 * (0.5 * given - without)

    class Guided(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet

        def forward(self, x, index):
            return guided(x, index)

    own = models.NoisePrediction(Guided(), schedule=schedules.schedules.create("linear"))
    torch.testing.assert_close(stepped(scheduler, guided, noise(5)), dode.load(made).sample(own, noise(5)), **CLOSE)


@pytest.mark.parametrize(("theirs", "ours"), [("v_prediction", "v"), ("sample", "image"), ("epsilon", "noise")])
def test_our_names_are_kept_as_pipelines_read_them(theirs, ours):
    options = {"beta_schedule": "cosine"}
    made = DodeScheduler(record("ddim", {}, 2, distilled=False, sigma_max=8.0), prediction_type=ours, **options)
    assert made.config.prediction_type == theirs
    again = DodeScheduler(
        record("ddim", {}, 2, distilled=False, sigma_max=8.0),
        prediction_type=theirs,
        **options | {"beta_schedule": "squaredcos_cap_v2"},
    )
    sample = torch.ones(1, *SHAPE)
    first, second = (each.step(0.1 * sample, each.timesteps[0], sample).prev_sample for each in (made, again))
    assert torch.equal(first, second)


def test_half_precision_of_the_pipeline_is_not_that_of_the_state(unet):
    made = record("ddim", {}, 5)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made)

    def network(x, t):
        return unet(x.double(), t).sample.to(x.dtype)

    exact = stepped(scheduler, network, noise(6))
    largest = exact.abs().max()
    for dtype, share in ((torch.float32, 1e-6), (torch.bfloat16, 0.02)):
        found = stepped(scheduler, network, noise(6).to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double() / largest, exact / largest, rtol=0, atol=share)


def test_what_a_step_refuses(unet):
    made = record("heun", {}, 5)
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made)
    first, second = scheduler.timesteps[:2]
    x = noise(8)
    with pytest.raises(
        ValueError, match=r"is not the first one; .* image-to-image pipelines work with strength=1 only"
    ):
        scheduler.step(x, second, x)
    with pytest.raises(ValueError, match="timestep: 5 is out of order"):
        scheduler.step(x, 5, x)
    with pytest.raises(ValueError, match="eta"):
        scheduler.step(x, first, x, eta=1.0)
    for output in (x.transpose(1, 2), x.reshape(len(x), 1, 4, 16), torch.cat([x, x]), x[:1], x.flatten(1)):
        with pytest.raises(ValueError, match=r"model_output: its shape .* is not that of the sample"):
            scheduler.step(output, first, x)
    after = scheduler.step(x, first, x).prev_sample
    with pytest.raises(ValueError, match="changed after the last step"):
        scheduler.step(x, second, after + 1)
    scheduler.step(x, second, after.clone())
    scheduler.set_timesteps(5)
    for timestep in scheduler.timesteps:
        x = scheduler.step(x, timestep, x, return_dict=False)[0]
    with pytest.raises(ValueError, match="has ended"):
        scheduler.step(x, timestep, x)


def linear_network(sample, timestep):
    """A network that needs no more than its input."""
    return 0.3 * sample


PAINTED = {
    "a copy": lambda x: torch.where(torch.arange(8) < 4, 5.0, x),
    "in place": lambda x: x.index_fill_(2, torch.arange(4), 5.0),
    "clamped": lambda x: x.clamp_(-0.1, 0.1),
    "scaled": lambda x: x.mul_(1.01),
    "one value of one image": lambda x: x.index_put_((torch.tensor(0),) * 4, torch.tensor(9.0, dtype=x.dtype)),
    "its data": lambda x: (x.data.zero_(), x)[1],
    "by NumPy": lambda x: torch.from_numpy(np.negative(x.numpy(), out=x.numpy())),
    "with NaN": lambda x: x.fill_(torch.nan),
}


@pytest.mark.parametrize("how", PAINTED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("edm", [False, True])
def test_painting_over_the_sample_is_refused(how, dtype, edm):
    """In the coordinates of either kind; under EDM's preconditioning the sample is the solver's own state."""
    made = record("unipc", {}, 5, distilled=False)
    scheduler = DodeScheduler(made, sigma_data=0.5) if edm else DodeScheduler(made)
    x = (noise(1) * scheduler.init_noise_sigma).to(dtype)
    first, second = scheduler.timesteps[:2]
    painted = PAINTED[how](scheduler.step(linear_network(x, first), first, x).prev_sample)
    with pytest.raises(ValueError, match=r"sample: it was changed after the last step.*inpainting"):
        scheduler.step(linear_network(painted, second), second, painted)


def test_what_is_not_painting_is_not_refused():
    """A copy, another type and back, a network that writes over its input, and one that reuses its output."""
    made, buffer = record("unipc", {}, 5), torch.empty(3, *SHAPE, dtype=torch.float64)
    config = diffusers.DDPMScheduler(prediction_type="sample").config

    def run(network, between=lambda x: x):
        scheduler, x = DodeScheduler.from_config(config, result=made), noise(1)
        for timestep in scheduler.timesteps:
            x = between(scheduler.step(network(x, timestep), timestep, x).prev_sample)
        return x

    def overwriting(x, timestep):
        return DodeScheduler(made).scale_model_input(x, timestep).mul_(0.3)

    expected = run(linear_network)
    assert torch.equal(run(lambda x, timestep: buffer.copy_(linear_network(x, timestep))), expected)
    assert torch.equal(run(overwriting), expected)
    assert torch.equal(run(linear_network, torch.clone), expected)
    torch.testing.assert_close(run(linear_network, lambda x: x.float()).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_network_that_breaks_down_is_named_with_its_evaluation_and_can_be_asked_again(kind, dtype):
    config, made = diffusers.DDPMScheduler(prediction_type=kind).config, record("heun", {}, 5, sigma_max=3.0)
    scheduler, x = DodeScheduler.from_config(config, result=made), noise(1).to(dtype)
    for index, timestep in enumerate(scheduler.timesteps):
        output = linear_network(x, timestep)
        if index == 2:
            broken = output.clone()
            broken[1, 0, 3, 3] = torch.inf
            level, helps = scheduler.levels[2], {torch.float16: "; float16 has no numbers above 65504"}.get(dtype, "")
            told = (
                f"1 of 3 images at evaluation 3 of 5 (noise level {level:.6g}, timestep {float(timestep):.6g}){helps}"
            )
            with pytest.raises(NonFiniteError, match=re.escape(told)):
                scheduler.step(broken, timestep, x)
        x = scheduler.step(output, timestep, x).prev_sample
    assert torch.equal(x, stepped(scheduler, linear_network, noise(1).to(dtype)))


def test_output_objects_of_diffusers_are_taken(unet):
    scheduler = DodeScheduler(record("ddim", {}, 5))
    expected = stepped(scheduler, lambda x, t: unet(x, t).sample, noise(1))
    assert torch.equal(stepped(scheduler, unet, noise(1)), expected)
    scheduler.set_timesteps()
    with pytest.raises(ValueError, match="must return one floating-point tensor, not NoneType"):
        scheduler.step(None, scheduler.timesteps[0], noise(1))


COPIES = {
    "deep": copy.deepcopy,
    "shallow": copy.copy,
    "pickled": lambda scheduler: pickle.loads(pickle.dumps(scheduler)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("case", CASES)
def test_a_copy_in_mid_run_goes_on_from_there(how, case):
    """Neither knows of the other, and both end where an undisturbed run does."""
    solver, options, nfe = CASES[case]
    scheduler = DodeScheduler(record(solver, options, nfe))

    def network(x, timestep):
        return (0.3 + float(timestep) / 2000) * x.tanh()

    expected = stepped(scheduler, network, noise(1))
    for at in range(nfe + 1):
        scheduler.set_timesteps()
        x = noise(1)
        for timestep in scheduler.timesteps[:at]:
            x = scheduler.step(network(x, timestep), timestep, x).prev_sample
        twin, y = COPIES[how](scheduler), x.clone()
        assert twin.config == scheduler.config
        assert torch.equal(twin.timesteps, scheduler.timesteps)
        for timestep in scheduler.timesteps[at:]:  # in turns
            y = twin.step(network(y, timestep), timestep, y).prev_sample
            x = scheduler.step(network(x, timestep), timestep, x).prev_sample
        assert torch.equal(x, expected)
        assert torch.equal(y, expected)
        assert torch.equal(stepped(twin, network, noise(1)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_noise_is_added_as_diffusers_adds_it(dtype):
    theirs, ours = diffusers.DDPMScheduler(), DodeScheduler(record("ddim", {}, 5))
    images, timesteps = noise(2).clamp(-1, 1).to(dtype), torch.tensor([0, 500, 999])
    expected = theirs.add_noise(images.double(), noise(3).to(dtype).double(), timesteps).to(dtype)
    found = ours.add_noise(images, noise(3).to(dtype), timesteps)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=max(2e-6, 2 * torch.finfo(dtype).eps))
    assert torch.equal(ours.scale_noise(images, timesteps, noise(3).to(dtype)), found)
    for one in (torch.tensor([500]), torch.tensor(500), 500):
        assert torch.equal(ours.add_noise(images, noise(3).to(dtype), one)[1], found[1])
    with pytest.raises(ValueError, match="timesteps: 1 or 3 are needed, one per image, not 2"):
        ours.add_noise(images, noise(3), timesteps[:2])
    for outside in (1000, -1):
        with pytest.raises(ValueError, match=f"timestep: {outside} is outside of the model's schedule of 1000 steps"):
            ours.add_noise(images, noise(3), torch.tensor([outside]))


def test_noise_is_added_under_edms_preconditioning():
    theirs = diffusers.EDMEulerScheduler()
    theirs.set_timesteps(5)
    ours = DodeScheduler(record("ddim", {}, 5, distilled=False), sigma_data=0.5)
    images, timesteps = noise(2).clamp(-1, 1), theirs.timesteps[[0, 2, 4]]
    expected = theirs.add_noise(images, noise(3), timesteps)
    torch.testing.assert_close(ours.add_noise(images, noise(3), timesteps), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounded", [False, True])
def test_image_to_image_begins_where_the_run_does(unet, rounded):
    """With a strength of 1 the noised image is the first state, at the level of that; otherwise it is one sentence."""
    made = record("heun", {}, 5, sigma_max=9.0)
    scheduler = DodeScheduler(made, round_timesteps=rounded)
    images = noise(2).clamp(-1, 1)
    for timesteps in (scheduler.timesteps[:1], scheduler.timesteps[:1].repeat(3)):
        begun = scheduler.add_noise(images, noise(3), timesteps)
        torch.testing.assert_close(begun, (images + 9 * noise(3)) / (1 + 9**2) ** 0.5, rtol=1e-12, atol=1e-12)
    scheduler.set_begin_index(0)
    assert (scheduler.begin_index, scheduler.step_index) == (0, 0)
    first, second = scheduler.timesteps[:2]
    assert scheduler.step(unet(begun, first).sample, first, begun).prev_sample.isfinite().all()
    assert scheduler.step_index == 1
    with pytest.raises(ValueError, match=r"begin_index: 2 is not allowed; .*strength=1 only"):
        scheduler.set_begin_index(2)
    scheduler.set_timesteps()
    with pytest.raises(ValueError, match=r"is not the first one; .*strength=1 only"):
        scheduler.step(begun, second, begun)


def test_noise_that_is_none_is_refused():
    scheduler = DodeScheduler(record("ddim", {}, 5))
    first = scheduler.timesteps[0]
    for sample, told in [(noise(1) * torch.nan, "sample: they contain NaN"), (noise(1).long(), "not Tensor of int64")]:
        with pytest.raises(ValueError, match=told):
            scheduler.step(noise(1), first, sample)
    assert scheduler.step(noise(1).numpy(), first, noise(1).numpy()).prev_sample.isfinite().all()


@pytest.mark.parametrize("factor", [0.0125, 80.0])
def test_noise_of_another_size_is_refused(factor):
    scheduler = DodeScheduler(record("ddim", {}, 5, distilled=False), sigma_data=0.5)
    x = factor * scheduler.init_noise_sigma * noise(1)
    with pytest.raises(ValueError, match=r"sample: their standard deviation must be 80, not .* times init_noise_sigma"):
        scheduler.step(x, scheduler.timesteps[0], x)


def test_a_fitted_solver_that_tells_other_levels_makes_what_the_library_makes(unet):
    """Coefficients and told levels of a joint fit; the first level told is not that of the first state."""
    form = torch.eye(4, dtype=torch.float64) + 0.1 * noise(3)[0, 0, :4, :4].tril()
    form[0, 0] = (1 + 3.0**2) ** 0.5
    made = record("ddim", {}, 3, distilled=False) | {
        "version": 2,
        "solver": {"name": "non-stationary", "options": {}},
        "sigmas": [3.0, 1.0, 0.3, 0.0],
        "told": [2.5, 1.0, 0.3],
        "coefficients": form.tolist(),
    }
    scheduler = DodeScheduler.from_config(diffusers.DDPMScheduler().config, result=made)
    assert scheduler.init_noise_sigma == 1
    found = stepped(scheduler, lambda x, t: unet(x, t).sample, noise(5))
    own = models.NoisePrediction(Network(unet, "epsilon"), schedule=schedules.schedules.create("linear"))
    expected = portable.load(made).sample(own, noise(5))
    torch.testing.assert_close(found, expected, **CLOSE)
    scheduler.set_timesteps()
    x = noise(5)
    for timestep in scheduler.timesteps:  # as DiT's pipeline, which goes on with the network's input
        x = scheduler.scale_model_input(x, timestep)
        x = scheduler.step(unet(x, timestep).sample, timestep, x).prev_sample
    torch.testing.assert_close(x, expected, **CLOSE)
    scheduler.set_timesteps()
    x = noise(5)  # and as others, which would give the noise itself to a network that needs more of it
    with pytest.raises(ValueError, match=r"told another noise level .* does not call scale_model_input"):
        scheduler.step(unet(x, scheduler.timesteps[0]).sample, scheduler.timesteps[0], x)
