"""Pipelines of diffusers as models, against what the pipelines make themselves of the same noise and prompts."""

import pytest
import torch

import dode
from dode import grids, solvers
from dode.pipelines import family as families
from dode.pipelines import model

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import tiny_pipelines as tiny


def noise(family, count=2):
    return torch.randn(count, *family.latent_shape(16, 16), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_ddim_is_the_pipelines_own_euler_of_stable_diffusion_3(scale):
    pipe = tiny.stable_diffusion_3()
    family = families.of(pipe, length=16)
    latents, denoise = noise(family), model.denoiser(family)
    own = {"num_inference_steps": 6, "guidance_scale": scale, "max_sequence_length": 16, "output_type": "latent"}
    expected = pipe(tiny.PROMPTS, latents=latents.clone(), height=16, width=16, **own).images
    guided = model.guided(family, denoise, family.encode(tiny.PROMPTS), scale=scale)
    sigmas = grids.for_model(denoise, "flow-linear", 6, shift=3.0)
    found = dode.sample(solvers.create("ddim"), guided, latents, sigmas)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    images = pipe(tiny.PROMPTS, latents=latents.clone(), height=16, width=16, **own | {"output_type": "pt"}).images
    torch.testing.assert_close(family.decode(found).clamp(-1, 1) / 2 + 0.5, images, rtol=0, atol=1e-5)
