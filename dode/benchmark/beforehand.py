"""What is tried once before a run's jobs, because each would fail: the device, networks as cards describe them, images.

Device and networks need torch, which the process that runs Snakemake does not import; they are tried in another one.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dode.benchmark import elsewhere
from dode.benchmark.cells import Benchmark
from dode.images import data
from dode.validation import ConfigError


def check(benchmark: Benchmark, *, local: bool, say: Callable[[str], object]) -> None:
    """Refuse what no job could use.

    Args:
        benchmark: the checked configuration.
        local: whether jobs run on this machine, so that they have its devices.
        say: called with a line before what may take a while.

    Raises:
        ConfigError: in one sentence with the key or the file.
    """
    device = benchmark.config["execution"]["device"]
    cards = {name: card for name, card in benchmark.cards.items() if "network" in card}
    task = {"device": device if local and device.startswith("cuda") else None, "cards": cards}
    command = [sys.executable, "-m", __name__, json.dumps(task)]
    tried = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    # Without torch here, as where jobs have a conda environment, it ends otherwise, and the jobs say what is wrong.
    if tried.returncode == 0 and tried.stdout:
        raise ConfigError(json.loads(tried.stdout))
    elsewhere.refuse_unreadable(benchmark)
    _check_images(benchmark, say)


def _check_images(benchmark: Benchmark, say: Callable[[str], object]) -> None:
    """Decode the images of files whose statistics are not made yet."""
    for dataset in benchmark.with_data():
        source, real = dataset["data"], benchmark.real(dataset)
        made = Path(benchmark.results, "real", real["data"], f"{real['features']}.npz")
        if made.exists() or not data.files(source):
            continue
        try:
            images, _ = data.load(source, benchmark.image_shape(dataset["id"]))
            say(f"Looking at the {len(images)} images of {data.described(source)}")
            for index in range(len(images)):
                images[index : index + 1]
        except (ValueError, OSError) as error:
            raise ConfigError(f"data of {dataset['id']}: {error}") from None


def fault(task: Mapping[str, Any]) -> str | None:
    """What is wrong in a sentence, or None; imports torch.

    Args:
        task: ``device``, the setting or None, and ``cards`` by name.
    """
    from dode.benchmark import devices

    device = task["device"] or "auto"
    found = None if devices.is_here(device) else devices.missing(device)
    for name, card in task["cards"].items():
        found = found or _fault_of_network(name, card)
    return found


def _fault_of_network(name: str, card: Mapping[str, Any]) -> str | None:
    """What is wrong with the network of a card, which is made and called without weights."""
    import torch

    from dode.models.networks import networks

    network, place = card["network"], f"config/models/{name}.yaml"
    if card["role"] in ("features", "prompt-score") and network["name"] not in networks.names():
        return None  # it is no network of this package, and the schema of cards has its options
    made = None
    try:
        # What a network computes as it is made, a device without memory cannot; a job can.
        with torch.device("meta"), contextlib.suppress(NotImplementedError):
            made = networks.create(network["name"], **network["options"])
    except Exception as error:  # of many kinds, from whatever a network makes of a number or a text
        return f"{place}: network.options: {error}"
    return _fault_of_call(place, card, made) if card["role"] == "diffusion" and made is not None else None


def _fault_of_call(place: str, card: Mapping[str, Any], network: Any) -> str | None:
    """What is wrong as the network is called for two of the card's images."""
    import torch

    from dode.models import conditions, loading

    x = torch.empty(2, *card["image_shape"], device="meta")
    try:
        denoise = loading.of_card(card, network.to("meta"), classes=card.get("classes"))
        if "classes" in card:
            denoise.conditions = conditions.Conditions.of_classes(torch.zeros(2, dtype=torch.int64, device="meta"))
        denoised = denoise(x, torch.tensor(1.0, dtype=torch.float64))
    except NotImplementedError:
        return None  # something that can only be computed with numbers
    except Exception as error:  # of many kinds, as above
        text = " ".join(str(error).split())
        if "meta" in text:  # as above; torch has no error of its own for it
            return None
        return f"{place}: network: called for images {card['image_shape']} it fails: {text[:300]}"
    if denoised.shape != x.shape:
        return (
            f"{place}: image_shape: {card['image_shape']}, but for such images the network puts out "
            f"{list(denoised.shape[1:])}"
        )
    return None


if __name__ == "__main__":
    sentence = fault(json.loads(sys.argv[1]))
    if sentence:
        print(json.dumps(sentence))
