"""The embedded text-to-image pipeline: small, read by diffusers as it is, and it draws what the words say."""

import numpy as np
import pytest
import torch

from dode import models
from dode.fetching.cards import load_card
from dode.images import pixels
from dode.models import torchvision_operators
from dode.models.embedded import captions, text_to_digit, training
from workspace import REPOSITORY

torchvision_operators.declare()

FOLDER = REPOSITORY / "config/models/text-to-digit"
MISSING = "the pipeline's text encoders are those of transformers"


@pytest.fixture(scope="module")
def pipeline():
    pytest.importorskip("transformers", reason=MISSING)
    from diffusers import StableDiffusion3Pipeline

    loaded = StableDiffusion3Pipeline.from_pretrained(
        FOLDER, text_encoder_3=None, tokenizer_3=None, local_files_only=True
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(pipeline, prompts, **options):
    """Images (n, 1, 28, 28) in [-1, 1] of the pipeline with its own scheduler, the same noise for every call."""
    options = {"num_inference_steps": 16, "guidance_scale": 3.0, "max_sequence_length": 0, **options}
    images = pipeline(prompts, generator=torch.Generator().manual_seed(0), output_type="pt", **options).images
    return 2 * images - 1


def read(images):
    """The digit that the classifier of MNIST sees in each image."""
    card = load_card(REPOSITORY, "mnist-classifier", "card")
    classifier = models.load_network(card, REPOSITORY / "config/models/mnist-classifier.safetensors")
    with torch.no_grad():
        return classifier(images).argmax(1)


def contents(folder):
    """{name: bytes} of the files below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_pipeline_is_small():
    assert sum(map(len, contents(FOLDER).values())) <= 4_000_000


def test_images_follow_the_words(pipeline):
    """Also with the 256 zeros that the pipeline puts in place of T5's embeddings by default."""
    prompts = [form.format(digit) for digit in captions.DIGITS for form in ("a {}", "{}, bold and slanted")]
    for options in ({}, {"max_sequence_length": 256, "num_inference_steps": 8}):
        images = draw(pipeline, prompts, **options)
        assert images.shape == (20, 1, 28, 28)
        assert (read(images) == torch.arange(10).repeat_interleave(2)).sum() >= 18


@pytest.mark.parametrize(
    ("words", "measure"), [*zip(captions.STYLES, (captions.thickness, captions.slant), strict=True)]
)
def test_the_style_follows_the_words(pipeline, words, measure):
    """On the same noise, every digit or nearly every one has more of the property that the second word says."""
    less, more = (
        measure(pixels.to_bytes(draw(pipeline, [f"a {word} {digit}" for digit in captions.DIGITS]))) for word in words
    )
    assert (more > less).sum() >= 9


def test_a_word_is_a_token_and_no_caption_is_cut(pipeline):
    for prompt in captions.prompts(900, seed=3):
        words = prompt.replace(",", " ,").split()
        for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
            assert len(tokenizer(prompt).input_ids) == 2 + len(words) <= tokenizer.model_max_length


def test_training_is_reproducible(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason=MISSING)
    images, labels = np.zeros((100, 1, 28, 28), np.uint8), np.arange(100) % 10
    images[:, :, 4:24, 12:16] = np.random.default_rng(0).integers(0, 256, (100, 1, 20, 4))

    def mnist():
        return images, labels

    monkeypatch.setattr(training, "mnist", mnist)
    monkeypatch.setitem(training.DATA, mnist, "lines")
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        text_to_digit.train(output=folder, steps=5)
    one, other = (contents(folder / "text-to-digit") for folder in folders)
    assert one == other
    committed = contents(FOLDER)
    assert one.keys() == committed.keys()
    vocabularies = [name for name in one if name.name == "tokenizer.json"]
    assert len(vocabularies) == 2
    assert all(one[name] == committed[name] for name in vocabularies)
