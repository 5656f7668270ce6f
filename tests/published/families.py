"""One small model of each published family: its file with random weights, its card, and its output by other code."""

import dataclasses
import functools
import json
import math
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

import adm_reference
import ddpm_reference
import edm_files
import edm_layout
import edm_reference
from dode import torchvision_operators
from published_files import ddim_list
from published_weights import random_weights

torchvision_operators.declare()

import diffusers  # noqa: E402 - after the operators that it wants


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A model.

    Args:
        file: the published name of its checkpoint.
        card: all keys but ``urls`` and what is known of the file's bytes.
        weights: what the file holds, by the published names.
        write: ``write(path, weights)``.
        output: ``output(x, condition, labels)``, float64: what the network shall compute, by code that is not dode's;
            the condition is a number, labels are (B,) or None.
        classifier: the one that guides it.
    """

    file: str
    card: dict
    weights: dict
    write: Callable
    output: Callable
    classifier: "Family | None" = None


SIZE, CLASSES = 8, 5
SMALL = {"image_size": SIZE, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}
LINEAR = {"name": "linear", "steps": 1000}


def _card(role, network, options, **more):
    return {"role": role, "licence": "MIT", "network": {"name": network, "options": options}, **more}


def _noise_card(channels, network, options, *, schedule=LINEAR, **more):
    more |= {"image_shape": [channels, SIZE, SIZE], "prediction": "noise", "schedule": schedule}
    return _card("diffusion", network, options, **{"format": "torch", **more})


def saved(path, value, *, zipped=False):
    """As torch wrote until 1.5 (2020), or since in a zip archive."""
    torch.save(value, path, _use_new_zipfile_serialization=zipped)


def in_list(path, weights, *, zipped=False, prefix=""):
    """As the DDIM repository saves a training: the averaged weights last; ``prefix`` stands before their names."""
    *training, ema = ddim_list(weights)
    saved(path, [*training, {f"{prefix}{name}": value for name, value in ema.items()}], zipped=zipped)


def ddpm(channels, *, file="ema_diffusion_cifar10_model/model-790000.ckpt", write=saved, **card):
    """The authors' weights as pesser/pytorch_diffusion has them."""
    options = SMALL | {"in_channels": channels}
    weights = OrderedDict(random_weights(ddpm_reference.published_shapes(**options)))
    network = _hub_network(options)
    card = _noise_card(channels, "ddpm-unet", options | {"out_channels": channels}, **card)
    return Family(file=file, card=card, weights=weights, write=write, output=_hub_output(network))


def ddim(channels, **layout):
    """CelebA's of ermongroup/ddim."""
    return ddpm(channels, file="ckpt.pth", key=-1, write=functools.partial(in_list, **layout))


def _hub_network(options):
    """The same network in diffusers."""
    config = ddpm_reference.diffusers_config(**options)
    network = diffusers.UNet2DModel(**{key: value for key, value in config.items() if not key.startswith("_")})
    weights = random_weights(ddpm_reference.published_shapes(**options))
    network.load_state_dict(ddpm_reference.diffusers_weights(weights, len(options["multipliers"])))
    return network.eval().requires_grad_(False)


def _hub_output(network):
    network = network.double()

    def output(x, condition, labels):
        return network(x, torch.tensor(float(condition))).sample

    return output


def hub(channels):
    """A repository of the hub as diffusers saves it."""
    network = _hub_network(SMALL | {"in_channels": channels})

    def write(path, weights):
        made = diffusers.UNet2DModel.from_config(network.config)
        made.load_state_dict(weights)
        with tempfile.TemporaryDirectory() as folder:
            made.save_pretrained(folder)
            shutil.move(Path(folder) / path.name, path)

    return _hub(channels, network, network.state_dict(), "diffusion_pytorch_model.safetensors", write, "safetensors")


