"""Begin a benchmark of your own model: a card and a configuration, from what its checkpoint says of itself.

A checkpoint is a folder of diffusers (a UNet2DModel, or a pipeline), owner/name of the Hugging Face hub, EDM's pickle,
or a file of a published name. Without one, you are asked for it and for the rest. Weights that are on this machine are
tried on images (check-model) and timed; then the plan is printed. Nothing that is there is overwritten.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from dode.commands import check_model, plan
from dode.fetching import places

IMAGES = 500
NFE = (5, 8, 10)
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}"
ROOT = places.workflow()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All that can be asked for."""
    parser.add_argument("checkpoint", nargs="?", help="folder, file, or owner/name[@revision] on the hub")
    parser.add_argument("--name", help="of card, configuration and results (default: the checkpoint's)")
    parser.add_argument(
        "--data",
        help="real images for the FID, of the size that the model makes: a folder, a zip file or digits "
        "(default: those of this size that this project knows; of a pipeline none, which the FID alone needs)",
    )
    parser.add_argument("--nfe", type=int, nargs="+", help="numbers of network evaluations (default: 5 8 10)")
    parser.add_argument(
        "--images",
        type=int,
        help=f"scored images per seed (default: {IMAGES}, of fewer prompts as many as fitting leaves)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--prompts", help="of a text-to-image pipeline: a file with a prompt a line")
    parser.add_argument("--licence", help="of the weights (default: what the hub says)")
    parser.add_argument("--prediction", help="what the network outputs, where the checkpoint does not say")
    parser.add_argument("--schedule", help="name of its noise schedule, where the checkpoint does not say")
    parser.add_argument("--no-check", action="store_true", help="do not try the weights")


def run(options: argparse.Namespace) -> int:
    """Identify, write, try, plan. Exit status 1 where the model does not denoise."""
    from dode import texts
    from dode.fetching import identified

    if options.checkpoint is None:
        _ask(options)
    found = identified.identify(options.checkpoint)
    print(texts.shown(f"{options.checkpoint} is {found.kind}."))
    name = options.name or _name_of(options.checkpoint)
    paths, written = _paths(name), list[Path]()
    try:
        known = _card(name, {**found.card, **_given(options)}, found.kind, paths[0], written)
        _configuration(name, known, paths, written, options)
    except (ValueError, OSError):
        for path in written:
            path.unlink()
        raise
    print(texts.shown(f"Written, with comments: {', '.join(map(str, written))}"))
    status = 0
    if found.is_local and not options.no_check:
        status = _tried(name, known, options, paths[1])
    print()
    plan.run(argparse.Namespace(config=paths[1], gpus=1))
    print()
    print(texts.shown(f"Next: python -m dode run {paths[1]}   The page will be results/{name}/index.html."))
    return status


def _ask(options: argparse.Namespace) -> None:
    """Fill in on the terminal what no option says."""
    if not sys.stdin.isatty():
        raise ValueError("checkpoint: name one; allowed: a folder, a file, or owner/name on the Hugging Face hub")
    while not options.checkpoint:
        options.checkpoint = input("Checkpoint (a folder, a file, or owner/name on the Hugging Face hub): ").strip()
    if options.name is None:
        own = _name_of(options.checkpoint)
        options.name = input(f"Name of card, configuration and results [{own}]: ").strip() or own
    if options.data is None:
        options.data = input("Real images (a folder or a zip file; empty for this project's): ").strip() or None
    while options.nfe is None:
        answer = input(f"Numbers of network evaluations [{' '.join(map(str, NFE))}]: ").split()
        if all(re.fullmatch("[1-9][0-9]{0,4}", each) for each in answer):
            options.nfe = [int(each) for each in answer] or [*NFE]


def _name_of(checkpoint: str) -> str:
    """A name that can be that of files and folders, from the checkpoint's own."""
    last = Path(checkpoint.split("@")[0].rstrip("/")).resolve().stem if "/" not in checkpoint else Path(checkpoint).name
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", last.split("@")[0]).strip("-.").lower()
    return re.sub(r"\.(safetensors|pkl|pt|pth|ckpt|bin)$", "", text)[:60] or "model"


