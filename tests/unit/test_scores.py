"""What score.json holds: the file itself, its errors against true spreads, and the scores by nearest neighbours."""

import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from snakemake.iocontainers import InputFiles, Params

from dode import storage
from dode.images import data
from dode.metrics import distances, extrapolation, features, neighbours, scores, statistics_files
from dode.metrics.distances import Gaussian, Statistics

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "config" / "models"
CARD = yaml.safe_load((CARDS / "digits-classifier.yaml").read_text())
CHECKPOINT = str(CARDS / "digits-classifier.safetensors")
NEIGHBOURS = {"precision_recall": 3, "density_coverage": 5, "images": 10_000}
MADE = {"cell": {"solver": "ddim", "nfe": 5}, "samples": {"images": 100}, "code": {"sample": "of the samples"}}
PRDC = {"precision", "recall", "density", "coverage"}
PAIRED = {"paired_fid", "trajectory_rmse", "trajectory_psnr"}


def digits():
    return data.sources.create("digits")[0]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """``job(seeds, images)``: what a score's script is given for a cell of digits, its files written.

    The features of the fine-step samples are those of the cell's own in the first block; in the second they lie one
    further, in the third three.
    """
    folder, images = tmp_path_factory.mktemp("job"), digits()
    extract = features.create(CARD, CHECKPOINT)
    statistics = Statistics.of(features.stream(extract, images[800:], 500))
    own = np.concatenate([*features.stream(extract, images[:800], 100)])
    known = {"features": statistics.features, "images": statistics.count, "card": CARD}
    statistics_files.write(folder / "real.npz", mu=statistics.mean, sigma=statistics.covariance, **known)
    draw = np.random.default_rng(0)

    def make(seeds, count, **params):
        total = seeds * count
        storage.write_array(folder / "samples.npy", images[:total])
        for name, width in (("ends", 0.1), ("reference_ends", 0.0)):
            ends = draw.normal(0, width, (total, 1, 8, 8)) + np.zeros(1)
            storage.write_array(folder / f"{name}.npy", ends.astype(np.float32))
        pairs = zip(np.split(own[:total], seeds), (0, 1, 3), strict=False)
        blocks = [Statistics.of([block + shift]) for block, shift in pairs]
        statistics_files.write_blocks(folder / "fine.npz", blocks, CARD)
        files = {"images": "samples.npy", "ends": "ends.npy", "reference_ends": "reference_ends.npy"}
        environments = [{"software": {}, "machine": {"device": "a GPU"}}]
        storage.write_json(
            folder / "environments.json", {**MADE, "passes": 10, "depth": 5, "environments": environments}
        )
        files |= {"real": "real.npz", "reference": "fine.npz", "environments": "environments.json"}
        execution = {"device": "cpu", "batch_size": 100, "datasets": {}}
        settings = {"kid": {"subsets": 10, "subset_size": 100}, "neighbours": NEIGHBOURS, **params}
        return {
            "input": {**{name: str(folder / file) for name, file in files.items()}, "features": CHECKPOINT},
            "output": [str(folder / "score.json")],
            "params": {
                "scoring": {"card": CARD, "real": "digits", **settings},
                "seeds": seeds,
                "code": "of the score",
            },
            "config": {"execution": execution},
            "wildcards": {"dataset": "digits"},
        }

    return make


