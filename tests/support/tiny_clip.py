"""A CLIP of random weights with its processor, as transformers saves them."""

import json

import torch

import tiny_pipelines as tiny  # which declares what transformers asks of torchvision

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor  # isort: skip

CARD = {
    **{"role": "prompt-score", "licence": "none", "source": "file:tiny-clip"},
    "network": {"name": "clip", "options": {}},
}


def save(folder, seed=0, scale=2.5):
    """Write it to a folder, its logit scale ``exp(scale)``; returns model and processor."""
    torch.manual_seed(seed)
    words = tiny.clip().config
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": 16, "patch_size": 8, **sizes}
    config = CLIPConfig(
        text_config=words.to_dict(), vision_config=vision, projection_dim=8, logit_scale_init_value=scale
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():  # weights as they are first drawn give all images nearly the same embedding
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor = CLIPProcessor(CLIPImageProcessor(**size), tiny.tokenizer())
    model.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return model, processor


def change(folder, **values):
    """Other values in the model's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
