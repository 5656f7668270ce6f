"""A small model of each published card: its file with random weights, and its output by code that is not dode's.

The card is the published one but for the sizes, so that a file that would not be read, or be read as another network,
shows before anything large is downloaded.
"""

import dataclasses
import functools
import math
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

import adm_reference
import ddpm_reference
import edm_files
import edm_layout
import edm_reference
from dode.fetching.cards import file_name
from dode.models import torchvision_operators
from published_files import ddim_list
from published_weights import random_weights

torchvision_operators.declare()

import diffusers  # noqa: E402 - after the operators that it wants

CARDS = Path(__file__).parents[2] / "config" / "models"
SENTINEL = "the-embedded-source-was-run"  # a file that reading EDM's pickles does not make
OF_THE_FILE = ("urls", "size", "sha256", "md5")
SIZE, CLASSES = 8, 5
SMALL = {"image_size": SIZE, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A model.

    Args:
        published: name of the published card.
        smaller: what its card says otherwise, ``{"network": {"options": {...}}, ...}``.
        weights: what the file holds, by the published names.
        write: ``write(path, weights)``.
        output: ``output(x, condition, labels)``, float64: what the network shall compute; the condition is a number,
            labels are (B,) or None.
        levels: the noise levels of a schedule's indices, float64; None for EDM's.
    """

    published: str
    smaller: dict
    weights: dict
    write: Callable
    output: Callable
    levels: torch.Tensor | None = None

    @functools.cached_property
    def card(self):
        """The card in single precision, all but where its file is."""
        whole = yaml.safe_load((CARDS / f"{self.published}.yaml").read_text())
        others = (*OF_THE_FILE, "precision", "statistics")
        card = {key: value for key, value in whole.items() if key not in others}
        return _merged({"file": file_name(whole), **card}, self.smaller)


def _merged(first, second):
    """``first`` with what ``second`` has, mappings within mappings merged."""
    both = {
        key: _merged(first[key], second[key]) for key in first.keys() & second.keys() if isinstance(first[key], dict)
    }
    return {**first, **second, **both}


def _smaller(channels, options, **more):
    return {"image_shape": [channels, SIZE, SIZE], "network": {"options": options}, **more}


def linear_levels():
    """Of 1,000 betas from 1e-4 to 0.02 (Ho et al. 2020, section 4)."""
    return _levels(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))


def cosine_levels():
    """Of 4,000 betas (Nichol & Dhariwal 2021, equation 17)."""
    f = torch.cos((torch.arange(4001, dtype=torch.float64) / 4000 + 0.008) / 1.008 * math.pi / 2) ** 2
    return _levels((1 - f[1:] / f[:-1]).clamp(max=0.999))


def _levels(betas):
    return (1 / (1 - betas).cumprod(0) - 1).sqrt()


def saved(path, value, *, zipped=False):
    """As torch wrote until 1.5 (2020), or since in a zip archive."""
    torch.save(value, path, _use_new_zipfile_serialization=zipped)


def in_list(path, weights, *, zipped=False, prefix=""):
    """As the DDIM repository saves a training: the averaged weights last; ``prefix`` stands before their names."""
    *training, ema = ddim_list(weights)
    saved(path, [*training, {f"{prefix}{name}": value for name, value in ema.items()}], zipped=zipped)


def ddpm(channels, *, published="ddpm-cifar10", write=saved):
    """The authors' weights as pesser/pytorch_diffusion has them."""
    options = SMALL | {"in_channels": channels}
    weights = OrderedDict(random_weights(ddpm_reference.published_shapes(**options)))
    return Family(
        published=published,
        smaller=_smaller(channels, options | {"out_channels": channels}),
        weights=weights,
        write=write,
        output=_hub_output(_hub_network(options, weights)),
        levels=linear_levels(),
    )


def ddim(channels, **layout):
    """Those of the DDIM repository."""
    return ddpm(channels, published="ddpm-celeba64", write=functools.partial(in_list, **layout))


def _hub_network(options, weights):
    """The same network in diffusers."""
    config = ddpm_reference.diffusers_config(**options)
    network = diffusers.UNet2DModel(**{key: value for key, value in config.items() if not key.startswith("_")})
    network.load_state_dict(ddpm_reference.diffusers_weights(weights, len(options["multipliers"])))
    return network.eval().requires_grad_(False)


def _hub_output(network):
    network = network.double()

    def output(x, condition, labels):
        return network(x, torch.tensor(float(condition))).sample

    return output


SIZES_OF_HUB = ("sample_size", "in_channels", "out_channels", "block_out_channels", "layers_per_block")
SIZES_OF_HUB += ("down_block_types", "up_block_types")


def hub(channels, *, old=True):
    """A repository of the hub of 2022, or (``old=False``) as diffusers saves it today."""
    options = SMALL | {"in_channels": channels}
    network = _hub_network(options, random_weights(ddpm_reference.published_shapes(**options)))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    config = {key: value for key, value in dict(network.config).items() if key in SIZES_OF_HUB}
    smaller = _smaller(channels, {"config": {key: list(v) if isinstance(v, tuple) else v for key, v in config.items()}})
    if old:
        for new, name_then in ddpm_reference.OLD_NAMES.items():
            weights = {name.replace(new, name_then): value for name, value in weights.items()}
        write = functools.partial(saved, zipped=True)
    else:
        smaller |= {"file": "diffusion_pytorch_model.safetensors", "format": "safetensors"}
        write = functools.partial(_save_pretrained, network.config)
    output = _hub_output(network)
    facts = {"published": "ddpm-ema-cifar10-32", "smaller": smaller, "levels": linear_levels()}
    return Family(**facts, weights=weights, write=write, output=output)


def _save_pretrained(config, path, weights):
    network = diffusers.UNet2DModel.from_config(config)
    network.load_state_dict(weights)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        shutil.move(Path(folder) / path.name, path)


def adm(channels, *, published, levels=linear_levels, half=(), **options):
    """A U-Net of OpenAI's, its options as in the README of its repository but for the sizes.

    ``half``: beginnings of names of weights that are stored in half precision.
    """
    sizes = {key: options[key] for key in ("classes", "head_channels") if key in options}
    sizes |= SMALL | {"in_channels": channels}
    options = sizes | options
    weights = random_weights(adm_reference.shapes(options))
    weights = {name: value.half() if name.startswith(half) else value for name, value in weights.items()}
    return Family(
        published=published,
        smaller=_smaller(channels, sizes, **({"classes": CLASSES} if "classes" in sizes else {})),
        weights=weights,
        write=functools.partial(saved, zipped=True),
        output=adm_reference.Reference(weights, options).noise,
        levels=levels(),
    )


def openai_edm(channels, *, published, **options):
    """Consistency models and their teachers: ADM's U-Net behind EDM's preconditioning, its attention a 2-d convolution.

    The network multiplies c_noise by 4 and not by 1,000, of which single precision holds the angles to 1e-4 alone.
    """
    sizes = SMALL | {"in_channels": channels, "head_channels": 16, "index_scale": 4.0}
    sizes |= {"classes": CLASSES} if "classes" in options else {}
    options = sizes | {"resblock_updown": True, "learned_sigma": False, "new_attention_order": True, **options}
    weights = random_weights(adm_reference.shapes(options))
    return Family(
        published=published,
        smaller=_smaller(channels, sizes, **({"classes": CLASSES} if "classes" in sizes else {})),
        weights={name: value[..., None] if value.ndim == 3 else value for name, value in weights.items()},
        write=functools.partial(saved, zipped=True),
        output=adm_reference.Reference(weights, options).noise,
    )


def classifier(channels):
    """The noisy classifier of ImageNet-128."""
    sizes = SMALL | {"in_channels": channels, "head_channels": 16, "classes": CLASSES}
    options = sizes | {"resblock_updown": True}
    weights = random_weights(adm_reference.shapes(options, classifier=True), seed=1)
    reference = adm_reference.Reference(weights, options)

    def output(x, condition, labels):
        return reference.logits(x, condition)

    return Family(
        published="adm-imagenet128-classifier",
        smaller={"network": {"options": sizes}},
        weights=weights,
        write=functools.partial(saved, zipped=True),
        output=output,
    )


SONG = {"model_type": "SongUNet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "augment_dim": 9}
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}
DHARIWAL = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
HEAD_WIDTH = 8


def edm(channels, *, published, network=SONG, card=(), half=False, **options):
    """A pickle of EDM's; ``card``: options that the published card does not have, ``half``: it computes so on GPUs."""
    options = {"image_size": SIZE, "channels": channels, "attn_resolutions": [4], **network, **options}
    weights, adm = edm_layout.weights(options), options["model_type"] == "DhariwalUNet"
    sizes = ("model_channels", "channel_mult", "num_blocks", "attn_resolutions", "label_dim", *card)
    own = {key: options[key] for key in sizes if key in options} | {"image_shape": [channels, SIZE, SIZE]}
    smaller = _smaller(channels, own | ({"head_width": HEAD_WIDTH} if adm else {}))
    if "label_dim" in options:
        smaller["classes"] = options["label_dim"]

    def write(path, weights, *, sentinel=SENTINEL, **other):
        inner = {name.removeprefix("model."): value for name, value in weights.items()}
        edm_files.write(path, inner, options, sentinel=sentinel, use_fp16=half, **other)

    output = _edm_output(weights, options)
    weights = {f"model.{name}": value for name, value in weights.items()}
    return Family(published=published, smaller=smaller, weights=weights, write=write, output=output)


def _edm_output(weights, options):
    adm = options["model_type"] == "DhariwalUNet"
    reference = edm_reference.Reference(
        weights,
        adm=adm,
        taps=options.get("resample_filter", [1, 1]),
        head_width=HEAD_WIDTH if adm else None,
        attends=edm_layout.attending(options),
    )
    sizes, _ = edm_layout.levels(options)
    layout = {"sizes": sizes, "depth": options["num_blocks"], "encoder": options.get("encoder_type", "standard")}

    def output(x, condition, labels):
        hot = None if labels is None else torch.eye(options["label_dim"], dtype=torch.float64)[labels]
        return reference(x, torch.full((len(x),), condition, dtype=torch.float64), hot, **layout)

    return output


ADM_HALF = ("input_blocks", "middle_block", "output_blocks")
FAMILIES = {
    "ddpm-cifar10": ddpm,
    "ddpm-celeba64": ddim,
    "ddpm-celeba64, zip": functools.partial(ddim, zipped=True, prefix="module."),
    "iddpm-imagenet64": functools.partial(
        adm, published="iddpm-imagenet64", levels=cosine_levels, heads=4, index_scale=0.25
    ),
    "adm-imagenet128": functools.partial(
        adm, published="adm-imagenet128", half=ADM_HALF, heads=4, resblock_updown=True, classes=CLASSES
    ),
    "adm-imagenet128-classifier": classifier,
    "adm-bedroom256": functools.partial(adm, published="adm-bedroom256", head_channels=16, resblock_updown=True),
    "edm-cifar10-uncond": functools.partial(edm, published="edm-cifar10-uncond"),
    "edm-cifar10-cond": functools.partial(edm, published="edm-cifar10-cond", label_dim=CLASSES),
    "edm-cifar10-uncond, NCSN++": functools.partial(edm, published="edm-cifar10-uncond", card=NCSNPP, **NCSNPP),
    "edm-ffhq64": functools.partial(edm, published="edm-ffhq64"),
    "edm-afhqv2": functools.partial(edm, published="edm-afhqv2"),
    "edm-imagenet64": functools.partial(
        edm, published="edm-imagenet64", network=DHARIWAL, label_dim=CLASSES, half=True
    ),
    **{
        name: functools.partial(openai_edm, published=name, classes=CLASSES)
        for name in ("edm-openai-imagenet64", "cd-imagenet64-l2", "cd-imagenet64-lpips", "ct-imagenet64")
    },
    **{
        name: functools.partial(openai_edm, published=name, scale_shift_norm=False)
        for name in ("edm-openai-bedroom256", "cd-bedroom256-l2", "cd-bedroom256-lpips", "ct-bedroom256")
    },
    "ddpm-ema-cifar10-32": hub,
    "ddpm-ema-cifar10-32, safetensors": functools.partial(hub, old=False),
}


def denoised(family, x, sigma, labels, *, index=None, guided_by=None, scale=None):
    """``D(x; sigma)`` by the published equations, float64.

    Args:
        family: whose network.
        x: (B, C, H, W) float64.
        sigma: the noise level.
        labels: (B,) or None.
        index: of the noise level in the schedule, for a noise-prediction model.
        guided_by: a classifier's family, ``scale`` the factor on its gradient.
    """
    if index is None:  # Karras et al. 2022, table 1, with their standard deviation of the data
        total = math.hypot(sigma, 0.5)
        output = family.output(x / total, math.log(sigma) / 4, labels)
        if family.card["preconditioning"]["name"] == "consistency":  # Song et al. 2023, appendix C
            above = sigma - 0.002
            return 0.25 / (above**2 + 0.25) * x + above * 0.5 / total * output
        return (0.5 / total) ** 2 * x + sigma * 0.5 / total * output
    abar = 1 / (1 + sigma**2)
    x_vp = math.sqrt(abar) * x
    noise = family.output(x_vp, index, labels)
    if guided_by is not None:  # Dhariwal & Nichol 2021, algorithm 2
        with torch.enable_grad():
            leaf = x_vp.clone().requires_grad_()
            log_p = guided_by.output(leaf, index, None).log_softmax(1)
            (gradient,) = torch.autograd.grad(log_p[range(len(x)), labels].sum(), leaf)
        noise = noise - math.sqrt(1 - abar) * scale * gradient
    return (x_vp - math.sqrt(1 - abar) * noise) / math.sqrt(abar)