def scored(job):
    """What the script writes, run here."""
    given = {"input": InputFiles(fromdict=job["input"]), "params": Params(fromdict=job["params"])}
    spec = importlib.util.spec_from_file_location("score", ROOT / "scripts" / "score.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(SimpleNamespace(**{**job, **given}))
    return storage.read_json(job["output"][0])


def test_several_seeds_have_their_mean_and_sample_standard_deviation(job):
    found = scored(job(2, 300))
    assert set(found["metrics"]) == {*PAIRED, "fid", "self_fid", "kid", *PRDC}
    for name, entry in found["metrics"].items():
        first, second = entry["blocks"]
        assert entry["value"] == pytest.approx((first + second) / 2), name
        assert entry["error"] == pytest.approx(abs(first - second) / 2**0.5), name
        assert entry["error_kind"] == "seeds"
    assert (found["images"], found["seeds"], found["biased"]) == (300, 2, [])
    # The second block of fine-step statistics lies one further in each of 64 features.
    own, shifted = reversed(found["metrics"]["self_fid"]["blocks"])
    assert shifted == pytest.approx(own + 64, rel=0.3)
    assert found["metrics"]["paired_fid"]["blocks"] == [pytest.approx(0, abs=1e-9), pytest.approx(64, rel=1e-6)]


def test_the_file_says_what_it_was_made_with(job):
    given = job(2, 100)
    found, path = scored(given), Path(given["input"]["real"])
    assert found["reference"] == {
        "file": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "images": 997,
    }
    assert found["extractor"] == statistics_files.extractor_of(CARD)
    assert {"dode", "numpy", "scipy", "torch"} <= set(found["software"])
    assert found["software"]["numpy"] == np.__version__
    assert found["machine"]["device"] == "cpu"
    assert found["machine"]["threads"] >= 1
    assert found["machine"]["cpu"]
    assert [each["machine"]["device"] for each in found["samples"]] == ["a GPU"]
    assert found["made"] == {
        "cell": MADE["cell"],
        "samples": MADE["samples"],
        "scoring": given["params"]["scoring"],
        "code": {"sample": "of the samples", "score": "of the score"},
    }
    metrics = found["metrics"]
    assert (metrics["kid"]["subsets"], metrics["kid"]["subset_size"]) == (10, 100)
    assert [metrics[name]["k"] for name in ("precision", "recall", "density", "coverage")] == [3, 3, 5, 5]
    assert {metrics[name]["images"] for name in PRDC} == {100}
    assert metrics["trajectory_rmse"]["value"] == pytest.approx(0.1, rel=0.02)
    assert metrics["trajectory_psnr"]["value"] == pytest.approx(20 * np.log10(2 / 0.1), rel=0.02)


def test_one_seed_has_errors_of_its_images(job):
    found = scored(job(1, 400))
    assert set(found["metrics"]) == {*PAIRED, "fid", "kid", *PRDC}
    same = found["metrics"].pop("paired_fid")
    assert (same["value"], same["error"], same["error_kind"]) == (*[pytest.approx(0, abs=1e-9)] * 2, "images")
    for name, entry in found["metrics"].items():
        assert entry["blocks"] == [entry["value"]]
        assert 0 < entry["error"] < abs(entry["value"]) + 0.01, name
        assert entry["error_kind"] == ("subsets" if name == "kid" else "images")


@pytest.mark.parametrize(("seeds", "pairs"), [(2, 1), (3, 3)])
def test_two_sets_of_fine_step_samples_are_one_pair_with_an_error_of_its_images(job, seeds, pairs):
    given = job(seeds, 200)
    given["input"]["ends"] = given["input"]["reference_ends"]
    metrics = scored(given)["metrics"]
    assert not PAIRED & set(metrics)  # the fine-step cell would be compared with itself
    found = metrics["self_fid"]
    assert len(found["blocks"]) == pairs
    assert found["error_kind"] == ("images" if pairs == 1 else "seeds")
    assert found["error"] > 0


def test_no_more_images_than_features_are_called_biased_and_extrapolated(job):
    found = scored(job(1, 60))
    assert found["biased"] == ["generated"]
    plain, infinite = found["metrics"]["fid"], found["metrics"]["fid_infinity"]
    assert infinite["value"] < plain["value"]
    assert infinite["error"] > 0
    assert (min(infinite["sizes"]), max(infinite["sizes"]), len(infinite["sizes"])) == (30, 60, 15)


@pytest.mark.parametrize(
    ("generated", "real", "few"),
    [
        (65, 65, []),
        (64, None, ["generated"]),
        (65, 64, ["real"]),
        (64, 65, ["generated"]),
        (2, 2, ["generated", "real"]),
    ],
)
def test_either_set_of_images_may_be_too_few_for_its_features(generated, real, few):
    """The covariance of n images, divided by n - 1, has the rank n - 1 at most."""
    draw = np.random.default_rng(0)
    *blocks, other = (Statistics.of([draw.standard_normal((count, 64))]) for count in (100, generated, real or 100))
    assert scores.biased(blocks, real) == few
    for name, statistics in ((scores.GENERATED, blocks[1]), (scores.REAL, other)):
        assert (np.linalg.matrix_rank(statistics.covariance, hermitian=True) < 64) == (name in few)


@pytest.mark.parametrize(
    ("seeds", "count", "eigh", "svd"),
    [(1, 40, 1, 1), (2, 40, 4, 4), (1, 8, 0, 1 + extrapolation.SIZES), (2, 8, 2, 4 + 2 * extrapolation.SIZES)],
)
def test_nothing_is_decomposed_twice_and_no_vectors_are_found_in_vain(monkeypatch, seeds, count, eigh, svd):
    """FID and self-FID of blocks of 16 features: an eigen-decomposition a covariance, singular values a distance."""
    draw, called, vectors = np.random.default_rng(0), [], []
    blocks = [Statistics.of([draw.standard_normal((count, 16))]) for _ in range(seeds)]
    fine = [(np.zeros(16), np.diag(np.arange(1.0, 17.0)))] * seeds
    target = Gaussian.of_moments(*fine[0])
    plain = {name: getattr(np.linalg, name) for name in ("eigh", "svd")}

    def counted(name, *arguments, **options):
        called.append(name)
        vectors.append(name == "svd" and options.get("compute_uv", True))
        return plain[name](*arguments, **options)

    for name in plain:
        monkeypatch.setattr(np.linalg, name, functools.partial(counted, name))
    scores.frechet(blocks, [target] * seeds)
    scores.infinity(blocks, target)
    if seeds > 1:
        scores.frechet(blocks, fine)
    assert (called.count("eigh"), called.count("svd")) == (eigh, svd)
    assert sum(vectors) == (svd if seeds == 1 else 0)


def test_too_few_images_for_neighbours_or_a_line_leave_these_scores_out(job):
    found = scored(job(2, 3))
    assert set(found["metrics"]) == {*PAIRED, "fid", "self_fid", "kid"}
    assert found["biased"] == ["generated"]


def test_of_more_real_images_than_generated_ones_neighbours_see_a_sample():
    """Ten far classes in their order: each generated image is in its class, none of which is left out."""
    draw, classes = np.random.default_rng(0), np.repeat(np.arange(10), 100)
    real = (draw.standard_normal((1000, 2)) + 100 * classes[:, None]).astype(np.float32)
    generated = draw.standard_normal((300, 2)) + 100 * draw.integers(0, 10, (300, 1))
    found = scores.nearest([Statistics.of([generated])], real, NEIGHBOURS)
    assert found["recall"]["images"] == 300
    assert min(found["precision"]["value"], found["recall"]["value"]) > 0.8


def test_a_score_of_digits_imports_neither_clean_fid_nor_torchvision(job):
    code = (
        "import importlib.util, json, sys\n"
        "from types import SimpleNamespace\n"
        "from snakemake.iocontainers import InputFiles, Params\n"
        "job = json.loads(sys.argv[1])\n"
        "job |= {'input': InputFiles(fromdict=job['input']), 'params': Params(fromdict=job['params'])}\n"
        "spec = importlib.util.spec_from_file_location('score', 'scripts/score.py')\n"
        "script = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(script)\n"
        "script.main(SimpleNamespace(**job))\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    given = job(1, 100)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert "torch" in imported
    assert not imported & {"cleanfid", "torchvision", "scipy"}


def normal(draw, count, deviations, shift=0.0):
    return draw.standard_normal((count, len(deviations))) * deviations + shift


def ratio_of_errors(estimate, name, repeats=60):
    """Mean of the errors told, over the spread of the values; ``estimate(draw)`` gives a value and its error."""
    draw = np.random.default_rng(0)
    found = np.array([estimate(draw) for _ in range(repeats)])
    ratio = found[:, 1].mean() / found[:, 0].std(ddof=1)
    print(f"\nerror told over true spread, {name}: {ratio:.2f}")
    return ratio


@pytest.mark.parametrize(("count", "most"), [(1000, 1.3), (128, 1.7), (20, 2.3)])
def test_the_error_of_fid_is_the_spread_over_sets_of_images_or_more(count, most):
    """32 features with decaying variances; with images hardly more than features the delta method is above it."""
    deviations = np.arange(1, 33) ** -0.5
    reference = [(np.zeros(32), np.diag(deviations**2))]

    def estimate(draw):
        entry = scores.frechet([Statistics.of([normal(draw, count, 1.1 * deviations, 0.1)])], reference)
        return entry["value"], entry["error"]

    assert 0.75 < ratio_of_errors(estimate, f"fid, {count} images, 32 features") < most


def test_the_error_of_fid_infinity_is_the_spread_over_sets_of_images():
    deviations = np.arange(1, 33) ** -1.0
    reference = Gaussian.of_moments(np.zeros(32), np.diag(deviations**2))

    def estimate(draw):
        features = normal(draw, 30, 1.1 * deviations, 0.1)
        found = extrapolation.fid_infinity(features, reference)
        without = extrapolation.fid_infinity(features, reference, with_error=False)
        assert (without.value, without.error) == (pytest.approx(found.value, rel=1e-10), None)
        return found.value, found.error

    assert 0.75 < ratio_of_errors(estimate, "fid_infinity, 30 images, 32 features") < 1.7


@pytest.mark.parametrize(("count", "left"), [(32, 0.4), (63, 0.5), (128, 0.4), (256, 0.3)])
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_fid_infinity_takes_most_of_the_bias_away(count, left, decay):
    """64 features, mean of 40 sets of images; the truth is known."""
    deviations, draw = np.arange(1, 65) ** -decay, np.random.default_rng(0)
    reference = Gaussian.of_moments(np.zeros(64), np.diag(deviations**2))
    truth = distances.fid((0.1 * deviations, np.diag(1.21 * deviations**2)), reference)
    sets = [normal(draw, count, 1.1 * deviations, 0.1 * deviations) for _ in range(40)]
    plain = np.mean([distances.fid(Gaussian.of_features(each), reference) for each in sets])
    infinite = np.mean([extrapolation.fid_infinity(each, reference).value for each in sets])
    print(f"\nsd of feature i i^-{decay}, {count} images: true {truth:.3f}, FID {plain:.3f}, FID_inf {infinite:.3f}")
    assert abs(infinite - truth) < left * (plain - truth)


@pytest.mark.parametrize(("size", "subsets"), [(250, 10), (100, 10), (100, 100)])
@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_error_of_kid_is_the_spread_over_sets_of_images_or_more(size, subsets, shift):
    """At most: where the distributions are equal the bound is twice the spread, and more of it with many subsets."""

    def estimate(draw):
        real, generated = normal(draw, 500, np.ones(16)), normal(draw, 500, np.ones(16), shift)
        values = distances.kid_of_subsets(real, generated, subsets=subsets, subset_size=size)
        return values.mean(), distances.kid_error(values, size, 500)

    assert 0.75 < ratio_of_errors(estimate, f"kid, {subsets} of {size} among 500, shift {shift}") < 4


def test_kid_of_one_subset_or_of_all_images_has_no_error():
    assert np.isnan(distances.kid_error(np.ones(1), 10, 100))
    assert np.isnan(distances.kid_error(np.arange(5.0), 100, 100))


@pytest.mark.parametrize("name", sorted(PRDC))
def test_the_errors_of_shares_are_the_spreads_over_sets_of_generated_images_within_a_factor_of_two(name):
    real = normal(np.random.default_rng(1), 200, np.ones(4))

    def estimate(draw):
        generated = [Statistics.of([normal(draw, 200, 0.8 * np.ones(4), 0.3)])]
        entry = scores.nearest(generated, real.astype(np.float32), NEIGHBOURS)[name]
        return entry["value"], entry["error"]

    assert 0.5 < ratio_of_errors(estimate, name) < 2


def by_definition(real, generated, k, density_k):
    """The four scores, point by point."""

    def distance(a, b):
        return np.linalg.norm(a - b)

    def radius(points, index, k):
        return sorted(distance(points[index], other) for j, other in enumerate(points) if j != index)[k - 1]

    def inside(point, points, k):
        return [distance(point, points[i]) <= radius(points, i, k) for i in range(len(points))]

    balls = [inside(point, real, density_k) for point in generated]
    return {
        "precision": np.mean([any(inside(point, real, k)) for point in generated]),
        "recall": np.mean([any(inside(point, generated, k)) for point in real]),
        "density": np.sum(balls) / (density_k * len(generated)),
        "coverage": np.mean(np.any(balls, axis=0)),
    }


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_nearest_neighbour_scores_are_those_of_the_definitions_in_any_parts(monkeypatch, offset):
    draw = np.random.default_rng(0)
    real, generated = normal(draw, 30, np.ones(3), offset), normal(draw, 23, np.ones(3), offset + 0.7)
    expected = by_definition(real, generated, 2, 4)
    assert all(0.05 < value < 1 for value in expected.values())
    for rows in (1000, 7):
        monkeypatch.setattr(neighbours, "_ROWS", rows)
        found = neighbours.per_image(real, generated, precision_recall=2, density_coverage=4)
        assert {name: values.mean() for name, values in found.items()} == pytest.approx(expected)
        assert [len(found[name]) for name in ("precision", "recall", "density", "coverage")] == [23, 30, 23, 30]


def test_nearest_neighbour_scores_of_the_same_and_of_distant_images():
    points = normal(np.random.default_rng(0), 100, np.ones(3))
    same = neighbours.per_image(points, points, precision_recall=3, density_coverage=5)
    assert {name: values.mean() for name, values in same.items() if name != "density"} == dict.fromkeys(
        ("precision", "recall", "coverage"), 1
    )
    assert same["density"].mean() == pytest.approx(1.2)  # each ball holds its centre and its k nearest
    far = neighbours.per_image(points, points + 100, precision_recall=3, density_coverage=5)
    assert not any(values.any() for values in far.values())


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ValueError, match="5 neighbours need more images than 5 real and 9 generated"):
        neighbours.per_image(np.eye(5), np.eye(9)[:, :5], precision_recall=3, density_coverage=5)