def old_hub(channels):
    """One of 2022, as google/ddpm-cifar10-32."""
    network = _hub_network(SMALL | {"in_channels": channels})
    weights = network.state_dict()
    for new, old in ddpm_reference.OLD_NAMES.items():
        weights = {name.replace(new, old): value for name, value in weights.items()}
    write = functools.partial(saved, zipped=True)
    return _hub(channels, network, weights, "diffusion_pytorch_model.bin", write, "torch")


def _hub(channels, network, weights, file, write, kind):
    weights = {name: value.clone() for name, value in weights.items()}
    config = json.loads(network.to_json_string())
    card = _noise_card(channels, "diffusers-unet2d", {"config": config}, format=kind)
    return Family(file=file, card=card, weights=weights, write=write, output=_hub_output(network))


def _adm(channels, file, options, *, schedule=LINEAR, half=(), **more):
    """``half``: the beginnings of names whose weights are stored in half precision."""
    options = SMALL | {"in_channels": channels} | options
    weights = _halved(random_weights(adm_reference.shapes(options)), half)
    reference = adm_reference.Reference(weights, options)
    card = _noise_card(channels, "adm-unet", options, schedule=schedule)
    if "classes" in options:
        card["classes"] = options["classes"]
    more |= {"write": functools.partial(saved, zipped=True), "weights": weights}
    return Family(file=file, card=card, output=reference.noise, **more)


def _halved(weights, beginnings):
    return {name: value.half() if name.startswith(tuple(beginnings)) else value for name, value in weights.items()}


def improved_ddpm(channels):
    """Unconditional ImageNet-64 of Nichol & Dhariwal 2021: cosine schedule of 4,000 steps, trained on 0 to 1,000."""
    options = {"heads": 4, "index_scale": 0.25, "multipliers": [1, 2]}
    return _adm(channels, "imagenet64_uncond_100M_1500K.pt", options, schedule={"name": "cosine", "steps": 4000})


def guided(channels):
    """Class-conditional ImageNet-128 of Dhariwal & Nichol 2021, with its classifier."""
    options = {"heads": 4, "resblock_updown": True, "classes": CLASSES}
    half = ("input_blocks", "middle_block", "output_blocks")
    return _adm(channels, "128x128_diffusion.pt", options, half=half, classifier=classifier(channels))


def classifier(channels):
    """The noisy classifier of ImageNet-128."""
    options = SMALL | {"in_channels": channels, "head_channels": 16, "resblock_updown": True, "classes": CLASSES}
    weights = random_weights(adm_reference.shapes(options, classifier=True), seed=1)
    reference = adm_reference.Reference(weights, options)

    def output(x, condition, labels):
        return reference.logits(x, condition)

    card = _card("classifier", "adm-classifier", options, format="torch")
    write = functools.partial(saved, zipped=True)
    return Family(file="128x128_classifier.pt", card=card, weights=weights, write=write, output=output)


def bedroom(channels):
    """Unconditional LSUN Bedroom of Dhariwal & Nichol 2021."""
    return _adm(channels, "lsun_bedroom.pt", {"head_channels": 16, "resblock_updown": True, "dropout": 0.1})


SONG = {"model_type": "SongUNet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "augment_dim": 9}
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}
DHARIWAL = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
HEAD_WIDTH = 8
EDM_NETWORKS = {"SongUNet": "edm-song-unet", "DhariwalUNet": "edm-dhariwal-unet"}


def _edm(channels, file, options, *, sentinel="a-file-that-no-reading-makes", precond=None):
    options = {"image_size": SIZE, "channels": channels, "attn_resolutions": [4], **options}
    weights, adm = edm_layout.weights(options), options["model_type"] == "DhariwalUNet"
    own = {key: value for key, value in options.items() if key not in ("model_type", "image_size", "channels")}
    own |= {"image_shape": [channels, SIZE, SIZE]} | ({"head_width": HEAD_WIDTH} if adm else {})
    card = _card("diffusion", EDM_NETWORKS[options["model_type"]], own, format="edm-pickle", key="ema")
    card |= {"image_shape": own["image_shape"], "prediction": "data", "restrictions": "non-commercial"}
    card |= {"preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_min": 0.002, "sigma_max": 80.0}
    if "label_dim" in options:
        card["classes"] = options["label_dim"]

    def write(path, weights, **more):
        inner = {name.removeprefix("model."): value for name, value in weights.items()}
        edm_files.write(path, inner, options, **{"sentinel": sentinel, "precond": precond, **more})

    weights = {f"model.{name}": value for name, value in weights.items()}
    return Family(file=file, card=card, weights=weights, write=write, output=_edm_output(weights, options))


