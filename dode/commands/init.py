"""Begin a benchmark of your own model: a card and a configuration, from what its checkpoint says of itself.

A checkpoint is a folder of diffusers (a UNet2DModel, or a pipeline), owner/name of the Hugging Face hub, EDM's pickle,
or a file of a published name. Without one, you are asked for it and for the rest. Weights that are on this machine are
tried on images (check-model) and timed; then the plan is printed. Everything is written below config/ of the current
folder, and nothing that is there is overwritten.
"""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dode.commands import check_model, plan
from dode.fetching import places

IMAGES = 500
NFE = (5, 8, 10)
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}"
#: The options that values of the configuration come from.
#: What a card lacks where the checkpoint does not say it, with the options that do.
MISSING = {
    "image_shape": "--image-shape 3 1024 1024, or the channels, height and width that it makes",
    "prediction": "--prediction epsilon --schedule linear, or what it was trained with",
    "schedule": "--prediction epsilon --schedule linear, or what it was trained with",
}
OPTIONS = {r"datasets\[0\]\.(images|seeds|prompts|data|features)[^:]*": r"--\1", r"solvers\[\d+\]\.(nfe)[^:]*": r"--\1"}
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
    parser.add_argument(
        "--features",
        help="card of what images are scored by (default: this project's classifiers of digits, else inception-clean, "
        "which is downloaded); none, of a pipeline: only scores that need none, without paired FID and FID",
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
    parser.add_argument(
        "--image-shape",
        type=int,
        nargs=3,
        metavar=("CHANNELS", "HEIGHT", "WIDTH"),
        help="of its images, where the checkpoint does not say (FLUX: 3 1024 1024), or another one that it can make",
    )
    parser.add_argument("--no-check", action="store_true", help="do not try the weights")


def run(options: argparse.Namespace) -> int:
    """Identify, write, try, plan. Exit status 1 where the model does not denoise."""
    from dode import texts
    from dode.fetching import identified

    _check(options)
    if options.checkpoint is None:
        _ask(options)
        _check(options)
    if options.name is not None:
        _paths(options.name)
    found = identified.identify(options.checkpoint)
    print(texts.shown(f"{options.checkpoint} is {found.kind}."))
    name = options.name or _name_of(options.checkpoint)
    paths = _paths(name)
    with _drafts() as drafts:
        known = _card(name, {**found.card, **_given(options)}, found.kind, paths[0], drafts)
        _configuration(name, known, paths, drafts, options)
    print(texts.shown(f"Written, with comments: {', '.join(map(str, drafts))}"))
    status = 0
    if found.is_local and not options.no_check:
        status = _tried(name, known, options, paths[1])
    print()
    plan.run(argparse.Namespace(config=paths[1], gpus=1))
    print()
    print(texts.shown(f"Next: python -m dode run {paths[1]}   The page will be results/{name}/index.html."))
    return status


def _check(options: argparse.Namespace) -> None:
    """Refuse values that no configuration could have, before anything is read."""
    from dode.benchmark import drafts
    from dode.images import prompts
    from dode.validation import from_home

    images = [] if options.images is None else [options.images]
    shape = options.image_shape or []
    limits = (
        *(("nfe", options.nfe or [], 1, 100_000), ("seeds", [options.seeds], 1, 1000), ("images", images, 2, None)),
        ("image-shape", shape, 1, None),
    )
    for option, values, least, most in limits:
        for value in values:
            if value < least or (most is not None and value > most):
                allowed = f"at least {least}" if most is None else f"{least} to {most}"
                raise ValueError(f"--{option}: {value} is not allowed; allowed: {allowed}")
    for value in options.nfe or []:
        if options.nfe.count(value) > 1:
            raise ValueError(f"--nfe: {value} is given twice")
    if options.data is not None:
        drafts.check_data(from_home(options.data))
    if options.prompts is not None:
        try:
            prompts.read(from_home(options.prompts))
        except ValueError as error:
            raise ValueError(f"--prompts: {error}") from None


@contextlib.contextmanager
def _drafts() -> Iterator[dict[Path, Path]]:
    """Drafts by the files that they are of, under other names: what is cut off before all are written takes none.

    The configuration's is renamed last. So what is cut off between two renames leaves it beside the card, and an init
    that writes the same card again goes on from there.
    """
    found: dict[Path, Path] = {}
    try:
        yield found
        todo = [path for path, draft in found.items() if not _is(path, draft)]
        for path in todo:
            _require_free(path, ", and not as this init writes it; delete it if one that was cut off left it, or")
        for path in todo:
            found[path].rename(path)
    finally:
        for draft in found.values():
            draft.unlink(missing_ok=True)


def _is(path: Path, draft: Path) -> bool:
    """Whether a file is there already, with the text of the draft."""
    return path.exists() and path.read_bytes() == draft.read_bytes()


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.stem}{places.DRAFT}{path.suffix}")


