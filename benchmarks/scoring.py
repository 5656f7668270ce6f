"""How much faster dode scores an array of images than clean-fid a folder of PNG files of them. Prints a Markdown table.

The network has the shape of Inception and random weights: the time does not depend on them. Both get the same images,
threads and reference, in turns; see benchmarks/README.md.
"""

import argparse
import os
import platform
import statistics
import tempfile
from pathlib import Path

# Idle OpenMP threads spin by default, which multiplies every time on a machine that does something else too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from PIL import Image
from torch import nn

from dode.metrics import distances, features
from dode.metrics.extractors import inception
from dode.metrics.reference import inception_pytorch
from dode.metrics.resizing import SIZE

from cleanfid import fid as cleanfid  # isort: skip
from cleanfid.inception_torchscript import InceptionV3W  # isort: skip

FILE = "inception-2015-12-05.pt"
FEATURES = 2048


class Scripted(nn.Module):
    """The interface of the published TorchScript file: ``layers``, and resizing in ``forward``."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x, return_features: bool = False):
        assert return_features
        x = nn.functional.interpolate(x.float(), size=[299, 299], mode="bilinear")
        return self.layers((x - 128) / 128)


class Convolutions(nn.Module):
    """Inception to its pooled features, with activations of order one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        network = inception_pytorch._inception_v3(
            num_classes=1008, aux_logits=False, pretrained=False, init_weights=False
        )
        weights = {name: self._scaled(weight) for name, weight in network.state_dict().items()}
        self.network = inception.pytorch_inception(weights)

    @staticmethod
    def _scaled(weight):
        return torch.randn_like(weight) * (2 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else weight

    def forward(self, x):
        return self.network(x)[0].flatten(1)


def write_network(folder):
    """The TorchScript file in ``folder``."""
    layers = torch.jit.trace(Convolutions().eval(), torch.rand(2, 3, SIZE, SIZE), check_trace=False)
    torch.jit.script(Scripted(layers).eval()).save(str(folder / FILE))


def write_images(images, folder):
    """Images (n, 3, H, W) as PNG files."""
    for index, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index:06}.png")


def now():
    """CPU seconds of this process and of workers that have ended: other jobs on the machine do not count."""
    return sum(os.times()[:4])


class Clock:
    """Adds up the seconds in the calls of a function."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments):
        start = now()
        result = self.function(*arguments)
        self.seconds += now() - start
        return result


def by_clean_fid(folder, pictures, reference, mode, options):
    """``(score, seconds in all, in the network, in the distance)``."""
    network = InceptionV3W(str(folder), download=False, resize_inside=mode == "legacy_tensorflow").eval()
    clock, start = Clock(network), now()
    found = cleanfid.get_folder_features(
        str(pictures),
        clock,
        num_workers=options.workers,
        batch_size=options.batch,
        device=torch.device("cpu"),
        mode=mode,
        verbose=False,
    )
    distance = Clock(cleanfid.frechet_distance)
    score = distance(found.mean(axis=0), np.cov(found, rowvar=False), *reference)
    return score, now() - start, clock.seconds, distance.seconds


def by_dode(folder, images, reference, mode, options):
    """The same, by what a score's job does."""
    extract = features.create({"network": {"name": "inception", "options": {"mode": mode}}}, folder / FILE)
    clock = extract.network = Clock(extract.network)
    start = now()
    found = distances.Statistics.of(features.stream(extract, images, 500))
    distance = Clock(distances.fid)
    score = distance(found.gaussian, reference)
    return score, now() - start, clock.seconds, distance.seconds


def reference_moments():
    """Of features like those of the network, with decaying variances."""
    draw = np.random.default_rng(1)
    axes = np.linalg.qr(draw.standard_normal((FEATURES, FEATURES)))[0]
    return np.full(FEATURES, 0.5), axes * (np.arange(1, FEATURES + 1) ** -1.0) @ axes.T


def measure(mode, options):
    """One row of the table: medians over the repetitions."""
    images = np.random.default_rng(0).integers(0, 256, (options.images, 3, *[options.pixels] * 2), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        folder, pictures = Path(folder), Path(folder) / "images"
        pictures.mkdir()
        write_network(folder)
        write_images(images, pictures)
        reference, runs = reference_moments(), {by_clean_fid: (pictures, []), by_dode: (images, [])}
        for _ in range(options.repeats):
            for run, (source, results) in runs.items():
                results.append(run(folder, source, reference, mode, options))
    theirs, ours = (np.median(results, axis=0) for _, results in runs.values())
    ratio = statistics.median(a[1] / b[1] for a, b in zip(*(results for _, results in runs.values()), strict=True))
    return theirs, ours, ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="clean-fid's batch (default its own)")
    parser.add_argument("--workers", type=int, default=12, help="clean-fid's workers (default its own)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", nargs="+", default=["clean", "legacy_tensorflow"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.images} images of {options.pixels} pixels, CPU, {options.threads} threads, clean-fid with "
        f"{options.workers} workers and batches of {options.batch}, torch {torch.__version__}, "
        f"Python {platform.python_version()}\n"
    )
    print("| Mode | By | Score | CPU seconds | In the network | In the distance | The rest | Ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for mode in options.modes:
        theirs, ours, ratio = measure(mode, options)
        for name, (score, total, network, distance), shown in (("clean-fid", theirs, 1), ("dode", ours, ratio)):
            rest = total - network - distance
            cells = (f"{score:.5f}", *(f"{x:.2f}" for x in (total, network, distance, rest, shown)))
            print("|", " | ".join([f"`{mode}`", name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
