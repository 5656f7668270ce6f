"""A pipeline's own scheduler and the one that ``dode.distill_pipeline`` fits to it, on prompts that no fit has seen.

``python benchmarks/pipelines.py`` takes the embedded pipeline that draws digits from words, at 4, 6 and 8 steps, and
prints the root-mean-square distance of its latents to those of the fine solution on the same noise and prompts, 300 of
them, as the pipeline itself makes them with either scheduler; what was kept, evaluations, and CPU seconds of one thread
for the fit. ``--steps``, ``--images`` and ``--seeds`` (of the fitting images) choose others.
"""

import argparse
import time
from pathlib import Path

import torch

import dode
from dode import grids
from dode.distillation import fine_solution
from dode.images import prompts as files
from dode.models import torchvision_operators
from dode.pipelines import family as families
from dode.pipelines import fit, model

torchvision_operators.declare()  # before diffusers asks torchvision
from diffusers import StableDiffusion3Pipeline  # noqa: E402

CONFIG = Path(__file__).parents[1] / "config"
HOW = {"max_sequence_length": 0, "guidance_scale": 3.0}  # as of config/models/text-to-digit.yaml
FRESH = 1  # seed of the noise that is measured on


def loaded():
    """The embedded pipeline, without a progress bar."""
    where = CONFIG / "models" / "text-to-digit"
    pipe = StableDiffusion3Pipeline.from_pretrained(where, text_encoder_3=None, tokenizer_3=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def fine(pipe, texts, noise):
    """Latents of the fine solution, by the same evaluations as those that fits aim at."""
    family = families.of(pipe, length=HOW["max_sequence_length"])
    denoise = model.denoiser(family, batch_size=200)
    guided = model.guided(family, denoise, family.encode(texts), scale=HOW["guidance_scale"])
    levels = grids.for_model(denoise, "flow-linear", 2, shift=family.shift(), spacing="trailing")
    return fine_solution.fine_ends(guided, noise, levels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="only shows that everything runs")
    options = parser.parse_args()
    steps, count = ([2], 3) if options.quick else (options.steps, options.images)
    torch.set_num_threads(1)
    rows = list(dict.fromkeys(files.read(file=str(CONFIG / "prompts" / "digits.txt"))))  # each once
    least = [16 if options.quick else fit.least_images(each) for each in steps]
    if max(least) + count > len(rows):
        parser.error(f"--images: {count} is not allowed; allowed: at most {len(rows) - max(least)}")
    fresh, pipe = rows[len(rows) - count :], loaded()
    noise = torch.randn(count, *families.of(pipe).latent_shape(), generator=torch.Generator().manual_seed(FRESH))
    aim, own = fine(pipe, fresh, noise), pipe.scheduler

    def distance(scheduler, number):
        pipe.scheduler = scheduler
        found = pipe(fresh, latents=noise.clone(), num_inference_steps=number, output_type="latent", **HOW).images
        return float((found - aim).square().mean().sqrt())

    print("| steps | fitting seed | own scheduler | distilled | times better | kept | evaluations | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for number, images in zip(steps, least, strict=True):
        before = distance(own, number)
        for seed in options.seeds:
            pipe.scheduler, began = own, time.process_time()
            how = {"budget": 3 * images * number} if options.quick else {}
            fitted = dode.distill_pipeline(pipe, rows[:images], steps=number, images=images, seed=seed, **how, **HOW)
            seconds, made = time.process_time() - began, fitted.sampler.record["fit"]
            after, spent = distance(fitted, number), sum(rung["evaluations"] or 0 for rung in made["rungs"])
            found = f"{before:.4f} | {after:.4f} | {before / after:.1f}"
            print(f"| {number} | {seed} | {found} | {made['family']} | {spent:,} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
