"""Similarity of decoded images to the fine solution's, against known answers."""

import numpy as np
import pytest

from dode.metrics import scores

pytest.importorskip("skimage", reason="pipelines need the extra `pipelines`")
from dode.metrics import similarity

C_1, C_2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2


def flat(value, size=16):
    return np.full((3, size, size), value)


def stripes(amplitude, mean=0.0, size=24):
    """Columns that alternate between two values."""
    return np.broadcast_to(mean + amplitude * np.where(np.arange(size) % 2, 1.0, -1.0), (3, size, size)).copy()


@pytest.mark.parametrize(("one", "other"), [(0.5, -0.25), (0.9, 0.8), (-1.0, 1.0), (0.3, 0.3)])
def test_of_flat_images_ssim_is_a_ratio_of_their_means(one, other):
    expected = (2 * one * other + C_1) / (one**2 + other**2 + C_1)
    assert similarity.ssim(flat(one), flat(other)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [(0.5, 0.25), (0.5, -0.5)])
def test_of_stripes_ssim_is_a_ratio_of_their_deviations(one, other):
    """A Gaussian window sees the mean of the stripes as 0 to 1e-4, and their variance as the squared amplitude."""
    expected = (2 * one * other + C_2) / (one**2 + other**2 + C_2)
    assert similarity.ssim(stripes(one), stripes(other)) == pytest.approx(expected, abs=1e-3)


def test_ssim_is_the_papers_formula_on_any_image():
    """Window by window as the paper has it, without a library."""
    draw = np.random.default_rng(0)
    first = draw.uniform(-1, 1, (2, 15, 13))
    second = np.clip(first + draw.normal(0, 0.3, first.shape), -1, 1)
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for x, y in zip(first, second, strict=True):
        for row in range(5):
            for column in range(3):
                a, b = (image[row : row + 11, column : column + 11] for image in (x, y))
                m_a, m_b = (window * a).sum(), (window * b).sum()
                v_a, v_b, c = ((window * p * q).sum() for p, q in ((a, a), (b, b), (a, b)))
                top = (2 * m_a * m_b + C_1) * (2 * (c - m_a * m_b) + C_2)
                found.append(top / ((m_a**2 + m_b**2 + C_1) * (v_a - m_a**2 + v_b - m_b**2 + C_2)))
    assert similarity.ssim(first, second) == pytest.approx(np.mean(found), abs=1e-10)


def test_each_image_counts_once_and_has_its_error():
    """Squared errors of 0.04 and 0.01 at a peak of 2 are 20 and 26.02 dB."""
    second = np.stack([flat(0.1), flat(-0.2)]).astype(np.float32)
    found = similarity.of_decoded([(second + np.float32([[[[0.2]]], [[[0.1]]]]), second)])
    ratios = [20.0, 10 * np.log10(4 / 0.01)]
    psnr = found["decoded_psnr"]
    assert psnr["value"] == pytest.approx(np.mean(ratios), abs=1e-4)
    assert psnr["error"] == pytest.approx(np.std(ratios, ddof=1) / np.sqrt(2), abs=1e-4)
    assert (psnr["error_kind"], psnr["images"], psnr["peak"]) == ("images", 2, scores.PEAK)
    values = [(2 * a * b + C_1) / (a**2 + b**2 + C_1) for a, b in ((0.3, 0.1), (-0.1, -0.2))]
    ssim = found["decoded_ssim"]
    assert ssim["value"] == pytest.approx(np.mean(values), abs=1e-6)
    assert ssim["error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2), abs=1e-6)


def test_several_seeds_have_their_mean_and_spread():
    pairs = [(np.stack([flat(shift), flat(shift)]), np.stack([flat(0.0)] * 2)) for shift in (0.1, 0.2)]
    found = similarity.of_decoded(pairs)["decoded_psnr"]
    assert found["blocks"] == pytest.approx([10 * np.log10(4 / 0.01), 10 * np.log10(4 / 0.04)])
    assert found["error_kind"] == "seeds"


def test_what_a_decoder_puts_beyond_white_and_black_is_not_seen():
    near, far = np.stack([flat(1.0), flat(-1.0)]), np.stack([flat(1.5), flat(-1.2)])
    found = similarity.of_decoded([(far, near)])
    assert found["decoded_psnr"]["blocks"] == [np.inf]
    assert found["decoded_ssim"]["value"] == 1


def test_images_smaller_than_the_window_have_no_ssim():
    images = np.random.default_rng(0).uniform(-1, 1, (4, 1, 10, 24))
    assert set(similarity.of_decoded([(images, -images)])) == {"decoded_psnr"}
    assert set(similarity.of_decoded([(images.repeat(2, 2), -images.repeat(2, 2))])) == {"decoded_psnr", "decoded_ssim"}
