"""What every family of pipelines does with prompts, classes, sizes and precisions, and what it refuses."""

import math

import pytest
import torch

import dode
from dode import grids, solvers
from dode.models.batches import Batches
from dode.pipelines import family as families
from dode.pipelines import model

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import tiny_pipelines as tiny

LENGTHS = {"stable_diffusion_3": 16, "flux": 16, "pixart": 16, "pixart_alpha": 16, "sana": 16}
NAMES = ["stable_diffusion", "stable_diffusion_xl", *LENGTHS, "dit"]
PROMPTED = NAMES[:-1]
THREE = [*tiny.PROMPTS, "the sky"]


def family_of(name, **build):
    return families.of(getattr(tiny, name)(**build), length=LENGTHS.get(name))


def guided_of(family, conditions, batch_size=None):
    scale = 4.0 if family.guided == "classifier-free" else 3.5
    return model.guided(family, model.denoiser(family, batch_size=batch_size), conditions, scale=scale)


def conditions_of(family, name, prompts=THREE):
    return [1, 2, 3] if name == "dit" else family.encode(prompts)


def noise_of(family, count=3):
    size = (16, 24) if family.classes is None else (16, 16)
    return torch.randn(count, *family.latent_shape(*size), generator=torch.Generator().manual_seed(0))


def sampled(denoise, noise):
    sigmas = grids.for_model(denoise, "sgm-uniform", 3)
    return dode.sample(solvers.create("ddim"), denoise, noise, sigmas)


