"""Statistics in files: every published layout, every refusal, and no mixing of features."""

import io
import os
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dode.benchmark import config as configs
from dode.benchmark.cells import Benchmark
from dode.metrics import distances, statistics_files

ROOT = Path(__file__).parents[2]
SHAPE = (3, 4, 4)
CARD = {"network": {"name": "inception", "options": {"mode": "clean"}}, "sha256": "1" * 64, "licence": "any"}
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)


def stream(images):
    """Six features: the mean of each half of each channel, in two batches."""
    for part in np.array_split(np.asarray(images), 2) if len(images) > 1 else [np.asarray(images)]:
        yield part.reshape(len(part), 6, -1).astype(np.float64).mean(axis=2)


FEATURES = np.concatenate(list(stream(IMAGES.transpose(0, 3, 1, 2))))
MU, SIGMA = FEATURES.mean(axis=0), np.cov(FEATURES, rowvar=False)


def published(path, **arrays):
    np.savez(path, **arrays)
    return statistics_files.published(path, stream, SHAPE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mu_and_sigma_are_those_of_the_file(tmp_path, dtype):
    (mu, sigma), features, images = published(tmp_path / "s.npz", mu=MU.astype(dtype), sigma=SIGMA.astype(dtype))
    assert mu.dtype == sigma.dtype == np.float64
    np.testing.assert_array_equal(mu, MU.astype(dtype))
    np.testing.assert_array_equal(sigma, SIGMA.astype(dtype))
    assert features is None
    assert images is None


def test_a_reference_batch_has_its_own_moments_and_features_of_its_images(tmp_path):
    other = {"mu_s": np.zeros(3), "sigma_s": np.eye(3), "arr_1": np.arange(60)}
    (mu, sigma), features, images = published(tmp_path / "s.npz", mu=MU + 1, sigma=2 * SIGMA, arr_0=IMAGES, **other)
    np.testing.assert_array_equal(mu, MU + 1)
    np.testing.assert_array_equal(sigma, 2 * SIGMA)
    np.testing.assert_array_equal(features, FEATURES.astype(np.float32))
    assert images is None  # of what the moments are, the file does not say


def test_of_many_images_a_random_sample_of_the_features_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(distances, "KEPT_FEATURES", 20)
    _, features, images = published(tmp_path / "s.npz", arr_0=IMAGES)
    np.testing.assert_array_equal(features, FEATURES[distances.random_rows(60, 20)].astype(np.float32))
    assert images == 60


def test_of_images_alone_the_moments_are_computed(tmp_path):
    (mu, sigma), features, images = published(tmp_path / "s.npz", arr_0=IMAGES)
    np.testing.assert_allclose(mu, MU, rtol=1e-12)
    np.testing.assert_allclose(sigma, SIGMA, rtol=1e-9)
    assert len(features) == images == 60


ASYMMETRIC = SIGMA + np.triu(np.ones((6, 6)), 1) * SIGMA.max()
HARDLY = SIGMA + np.triu(np.ones((6, 6)), 1) * 1e-4 * SIGMA.max()
INDEFINITE = np.diag(np.ones(6)) + 0.9 * (np.eye(6, k=1) + np.eye(6, k=-1))  # variances are positive


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mu": MU}, "expected the arrays mu and sigma, or the images arr_0"),
        ({"activations": FEATURES}, "expected the arrays"),
        ({"mu": MU, "sigma": SIGMA[:5, :5]}, r"sigma \(F, F\)"),
        ({"mu": MU[None], "sigma": SIGMA}, r"mu \(F,\)"),
        ({"mu": np.array(["a"] * 6), "sigma": SIGMA}, "must be numbers"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "NaN or infinity"),
        ({"mu": MU, "sigma": SIGMA * np.inf}, "NaN or infinity"),
        ({"mu": MU, "sigma": ASYMMETRIC}, "not a covariance"),
        ({"mu": MU, "sigma": HARDLY}, "not a covariance"),
        ({"mu": MU, "sigma": -SIGMA}, "not a covariance"),
        ({"mu": MU, "sigma": INDEFINITE}, "not a covariance"),
        ({"mu": np.float64(0), "sigma": np.float64(1)}, r"mu \(F,\)"),
        ({"mu": MU[:0], "sigma": SIGMA[:0, :0]}, "is of 0 features per image, but the dataset's extractor gives 6"),
        ({"mu": MU[:5], "sigma": SIGMA[:5, :5]}, "is of 5 features per image, but the dataset's extractor gives 6"),
        ({"arr_0": IMAGES.astype(np.float32)}, "arr_0 must be images"),
        ({"arr_0": IMAGES[0]}, "arr_0 must be images"),
        ({"mu": np.array([object()]), "sigma": SIGMA}, "not an .npz file of plain arrays"),
    ],
)
def test_what_is_no_statistics_is_refused_in_one_sentence(tmp_path, arrays, said):
    with pytest.raises(ValueError, match=said) as caught:
        published(tmp_path / "s.npz", **arrays)
    assert str(tmp_path / "s.npz") in str(caught.value)


