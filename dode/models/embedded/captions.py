"""Words for images of digits: what a caption says, which images it is true of, and prompts of the same grammar."""

import itertools
from collections.abc import Sequence

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Words for the lowest and the highest 30 % of a property among the images of a digit.
STYLES = (("thin", "bold"), ("upright", "slanted"))
SHARE = 0.3


def thickness(images: np.ndarray) -> np.ndarray:
    """Mean width of the strokes in pixels, (n,): twice the ink over its total variation, ``2 sum(u) / sum(|grad u|)``.

    For a line of width w and length L these sums are ``w L`` and, from its two edges, ``2 L``.

    Args:
        images: (n, 1, height, width), 0 where there is no ink; each has some.
    """
    ink = images[:, 0].astype(np.float64)
    down, right = np.gradient(ink, axis=(1, 2))
    return 2 * ink.sum((1, 2)) / np.hypot(down, right).sum((1, 2))


def slant(images: np.ndarray) -> np.ndarray:
    """How far the ink leans to the right, in pixels per pixel of height, (n,): ``-mu_xy / mu_yy`` (y points down).

    mu are its central second moments, so this is the shear that sets it upright.

    Args:
        images: (n, 1, height, width), 0 where there is no ink; each has some in more than one row.
    """
    ink = images[:, 0].astype(np.float64)
    ink /= ink.sum((1, 2), keepdims=True)
    y, x = (np.arange(size) for size in ink.shape[1:])
    y = y - np.einsum("nyx,y->n", ink, y)[:, None]
    x = x - np.einsum("nyx,x->n", ink, x)[:, None]
    return -np.einsum("nyx,ny,nx->n", ink, y, x) / np.einsum("nyx,ny->n", ink, y**2)


def styles(images: np.ndarray, labels: np.ndarray) -> list[tuple[str, ...]]:
    """The words that are true of each image: none to two, one of each pair in :data:`STYLES`.

    Each is in comparison with the other images of the same digit, so that every digit has images of every style: a
    seven leans more than an eight.

    Args:
        images: (n, 1, height, width) uint8.
        labels: (n,), 0 to 9.
    """
    found: list[list[str]] = [[] for _ in labels]
    for (low, high), values in zip(STYLES, (thickness(images), slant(images)), strict=True):
        for digit in np.unique(labels):
            rows = np.flatnonzero(labels == digit)
            lowest, highest = np.quantile(values[rows], (SHARE, 1 - SHARE))
            for row in rows:
                if values[row] <= lowest or values[row] >= highest:
                    found[row].append(low if values[row] <= lowest else high)
    return [tuple(words) for words in found]


def caption(digit: int, words: Sequence[str], generator: np.random.Generator) -> str:
    """One of the ways to say it: "a bold slanted two", "two, slanted and bold", "the bold slanted digit two"."""
    words, name = [str(word) for word in generator.permutation(list(words))], DIGITS[digit]
    form = generator.integers(3)
    if form == 0:
        phrase = " ".join([*words, name])
        return f"an {phrase}" if phrase[0] in "aeiu" else f"a {phrase}"
    if form == 1:
        return ", ".join([name, " and ".join(words)] if words else [name])
    return " ".join(["the", *words, "digit", name])


def prompts(count: int, *, seed: int) -> list[str]:
    """Captions without images, in random order: every digit equally often with each of the 9 choices of words.

    Args:
        count: how many, a multiple of 90.
        seed: of order and wording.
    """
    generator = np.random.default_rng(seed)
    choices = [
        (digit, [word for word in words if word])
        for digit in range(len(DIGITS))
        for words in itertools.product(*[(*pair, "") for pair in STYLES])
    ]
    if count % len(choices):
        raise ValueError(f"count {count}: must be a multiple of {len(choices)}, so that all are equally frequent")
    rows = [caption(digit, words, generator) for digit, words in choices * (count // len(choices))]
    return [str(row) for row in generator.permutation(rows)]
