"""Scores of images by their prompts, against transformers' own logits, and their cards."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
from PIL import Image

import tiny_clip
from dode.metrics import prompt_scores
from dode.metrics.prompt_scores import scorers

PROMPTS = ["a red cat", "a blue dog on the table", "a car", "the sky"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder, model and processor."""
    folder = tmp_path_factory.mktemp("clip")
    return folder, *tiny_clip.save(folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 3, 24, 20), np.uint8)


def scorer(folder, score=None, **card):
    options = {} if score is None else {"score": score}
    card = {**tiny_clip.CARD, "network": {"name": "clip", "options": options}, **card}
    return scorers.create("clip", card=card, folder=folder, device="cpu")


@pytest.fixture(scope="module")
def logits(made, images):
    """Of each image and its prompt, by transformers, one at a time and from pictures."""
    _, model, processor = made
    found = []
    for image, prompt in zip(images, PROMPTS, strict=True):
        picture = Image.fromarray(image.transpose(1, 2, 0))
        with torch.inference_mode():
            given = processor(text=[prompt], images=picture, return_tensors="pt")
            found.append(model(**given).logits_per_image.item())
    return np.array(found)


def test_the_scores_are_what_transformers_logits_say(made, images, logits):
    folder, model, _ = made
    scale = model.logit_scale.exp().item()
    assert scale == pytest.approx(np.exp(2.5))
    cosines = logits / scale
    assert cosines.max() > 0.02
    assert cosines.min() < -0.02
    expected = {
        "pick_score": logits,
        "hps_v2": cosines,
        "clip_score": 100 * np.maximum(cosines, 0),
        None: 100 * np.maximum(cosines, 0),
    }
    for name, values in expected.items():
        found = scorer(folder, name)(images, PROMPTS).numpy()
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-4)


def test_each_image_is_scored_by_its_own_prompt_whatever_the_batch(made, images):
    score = scorer(made[0], "hps_v2")
    whole = score(images, PROMPTS)
    parts = [score(images[[place]], [PROMPTS[place]]) for place in range(4)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-5)
    order = [2, 0, 3, 1]
    others = score(images[order], [PROMPTS[place] for place in order])
    torch.testing.assert_close(others, whole[order], rtol=0, atol=1e-5)
    assert (score(images, PROMPTS[::-1]) - whole).abs().max() > 1e-2


def test_grey_images_are_repeated_over_the_channels(made, images):
    score, grey = scorer(made[0]), images[:, :1]
    torch.testing.assert_close(score(grey, PROMPTS), score(grey.repeat(3, axis=1), PROMPTS))


def test_a_prompt_that_is_too_long_is_cut(made, images):
    score = scorer(made[0])
    long = ["cat " * count for count in (14, 15, 40, 400)]
    torch.testing.assert_close(score(images, long), score(images, ["cat " * 14] * 4))


def test_a_card_decides_the_precision(made, images):
    whole = scorer(made[0], "hps_v2")(images, PROMPTS)
    half = scorer(made[0], "hps_v2", precision={"dtype": "bfloat16"})(images, PROMPTS)
    assert half.dtype == whole.dtype == torch.float32
    assert 1e-5 < (half - whole).abs().max() < 0.1


@pytest.mark.parametrize("missing", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_folder_without_a_file_is_refused_with_what_is_missing(tmp_path, missing):
    tiny_clip.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=f"it has no {missing}"):
        scorer(tmp_path)


def test_a_folder_of_another_model_is_refused(tmp_path):
    tiny_clip.save(tmp_path)
    tiny_clip.change(tmp_path, model_type="siglip")
    with pytest.raises(ValueError, match="a model of the type 'siglip'; allowed: 'clip'"):
        scorer(tmp_path)


def test_weights_that_are_no_safetensors_are_not_read(tmp_path):
    tiny_clip.save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        scorer(tmp_path)


def test_a_score_of_no_name_of_its_own_is_clips():
    assert prompt_scores.metric(tiny_clip.CARD) == "clip_score"
