"""The examples of docs/pipelines.md do what it says."""

import re
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")

import dode
import tiny_pipelines as tiny
from dode import grids, solvers
from dode.images import data
from dode.pipelines import family as families
from dode.pipelines import model

REAL_IMAGES, EXAMPLE, FAMILY = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/pipelines.md").read_text(), flags=re.S
)


def test_real_images_are_made_as_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (640, 480), (9, 200, 30)).save("photographs/a.jpg")
    exec(compile(REAL_IMAGES, "pipelines.md", "exec"), {})
    for size in (512, 1024):
        images, _ = data.load({"folder": f"resources/real/{size}"}, (3, size, size))
        assert images[0:1].shape == (1, 3, size, size)


def test_the_example_runs_as_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.stable_diffusion().save_pretrained("stable-diffusion-v1-5", variant="fp16")
    names = {}
    exec(compile(EXAMPLE, "pipelines.md", "exec"), names)
    assert names["images"].shape == (2, 3, 16, 16)  # the tiny network's own size
    assert bool(names["images"].isfinite().all())


def test_the_example_of_a_family_is_its_pipelines_own_euler(monkeypatch):
    monkeypatch.setattr(families.families, "_functions", dict(families.families._functions))
    exec(compile(FAMILY, "pipelines.md", "exec"), {"__name__": "documented"})
    torch.manual_seed(0)
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    )
    parts = {"text_encoder": tiny.t5(), "tokenizer": tiny.tokenizer(256), "vae": tiny.vae()}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73)
    pipe = tiny.quiet(diffusers.AuraFlowPipeline(transformer=transformer.eval(), scheduler=scheduler, **parts))
    family = families.of(pipe)
    denoise, noise = model.denoiser(family), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    own = {"num_inference_steps": 5, "guidance_scale": 3.5, "height": 16, "width": 16, "output_type": "latent"}
    expected = pipe(tiny.PROMPTS, latents=noise.clone(), **own).images
    guided = model.guided(family, denoise, family.encode(tiny.PROMPTS), scale=3.5)
    levels = grids.for_model(denoise, "flow-linear", 5, shift=family.shift())
    found = dode.sample(solvers.create("ddim"), guided, noise, levels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