def _write(path: Path, text: str, drafts: dict[Path, Path]) -> Path:
    draft = _draft(path)
    draft.parent.mkdir(parents=True, exist_ok=True)
    drafts[path] = draft
    draft.write_text(text, encoding="utf-8")
    return draft


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
    """Where card and configuration go; refuses what is there, but for the card of an init that was cut off."""
    from dode.fetching import cards

    if not re.fullmatch(NAME, name) or name.endswith(places.DRAFT):
        raise ValueError(
            f"--name: {name!r} is not allowed; allowed: letters, digits and . _ + -, a letter or digit first, and not "
            f"{places.DRAFT} last"
        )
    folder = places.CONFIG.parent
    paths = folder / "models" / f"{name}.yaml", folder / f"{name}.yaml"
    cut_off = paths[0].exists() and not paths[1].exists() and _draft(paths[1]).exists()
    if name in cards.names(ROOT) and not cut_off:
        raise ValueError(f"--name: there is a card '{name}' already; choose another name")
    _require_free(paths[1])
    return paths


def _require_free(path: Path, why: str = ";") -> None:
    if path.exists():
        raise ValueError(f"--name: {path} is there already{why} choose another name")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    given = {"licence": options.licence, "prediction": options.prediction, "image_shape": options.image_shape}
    found: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return found | ({"schedule": {"name": options.schedule}} if options.schedule else {})


def _card(name: str, own: dict[str, Any], kind: str, path: Path, written: dict[Path, Path]) -> dict[str, Any]:
    """Write the card, read it back with all that it leaves out."""
    from dode.benchmark import drafts
    from dode.fetching.cards import load_card
    from dode.validation import ConfigError

    draft = _write(path, drafts.card(own, own, kind), written)
    try:
        known = load_card(ROOT, draft.stem, "card")
    except ConfigError as problem:
        error = str(problem).replace(draft.name, path.name)
        given = [how for key, how in MISSING.items() if f"'{key}' is missing" in error]
        raise ValueError(error + "".join(f"; the checkpoint does not say it: {how}" for how in given[:1])) from None
    draft.write_text(drafts.card(own, known, kind), encoding="utf-8")
    return known


def _configuration(
    name: str, known: dict[str, Any], paths: tuple[Path, Path], written: dict[Path, Path], options: argparse.Namespace
) -> None:
    """Write the configuration, checked."""
    from dode import texts
    from dode.benchmark import drafts
    from dode.benchmark.cells import Benchmark
    from dode.fetching.cards import without_grid
    from dode.validation import ConfigError, from_home, read_mapping

    against = drafts.real(known, options.data and from_home(options.data), ROOT, features=options.features)
    prompts = options.prompts
    if "pipeline" in known:
        against |= drafts.guidance(known)
        if prompts is None and "classes" not in known:
            own_prompts = paths[1].parent / "prompts" / f"{name}.txt"
            prompts = str(own_prompts)
            scenes = ROOT / "config" / "prompts" / "scenes.txt"
            _write(own_prompts, scenes.read_text(encoding="utf-8"), written)
    images = _images(options.images, prompts and written.get(Path(prompts), prompts))
    why = without_grid(ROOT, written[paths[0]].stem)
    if why and "grid" not in known.get("sampling", {}):
        print(texts.shown(f"The grid is not the model's own, which is none of this project's: {why}."))
    how: dict[str, Any] = {"images": images, "seeds": options.seeds, "prompts": prompts, "without_grid": why}
    if against.get("features") == drafts.INCEPTION:
        instead = " --features none leaves them out, with the scores that need them." if "pipeline" in known else ""
        print(f"The run downloads {drafts.INCEPTION}, whose features images are scored by.{instead}")
    text = drafts.configuration(name, known, against, path=paths[1], nfe=options.nfe or NFE, **how)
    config = read_mapping(_write(paths[1], text, written))
    own = config["datasets"][0]
    own["model"] = written[paths[0]].stem
    if prompts is not None and Path(prompts) in written:
        own["prompts"]["file"] = str(written[Path(prompts)])
    try:
        Benchmark(config, ROOT)
    except ConfigError as problem:
        error = str(problem).replace(f"'{own['model']}'", f"'{name}'")
        for key, option in OPTIONS.items():
            error = re.sub(f"^(?:configuration: )?{key}", option, error)
        raise ValueError(error) from None


def _images(given: int | None, prompts: str | Path | None) -> int:
    """How many images are scored: as many as given, or as there are prompts for besides those that are fitted on."""
    from dode.distillation.fit_checks import JOINT_IMAGES
    from dode.images import prompts as files
    from dode.validation import from_home

    if given is not None or prompts is None:
        return IMAGES if given is None else given
    return min(IMAGES, max(len(files.read(from_home(str(prompts)))) - JOINT_IMAGES, 2))


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