def test_what_scores_would_refuse_is_refused_before_any_image_is_looked_at(tmp_path):
    with pytest.raises(ValueError, match="not a covariance"):
        distances.Gaussian.of_moments(MU, INDEFINITE)
    seen = []

    def watched(images):
        seen.append(len(images))
        return stream(images)

    np.savez(tmp_path / "s.npz", mu=MU, sigma=INDEFINITE, arr_0=IMAGES)
    with pytest.raises(ValueError, match=r"s\.npz: not a covariance: its eigenvalues range from -\S+ to 2\S+$"):
        statistics_files.published(tmp_path / "s.npz", watched, SHAPE)
    assert max(seen, default=0) <= 1  # an empty one, for the number of features


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an \.npz file of plain arrays"):
        statistics_files.published(tmp_path / "s.npz", stream, SHAPE)


def test_own_files_are_read_back_and_no_others_of_other_features(tmp_path):
    statistics_files.write(tmp_path / "s.npz", mu=MU, sigma=SIGMA, features=FEATURES, images=60, card=CARD)
    (mu, sigma), features, images = statistics_files.read(tmp_path / "s.npz", {**CARD, "licence": "another"})
    for found, expected in ((mu, MU), (sigma, SIGMA), (features, FEATURES)):
        np.testing.assert_array_equal(found, expected)
    assert images == 60
    for other in (
        {**CARD, "sha256": "2" * 64},
        {**CARD, "network": {"name": "inception", "options": {"mode": "legacy_tensorflow"}}},
    ):
        with pytest.raises(ValueError, match=r"cannot be compared") as caught:
            statistics_files.read(tmp_path / "s.npz", other)
        for card in (CARD, other):
            assert statistics_files.extractor_of(card) in str(caught.value)


def benchmark(**dataset):
    solvers = [{"id": "ddim", "solver": "ddim", "nfe": [5]}]
    entry = {"id": "d", "model": "edm-cifar10-uncond", **dataset}
    return Benchmark({"benchmark": "b", "datasets": [entry], "solvers": solvers}, ROOT)


def test_what_a_dataset_does_not_say_is_as_the_cards_have_it():
    dataset = benchmark().datasets["d"]
    assert (dataset["statistics"], dataset["features"]) == ("cifar10-edm-statistics", "inception-tensorflow")
    own = benchmark(data="digits", features="inception-clean")
    assert "statistics" not in own.datasets["d"]
    assert [list(own.sources), benchmark().sources] == [["digits"], {}]


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            {"features": "inception-clean"},
            r"features: 'inception-clean', but the statistics 'cifar10-edm-statistics' are of",
        ),
        ({"statistics": "cifar10-pytorch-statistics", "features": "inception-tensorflow"}, "of two extractors"),
        ({"statistics": "inception-clean"}, "has the role 'features', not 'statistics'"),
        ({"statistics": "cifar10-edm-statistic"}, "did you mean 'cifar10-edm-statistics'"),
        ({"data": "digits"}, "features: the key is missing"),
        (
            {"data": {"folder": "/none"}, "features": "inception-clean"},
            r"datasets\[0\]\.data: there is no folder '/none'",
        ),
        ({"model": "digits-edm", "grid": {"name": "karras"}}, "card 'digits-edm' has none"),
    ],
)
def test_statistics_and_features_that_do_not_fit_are_refused_before_any_job(dataset, said):
    with pytest.raises(configs.ConfigError, match=said):
        benchmark(**dataset)


@pytest.mark.parametrize(
    "images",
    [IMAGES[:1], IMAGES[:, :, :3], IMAGES[..., :1]],
    ids=["one-image-has-no-covariance", "of-another-size", "of-other-channels"],
)
def test_images_of_another_kind_than_the_models_are_refused(tmp_path, images):
    with pytest.raises(ValueError, match=r"arr_0 must be images \(n, 4, 4, 3\) uint8, at least two, not \("):
        published(tmp_path / "s.npz", arr_0=images)


def test_a_file_that_does_not_say_its_features_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", mu=MU, sigma=SIGMA)
    with pytest.raises(ValueError, match="made with the features unknown, but the images here have"):
        statistics_files.read(tmp_path / "s.npz", CARD)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def claimed(shape, dtype="|u1", version=b"\1\0"):
    """The head of an array that claims a shape, without its elements."""
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("_npy", ".npy"), content)


