"""Sample some images of an archive's cell again, and compare them with what the archive says of them (docs/sharing.md).

An image is the same where each of its bytes is, as on the same machine with the same software; elsewhere networks round
differently, and its end state may differ by a tolerance that depends on the precision of the network. The checkpoint is
fetched if it is not here. Exit status 1 if an image is another.
"""

import argparse
import re
import secrets

from dode.fetching import places

ROOT = places.workflow()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cell of which archive, and how much of it."""
    parser.add_argument("archive", help="file that `python -m dode pack` wrote")
    parser.add_argument("cell", nargs="?", help="<dataset>/<solver>/nfe<n>; leave it out to see which there are")
    parser.add_argument("--images", type=int, default=32, help="how many images (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the choice among those that can be audited (default: drawn)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<number> (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print what was found."""
    from dode import texts
    from dode.report.archives import format

    if options.images < 1:
        raise ValueError(f"--images: {options.images} is not allowed; allowed: at least 1")
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed: {options.seed} is not allowed; allowed: at least 0")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise ValueError(f"--device: '{options.device}' is not allowed; allowed: auto, cpu, cuda or cuda:<number>")
    archive = format.read(options.archive)
    if options.cell is None:
        print(*map(texts.shown, archive.cells), sep="\n")
        return 0
    from dode.benchmark import audit, weights

    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    found = audit.audit(
        archive,
        options.cell,
        images=options.images,
        seed=seed,
        root=ROOT,
        weights=lambda name, card: weights.obtained(name, card, ROOT),
        device=options.device,
    )
    count, tolerance = len(found.images), found.tolerance
    near = [image.distance for image in found.images if not image.same]
    print(texts.shown(f"{found.cell}: {count} images (--seed {seed}), {found.same} the same to the byte"))
    if near:
        print(f"The others differ by an RMS per pixel of at most {max(near):.2g}; up to {tolerance:g} is rounding.")
    print(f"{found.evaluations:,} network evaluations, {found.evaluations / found.whole:.2%} of the cell's")
    for image in found.others:
        print(f"OTHER: image {image.place} of seed {image.block} differs by {image.distance:.2g}")
    if found.others:
        print(f"\nWRONG: {len(found.others)} of {count} are not the images that the archive speaks of.")
        return 1
    print("\nRight: they are the images that the archive speaks of.")
    return 0