def _edm_output(weights, options):
    adm = options["model_type"] == "DhariwalUNet"
    reference = edm_reference.Reference(
        {name.removeprefix("model."): value for name, value in weights.items()},
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


def edm_unconditional(channels):
    """CIFAR-10 without classes, DDPM++."""
    return _edm(channels, "edm-cifar10-32x32-uncond-vp.pkl", SONG)


def edm_conditional(channels):
    """CIFAR-10 with classes, DDPM++."""
    return _edm(channels, "edm-cifar10-32x32-cond-vp.pkl", SONG | {"label_dim": CLASSES})


def edm_ncsnpp(channels):
    """CIFAR-10 without classes, NCSN++."""
    return _edm(channels, "edm-cifar10-32x32-uncond-ve.pkl", SONG | NCSNPP)


def edm_imagenet(channels):
    """ImageNet-64 with classes, ADM, trained in half precision."""
    options = DHARIWAL | {"label_dim": CLASSES}
    return _edm(channels, "edm-imagenet-64x64-cond-adm.pkl", options, precond={"use_fp16": True})


FAMILIES = {
    "ddpm": ddpm,
    "ddim": ddim,
    "ddim-zip": functools.partial(ddim, zipped=True, prefix="module."),
    "improved-ddpm": improved_ddpm,
    "adm-guided": guided,
    "adm-classifier": classifier,
    "adm-bedroom": bedroom,
    "edm-unconditional": edm_unconditional,
    "edm-conditional": edm_conditional,
    "edm-ncsnpp": edm_ncsnpp,
    "edm-imagenet": edm_imagenet,
    "hub": hub,
    "hub-of-2022": old_hub,
}


def levels(schedule):
    """The noise levels ``sqrt(1 / abar - 1)`` of a schedule's indices, float64, from its paper's definition."""
    steps = schedule["steps"]
    if schedule["name"] == "linear":  # Ho et al. 2020, section 4
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    else:  # Nichol & Dhariwal 2021, equation 17
        times = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 / (1 - betas).cumprod(0) - 1).sqrt()


def denoised(family, x, sigma, labels, *, index=None, scale=None):
    """``D(x; sigma)`` by the published equations, float64.

    Args:
        family: whose network.
        x: (B, C, H, W) float64.
        sigma: the noise level.
        labels: (B,) or None.
        index: of the noise level in the schedule, for a noise-prediction model.
        scale: of the gradient of the family's classifier; None for no guidance.
    """
    if index is None:  # Karras et al. 2022, table 1
        spread = family.card["preconditioning"]["sigma_data"]
        c_skip = spread**2 / (sigma**2 + spread**2)
        c_out, c_in = sigma * spread / math.hypot(sigma, spread), 1 / math.hypot(sigma, spread)
        return c_skip * x + c_out * family.output(c_in * x, math.log(sigma) / 4, labels)
    abar = 1 / (1 + sigma**2)
    x_vp = math.sqrt(abar) * x
    noise = family.output(x_vp, index, labels)
    if scale is not None:  # Dhariwal & Nichol 2021, algorithm 2
        with torch.enable_grad():
            leaf = x_vp.clone().requires_grad_()
            log_p = family.classifier.output(leaf, index, None).log_softmax(1)
            (gradient,) = torch.autograd.grad(log_p[range(len(x)), labels].sum(), leaf)
        noise = noise - math.sqrt(1 - abar) * scale * gradient
    return (x_vp - math.sqrt(1 - abar) * noise) / math.sqrt(abar)