BROKEN = {
    "no array": {"mu_npy": b"text", "sigma_npy": npy(SIGMA)},
    "no array and no ending": {"mu": b"text", "sigma": b"text"},
    "empty": {"mu_npy": b"", "sigma_npy": npy(SIGMA)},
    "an array twice": {"mu_npy": npy(MU), "mu": npy(MU), "sigma_npy": npy(SIGMA)},
    "fewer elements": {"mu_npy": claimed((6,), "<f8") + bytes(40), "sigma_npy": npy(SIGMA)},
    "more elements": {"mu_npy": npy(MU) + bytes(8), "sigma_npy": npy(SIGMA)},
    "an impossible shape": {"arr_0_npy": claimed((-1, 4, 4, 3)) + bytes(48)},
    "a shape beyond memory": {"arr_0_npy": claimed((2**40, 4, 4, 3)) + bytes(48)},
    "a header of gigabytes": {"mu_npy": b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + b" " * 10**6},
    "a header that is no dictionary": {"mu_npy": b"\x93NUMPY\1\0" + struct.pack("<H", 2000) + b"(" * 2000},
    "objects": {"mu_npy": npy(np.array([{}], dtype=object)), "sigma_npy": npy(SIGMA)},
}


@pytest.mark.parametrize("members", BROKEN.values(), ids=BROKEN)
def test_a_member_that_is_no_array_is_refused_in_one_sentence(tmp_path, members):
    archive(tmp_path / "s.npz", **members)
    with pytest.raises(ValueError, match=r"not an \.npz file of plain arrays") as caught:
        statistics_files.published(tmp_path / "s.npz", stream, SHAPE)
    assert type(caught.value) is ValueError


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", tmp_path / "absent"):
        with pytest.raises(ValueError, match="there is no such regular file"):
            statistics_files.published(path, stream, SHAPE)


@pytest.mark.parametrize("member", ["mu", "sigma", "arr_0"])
def test_nothing_is_unpacked_before_type_and_shape_are_known(tmp_path, member):
    """A quarter of a gigabyte of zeros, packed into little, of a shape that is refused."""
    arrays = {"mu_npy": npy(MU), "sigma_npy": npy(SIGMA)}
    shape = {"mu": (2**25,), "sigma": (2**12, 2**13), "arr_0": (2**12, 256, 256)}[member]
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in arrays.items():
            if name != f"{member}_npy":
                file.writestr(name.replace("_npy", ".npy"), content)
        with file.open(f"{member}.npy", "w", force_zip64=True) as packed:
            packed.write(claimed(shape, "<f8" if member != "arr_0" else "|u1"))
            for _ in range(256):
                packed.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"mu \(F,\) and sigma|arr_0 must be images|is of \d+ features"):
        statistics_files.published(tmp_path / "s.npz", stream, SHAPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_images_are_read_some_at_a_time(tmp_path, monkeypatch):
    expected = published(tmp_path / "s.npz", arr_0=IMAGES)
    monkeypatch.setattr(statistics_files, "AT_ONCE", 7 * IMAGES[0].nbytes)
    seen = []

    def watched(images):
        seen.append(len(images))
        return stream(images)

    (mu, sigma), features, count = statistics_files.published(tmp_path / "s.npz", watched, SHAPE)
    assert seen == [7] * 8 + [4]
    np.testing.assert_allclose(mu, expected.moments[0], rtol=1e-12)
    np.testing.assert_allclose(sigma, expected.moments[1], rtol=1e-9)
    np.testing.assert_array_equal(features, expected.features)
    assert count == 60


def test_arrays_in_columns_and_packed_ones_are_read(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", mu=MU, sigma=np.asfortranarray(SIGMA))
    (mu, sigma), _, _ = statistics_files.published(tmp_path / "s.npz", stream, SHAPE)
    np.testing.assert_array_equal(mu, MU)
    np.testing.assert_array_equal(sigma, SIGMA)


@pytest.mark.parametrize(
    "moments", [{"mu": MU + 1e308}, {"mu": MU - 1e200}, {"sigma": SIGMA * 1e250}, {"sigma": np.eye(6) * 1e308}]
)
def test_moments_whose_distance_would_be_infinite_are_refused(tmp_path, moments):
    with pytest.raises(ValueError, match=r"entries beyond 1e\+100"):
        published(tmp_path / "s.npz", **{"mu": MU, "sigma": SIGMA, **moments})


def test_moments_within_the_limit_give_a_number():
    large = (np.full(6, -1e100), np.eye(6) * 1e100)
    assert np.isfinite(distances.fid(large, (-large[0], large[1])))


def test_any_mutation_is_read_or_refused_with_one_kind_of_error(tmp_path):
    np.savez_compressed(tmp_path / "packed.npz", mu=MU, sigma=SIGMA, arr_0=IMAGES[:4])
    np.savez(tmp_path / "plain.npz", mu=MU, sigma=SIGMA, arr_0=IMAGES[:4])
    chance = random.Random(3)
    for original in ((tmp_path / name).read_bytes() for name in ("packed.npz", "plain.npz")):
        for _ in range(200):
            content = bytearray(original)
            for _ in range(chance.randint(1, 3)):
                place = chance.randrange(len(content))
                content[place : place + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
            (tmp_path / "mutated.npz").write_bytes(content)
            try:
                found = statistics_files.published(tmp_path / "mutated.npz", stream, SHAPE)
            except ValueError as error:
                assert type(error) is ValueError, error  # noqa: PT017
            else:
                assert np.isfinite(found.moments[1]).all()