def _paths(name: str) -> tuple[Path, Path]:
    """Where card and configuration go; refuses what is there."""
    from dode.fetching import cards

    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"--name: {name!r} is not allowed; allowed: letters, digits and . _ + -, a letter or digit first"
        )
    if name in cards.names(ROOT):
        raise ValueError(f"--name: there is a card '{name}' already; choose another name")
    folder = Path(os.path.relpath(places.own(ROOT))) / "config"
    paths = folder / "models" / f"{name}.yaml", folder / f"{name}.yaml"
    if paths[1].exists():
        raise ValueError(f"--name: {paths[1]} is there already; choose another name")
    return paths


def _given(options: argparse.Namespace) -> dict[str, Any]:
    given = {"licence": options.licence, "prediction": options.prediction}
    found: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return found | ({"schedule": {"name": options.schedule}} if options.schedule else {})


def _card(name: str, own: dict[str, Any], kind: str, path: Path, written: list[Path]) -> dict[str, Any]:
    """Write the card, read it back with all that it leaves out."""
    from dode.benchmark import drafts
    from dode.fetching.cards import load_card
    from dode.validation import ConfigError

    _write(path, drafts.card(own, own, kind), written)
    try:
        known = load_card(ROOT, name, "card")
    except ConfigError as error:
        hint = ""
        if "'prediction' is missing" in str(error) or "'schedule' is missing" in str(error):
            hint = (
                "; the checkpoint does not say it: --prediction epsilon --schedule linear, or what it was trained with"
            )
        raise ValueError(f"{error}{hint}") from None
    path.write_text(drafts.card(own, known, kind), encoding="utf-8")
    return known


def _write(path: Path, text: str, written: list[Path]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    written.append(path)


def _configuration(
    name: str, known: dict[str, Any], paths: tuple[Path, Path], written: list[Path], options: argparse.Namespace
) -> None:
    """Write the configuration, checked."""
    from dode.benchmark import drafts
    from dode.benchmark.cells import Benchmark
    from dode.validation import from_home, read_mapping

    against = drafts.real(known, options.data and from_home(options.data), ROOT)
    prompts = options.prompts
    if "pipeline" in known:
        against |= drafts.guidance(known)
        if prompts is None and "classes" not in known:
            prompts = str(paths[1].parent / "prompts" / f"{name}.txt")
            scenes = ROOT / "config" / "prompts" / "scenes.txt"
            _write(Path(prompts), scenes.read_text(encoding="utf-8"), written)
    how: dict[str, Any] = {"images": _images(options.images, prompts), "seeds": options.seeds, "prompts": prompts}
    _write(paths[1], drafts.configuration(name, known, against, path=paths[1], nfe=options.nfe or NFE, **how), written)
    Benchmark(read_mapping(paths[1]), ROOT)


def _images(given: int | None, prompts: str | None) -> int:
    """How many images are scored: as many as given, or as there are prompts for besides those that are fitted on."""
    from dode.distillation.fit_checks import JOINT_IMAGES
    from dode.images import prompts as files
    from dode.validation import from_home

    if given is not None or prompts is None:
        return IMAGES if given is None else given
    return min(IMAGES, max(len(files.read(from_home(prompts))) - JOINT_IMAGES, 2))


def _tried(name: str, known: dict[str, Any], options: argparse.Namespace, path: Path) -> int:
    """Try weights that are here on images, and time them for the plan; the exit status."""
    from dode.benchmark import devices, drafts, weights
    from dode.models import checking, loading
    from dode.validation import read_mapping

    if "pipeline" in known:
        print("The weights are not tried, as check-model is for networks of images and not of latents.")
        return 0
    data, status = options.data, 0
    if data is None and "statistics" in (dataset := read_mapping(path)["datasets"][0]):
        own = check_model.statistics_of(dataset["statistics"])  # which may have images in it
        data = None if own is None else str(own)
    print()
    try:
        status = check_model.run(argparse.Namespace(card=name, data=data, images=None, device="auto"))
    except ValueError as error:
        if not str(error).startswith("--data: "):
            raise
        print(f"The weights are not tried: {str(error).removeprefix('--data: ')}")
    batch = drafts.batch(known)
    denoise = loading.load(known, weights.obtained(name, known, ROOT), device=devices.device("auto"), batch_size=batch)
    speed = checking.speed(denoise, known["image_shape"], batch, known.get("classes"))
    with path.open("a", encoding="utf-8") as file:
        file.write(
            f"  evaluations_per_second: {speed:.3g} # measured by init, on this machine; gives the plan its hours\n"
        )
    return status