def differences(found, expected):
    """The largest difference of each image, by the size of the values."""
    return (found - expected).abs().flatten(1).amax(1) / expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_images_keep_their_conditions_in_parts_of_any_size(name):
    family = family_of(name)
    conditions, noise = conditions_of(family, name), noise_of(family)
    whole = sampled(guided_of(family, conditions), noise)
    for size in (1, 2):
        assert bool((differences(sampled(guided_of(family, conditions, size), noise), whole) < 2e-6).all())
    last = sampled(guided_of(family, conditions).for_images(2, 3), noise[2:])
    assert float(differences(last, whole[2:]).max()) < 2e-6
    other = [1, 2, 4] if name == "dit" else family.encode([*THREE[:2], "a car"])
    changed = differences(sampled(guided_of(family, other), noise), whole)
    assert float(changed[:2].max()) < 2e-6
    assert float(changed[2]) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_images_may_have_noise_levels_of_their_own_and_gradients_flow(name):
    family = family_of(name)
    denoise, noise = guided_of(family, conditions_of(family, name)), noise_of(family)
    sigma = torch.tensor([9.0, 1.5, 0.3], dtype=torch.float64).view(-1, 1, 1, 1)
    x = (sigma * noise).float()
    each = [denoise.for_images(i, i + 1)(x[i : i + 1], sigma[i].reshape(())) for i in range(3)]
    assert float(differences(denoise(x, sigma), torch.cat(each)).max()) < 1e-5
    at, level = x.clone().requires_grad_(True), sigma.clone().requires_grad_(True)
    found = torch.autograd.grad(denoise.differentiable()(at, level).square().sum(), (at, level))
    assert all(bool(gradient.isfinite().all() and gradient.any()) for gradient in found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_in_half_precision_has_a_decoder_in_single(name, dtype):
    family = family_of(name)
    conditions, noise = conditions_of(family, name), noise_of(family)
    expected = sampled(guided_of(family, conditions), noise)
    family.denoises.to(dtype)
    found = sampled(guided_of(family, conditions), noise)
    assert found.dtype == noise.dtype
    assert 0 < float(differences(found, expected).max()) < (0.05 if dtype == torch.bfloat16 else 0.006)
    images = family.decode(found)
    assert images.dtype == torch.float32
    assert 0 < float((images - family.decode(expected)).abs().mean()) < 0.02


@pytest.mark.parametrize("name", PROMPTED)
def test_encoders_in_half_precision_serve_a_network_in_single(name):
    family = family_of(name)
    expected = sampled(guided_of(family, family.encode(THREE)), noise_of(family))
    for _, encoder in family.encoders:
        getattr(family.pipe, encoder).to(torch.bfloat16)
    found = sampled(guided_of(family, family.encode(THREE)), noise_of(family))
    assert 0 < float(differences(found, expected).max()) < 0.05


@pytest.mark.parametrize("name", PROMPTED)
def test_prompts_are_encoded_in_parts_as_in_one(name, monkeypatch):
    """Also where memory runs out, once: the encoders go on with as many as they had room for."""
    family = family_of(name)
    negative = "a car" if family.guided == "classifier-free" else None
    expected, encoded, sizes = family.encode(THREE, negative), family.encoded, []

    def small(prompts, negative):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encoded(prompts, negative)

    monkeypatch.setattr(family, "encoded", small)
    batches = Batches()
    for _ in range(2):
        found = family.encode(THREE, negative, batches=batches)
    assert sizes == [3, 1, 1, 1, 1, 1, 1]
    assert (found.without is None) == (expected.without is None)
    for kind in ("values", "without")[: 1 if found.without is None else 2]:
        for key, value in getattr(expected, kind).items():
            torch.testing.assert_close(getattr(found, kind)[key], value, rtol=0, atol=1e-6)


def test_parts_in_training_are_left_there_and_do_not_drop_out():
    """T5 and this U-Net drop out at random in training, and have gradients."""
    for pipe in (tiny.flux(), tiny.stable_diffusion(network={"dropout": 0.5})):
        family = families.of(pipe, length=16 if "text_encoder_2" in pipe.components else None)
        expected, noise = family.encode(THREE), noise_of(family)
        of_eval = sampled(guided_of(family, expected), noise)
        parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        for part in parts:
            part.train()
            next(part.modules()).training = False
        modes = [[module.training for module in part.modules()] for part in parts]
        family = families.of(pipe, length=family.length)
        found = family.encode(THREE)
        for key, value in expected.values.items():
            assert torch.equal(found.values[key], value)
        denoised = sampled(guided_of(family, found), noise)
        assert torch.equal(denoised, of_eval)
        family.decode(denoised)
        assert [[module.training for module in part.modules()] for part in parts] == modes
        assert all(weight.requires_grad for part in parts for weight in part.parameters())


@pytest.mark.parametrize("name", ["flux", "pixart", "pixart_alpha", "sana"])
def test_no_tokens_at_all_are_refused(name):
    with pytest.raises(
        ValueError, match=r"length: 0 is not allowed for \w+; allowed: an integer from 1 to (512|8192)$"
    ):
        families.of(getattr(tiny, name)(), length=0)


@pytest.mark.parametrize("name", PROMPTED)
def test_a_prompt_that_is_cut_is_named_with_its_tokens(name, caplog):
    family = family_of(name)
    family.encode([*tiny.PROMPTS, "a cat " * 6 + "a cat"])  # 14 words, a begin and an end
    assert not [record for record in caplog.records if record.name == "dode.pipelines.family"]
    family.encode([*tiny.PROMPTS, "a cat " * 7 + "a"])
    (record,) = [record for record in caplog.records if record.name == "dode.pipelines.family"]
    assert record.getMessage() == "prompt 2 is cut: it has 17 tokens of tokenizer, which takes 16"


def test_a_negative_prompt_that_is_cut_is_named(caplog):
    family_of("stable_diffusion").encode(tiny.PROMPTS, negative="a cat " * 8)
    assert "the negative prompt is cut: it has 18 tokens of tokenizer, which takes 16" in caplog.text


def test_an_encoder_that_is_given_fewer_tokens_cuts_before_the_others(caplog):
    for name, tokenizer in (("stable_diffusion_3", "tokenizer_3"), ("flux", "tokenizer_2")):
        families.of(getattr(tiny, name)(), length=8).encode(["a cat " * 4])
        assert f"prompt 0 is cut: it has 10 tokens of {tokenizer}, which takes 8" in caplog.text


def test_lengths_are_the_pipelines_unless_given():
    longest = {"stable_diffusion_3": 256, "flux": 512, "pixart": 300, "pixart_alpha": 120, "sana": 300}
    for name, length in longest.items():
        family = families.of(getattr(tiny, name)())
        assert family.length_of(family.encoders[-1][0]) == length
    assert family_of("flux").encode(["a cat"]).values["words"].shape[1] == 16


def test_stable_diffusion_3_without_its_largest_encoder():
    parts = {**tiny.stable_diffusion_3().components, "text_encoder_3": None, "tokenizer_3": None}
    family = families.of(tiny.StableDiffusion3Pipeline(**parts))
    words = family.encode(tiny.PROMPTS).values["words"]
    assert words.shape[1] == 16 + 256
    assert bool((words[:, 16:] == 0).all())


def test_no_class_is_the_last_entry_of_dits_table():
    family = family_of("dit", classes=10)
    noise, time = noise_of(family), torch.tensor(500.0)
    none = family.predict(noise, time, labels=torch.tensor([-1, 3, -1]))
    torch.testing.assert_close(none, family.predict(noise, time, labels=torch.tensor([10, 3, 10])), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"labels must be .* integers from 0 to 9, or -1"):
        guided_of(family, [1, 2, 10])


@pytest.mark.parametrize(("height", "tokens", "mu"), [(256, 256, 0.5), (1024, 4096, 1.15), (512, 1024, 0.63)])
def test_fluxs_shift_is_of_the_images_size(height, tokens, mu):
    """With the published decoder's 8 pixels an entry; 0.63 is 0.5 + 0.65 (1024 - 256) / (4096 - 256)."""
    family = family_of("flux")
    family.pipe.vae_scale_factor = 8
    assert family.shift(height, height) == pytest.approx(math.exp(mu))
    assert family.shift(height // 2, 2 * height) == pytest.approx(math.exp(mu))
    family.pipe.scheduler.register_to_config(time_shift_type="linear")
    assert family.shift(height, height) == pytest.approx(mu)


def test_a_shift_that_is_no_function_of_the_size():
    assert family_of("stable_diffusion_3").shift() == 3.0
    assert family_of("flux", guidance_embeds=False).shift(256, 256) == 1.0
    assert family_of("stable_diffusion").shift() == 1.0


@pytest.mark.parametrize(
    ("name", "shape"),
    [("stable_diffusion", (4, 8, 8)), ("flux", (4, 128, 128)), ("pixart_alpha", (4, 128, 128)), ("dit", (4, 8, 8))],
)
def test_latents_have_the_size_that_the_network_was_trained_for(name, shape):
    assert family_of(name).latent_shape() == shape


@pytest.mark.parametrize(("name", "unit"), [("stable_diffusion", 2), ("flux", 4), ("pixart", 4), ("sana", 2)])
def test_a_size_that_is_no_multiple_is_refused(name, unit):
    family = family_of(name)
    with pytest.raises(ValueError, match=f"height: 17 is not a multiple of {unit}, which the pipeline needs"):
        family.latent_shape(17, 16)
    with pytest.raises(ValueError, match=f"width: 0 is not a multiple of {unit}"):
        family.latent_shape(16, 0)


def test_dit_has_one_size():
    with pytest.raises(ValueError, match=r"height: 32 is not allowed, as the network has one size; allowed: 16"):
        family_of("dit").latent_shape(32, 16)


def test_stable_diffusion_3_has_a_largest_size():
    family = family_of("stable_diffusion_3")
    assert family.latent_shape(192, 16) == (4, 96, 8)
    with pytest.raises(ValueError, match="height: 194 is not allowed; the network takes at most 192"):
        family.latent_shape(194, 16)


def test_an_unknown_class_is_refused_with_the_known_ones():
    class KandinskyPipeline:
        pass

    with pytest.raises(ValueError, match=r"KandinskyPipeline is of no known family; known: DiTPipeline, FluxPipeline"):
        families.of(KandinskyPipeline())


def test_a_guidance_scale_is_one_that_the_network_takes():
    schnell, dev = family_of("flux", guidance_embeds=False), family_of("flux")
    for scale in (0.0, 3.5):
        with pytest.raises(ValueError, match=f"distilled at one scale and takes none, so {scale} is not allowed"):
            model.guided(schnell, model.denoiser(schnell), schnell.encode(THREE), scale=scale)
    with pytest.raises(ValueError, match="this pipeline needs a scale"):
        model.guided(dev, model.denoiser(dev), dev.encode(THREE))
    for options in ({"interval": (0.1, 1.0)}, {"rescale": 0.7}):
        with pytest.raises(ValueError, match="interval and rescale are not allowed"):
            model.guided(dev, model.denoiser(dev), dev.encode(THREE), scale=3.5, **options)
    for family in (schnell, dev):
        with pytest.raises(ValueError, match="negative prompt: the network has no classifier-free guidance"):
            family.encode(THREE, negative="a car")
        assert family.encode(THREE, negative="").without is None


def test_true_cfg_scale_is_of_distilled_networks_and_their_conditions():
    """It asks for conditions that stand for none, which are encoded for it alone."""
    dev, other = family_of("flux"), family_of("sana")
    denoise = model.denoiser(dev)
    with pytest.raises(ValueError, match="true_cfg_scale is of networks that were distilled; give this one its scale"):
        model.guided(other, model.denoiser(other), other.encode(THREE), scale=2.0, true_cfg_scale=2.0)
    with pytest.raises(ValueError, match="classifier-free guidance needs conditions that stand for none"):
        model.guided(dev, denoise, dev.encode(THREE), scale=3.5, true_cfg_scale=2.0)(
            noise_of(dev).double(), torch.tensor(1.0)
        )
    conditions = dev.encode(THREE, without=True)
    both = model.with_scale(conditions, 3.5).both()
    assert both.values["guidance"].tolist() == [3.5] * 6
    interval = model.guided(dev, denoise, conditions, scale=3.5, true_cfg_scale=2.0, interval=(0.5, 2.0))
    assert [interval.passes(sigma) for sigma in (0.5, 1.0, 3.0)] == [1, 2, 1]


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_unet_that_takes_the_scale_with_its_time_is_refused(name):
    pipe = getattr(tiny, name)()
    pipe.unet.register_to_config(time_cond_proj_dim=256)
    with pytest.raises(ValueError, match="the U-Net has time_cond_proj_dim 256"):
        families.of(pipe)


def test_prompts_need_encoders():
    with pytest.raises(ValueError, match="DiTPipeline takes 1000 classes, not prompts"):
        family_of("dit").encode(THREE)
    family = family_of("sana")
    family.pipe.text_encoder = None
    with pytest.raises(ValueError, match="the pipeline was loaded without its text_encoder"):
        family.encode(THREE)


def overflowing(pipe):
    """A decoder in float16 whose activations are beyond its largest number, 65504, before they are normalized."""
    with torch.no_grad():
        pipe.vae.decoder.conv_in.weight.mul_(2e5)
    pipe.vae.half()
    return families.of(pipe)


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_decoder_in_half_precision_that_overflows_decodes_in_single(name):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe = getattr(tiny, name)()
    family = overflowing(pipe)
    assert pipe.vae.config.force_upcast
    assert not bool(pipe.vae.decode(latents.half()).sample.isfinite().all())
    images = family.decode(latents)
    assert bool(images.isfinite().all())
    assert images.dtype == torch.float32


def test_a_decoder_that_makes_nan_is_refused():
    pipe = tiny.stable_diffusion()
    pipe.vae.register_to_config(force_upcast=False)
    family = overflowing(pipe)
    with pytest.raises(ValueError, match=r"decoder .* makes NaN or infinity in float16; decode in float32$"):
        family.decode(torch.randn(2, 4, 8, 8))
