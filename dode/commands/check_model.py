"""Is a card right? It is held against its network and its file, and the model must denoise real images.

What a file does not say (the order of attention's channels, the scale of the index, ...) loads without a word where a
card is wrong, but the network then computes something else. Noise is added to a few real images, and the error of the
model's estimate must be at most 0.8 of chance (of the best guess from each pixel's mean and variance alone; at noise
level 3, where little is left to know, 1.05), and must not fall if the model is told 0.7 or 1.4 times the noise level.
At a card's sigma_min next to no noise may be left, and at its sigma_max the model may know next to nothing of an image.
The checkpoint is fetched if it is not here, and converted again if it was converted for another card than that of now.
Exit status 1 if something is wrong.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from dode.fetching import places

ROOT = places.workflow()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which card, on which images."""
    parser.add_argument("card", help="name of a card in config/models with the role diffusion")
    parser.add_argument(
        "--data",
        help="images like those that the model was trained on: a name in dode/images/data.py, a folder, a zip file, or "
        "an .npz file with arr_0 (default: those of the card's statistics, or scikit-learn's digits or photographs)",
    )
    parser.add_argument("--images", type=int, help="how many (default: 4 to 128, by their size)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<number> (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print what was found."""
    import torch

    from dode import models, texts
    from dode.benchmark import devices, weights
    from dode.images import examples, pixels
    from dode.models import checking

    card = _card(options.card)
    if options.images is not None and not 2 <= options.images <= 10_000:
        raise ValueError(f"--images: {options.images} is not allowed; allowed: 2 to 10000")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise ValueError(f"--device: '{options.device}' is not allowed; allowed: auto, cpu, cuda or cuda:<number>")
    if not devices.is_here(options.device):
        raise ValueError(devices.missing(options.device, "--device"))
    device = devices.device(options.device)
    try:
        own = examples.of_card(
            card, named=options.data, statistics=statistics_of(card.get("statistics")), count=options.images
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"--data: {error}") from None
    # Flags are to be told apart, not roundings, and CPUs are slow in half precision.
    model = models.load(
        {**card, "precision": {}}, weights.obtained(options.card, card, ROOT), device=device, batch_size=32
    )
    x = torch.from_numpy(pixels.from_bytes(own.images)).double().to(device)
    labels = None
    if "classes" in card:
        labels = torch.arange(len(x)) if own.labels is None else torch.from_numpy(own.labels)
        labels = labels % card["classes"]
    margins, slack = (checking.MARGINS, 0.0) if own.alike else (checking.LOCAL_MARGINS, checking.LOCAL_SLACK)
    found = checking.levels(model, x, labels, margins)
    if not found:
        raise ValueError(
            f"{options.card}: its noise levels, {model.facts.sigma_min:g} to {model.facts.sigma_max:g}, have none of "
            f"{', '.join(map(str, margins))} within them, at which a model is tried"
        )
    faults = [level.fault(margins[level.sigma], slack) for level in found]
    if "sigma_min" in card:
        least, most = checking.ends(model, x, labels)
        found += [least, most]
        faults += [least.fault_of_least(), most.fault_of_most(noise=card["prediction"] == "noise", alike=own.alike)]
    print(texts.shown(f"{options.card}: {card['network']['name']}, {len(x)} images of {own.whose}", lines=True))
    print(_table(found, faults))
    if any(faults):
        print("\nWRONG: it does not denoise as a trained model does. Is the card right, and are these its images?")
        return 1
    print("\nRight: the card agrees with its network and its file, and the model denoises.")
    return 0


def _card(name: str) -> dict[str, Any]:
    from dode.fetching import cards

    if name != Path(name).name or name.endswith((".yaml", ".yml")):
        known = ", ".join(cards.names(ROOT))
        raise ValueError(
            f"card: '{name}' is a path; allowed: the name of a card in config/models, without .yaml: {known}"
        )
    card = cards.load_card(ROOT, name, "card")
    if card["role"] != "diffusion":
        raise ValueError(f"card: '{name}' has the role '{card['role']}'; allowed: a card with the role 'diffusion'")
    if "pipeline" in card:
        raise ValueError(
            f"card: '{name}' is of a pipeline, which denoises latents and not images; allowed: a card with a network"
        )
    if card.get("preconditioning", {}).get("name") == "consistency":
        raise ValueError(
            f"card: '{name}' is of a consistency model, which makes images and does not denoise; allowed: a diffusion "
            "model's"
        )
    return card


def _table(found, faults):
    lines = ["| noise level | error / chance | told 0.7 times | told 1.4 times | |", "|--:|--:|--:|--:|:--|"]
    for level, fault in zip(found, faults, strict=True):
        ratios = [level.error / level.chance, *(told / level.error for told in level.told)]
        cells = [f"{ratio:.3f}" for ratio in ratios] + [""] * (3 - len(ratios))
        lines.append(f"| {level.sigma:g} | {' | '.join(cells)} | {fault or 'right'} |")
    return "\n".join(lines)


def statistics_of(name: str | None) -> Path | None:
    """The file of a card of statistics, if it lies beside its card; it may have images."""
    from dode.fetching.cards import file_name, folder_of, load_card

    if name is None:
        return None
    statistics = load_card(ROOT, name, "statistics")
    path = folder_of(ROOT, name) / file_name(statistics)
    return path if statistics["urls"][0] == f"file:{path.name}" and path.is_file() else None
