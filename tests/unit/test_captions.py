"""Words for images of digits: they are true of the images, and prompts are balanced and as they are committed."""

import collections

import numpy as np
import pytest

from dode.models.embedded import captions, text_to_digit
from workspace import REPOSITORY


def strokes(*, width=2.0, lean=0.0):
    """An image (1, 1, 56, 56) of a line 40 pixels long, ``width`` wide, leaning to the right by ``lean``."""
    y, x = np.mgrid[:56, :56] - 27.5
    across = (x + lean * y) / np.hypot(1, lean)
    ink = np.clip(width / 2 + 0.5 - np.abs(across), 0, 1) * (np.abs(y) < 20)
    return np.round(255 * ink).astype(np.uint8)[None, None]


@pytest.mark.parametrize("lean", [0.0, 0.3])
@pytest.mark.parametrize("width", [3.0, 4.0, 6.0])
def test_the_thickness_of_a_line_is_its_width(width, lean):
    """Its short ends count as edges too: w L of ink and 2 L + 2 w of edge give w / (1 + w / L)."""
    length = 40 * np.hypot(1, lean)
    assert captions.thickness(strokes(width=width, lean=lean)) == pytest.approx(width / (1 + width / length), rel=0.04)


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.2, 0.5])
def test_the_slant_of_a_line_is_its_lean(lean):
    assert captions.slant(strokes(lean=lean)) == pytest.approx(lean, abs=0.01)


def test_words_are_of_the_extremes_of_a_digit():
    """Three in ten have each word, whatever the other digits look like."""
    widths, leans = np.linspace(2, 5, 10), np.roll(np.linspace(-0.3, 0.6, 10), 3)
    ones = [strokes(width=width, lean=lean) for width, lean in zip(widths, leans, strict=True)]
    bolder = [strokes(width=width + 4, lean=lean + 0.1) for width, lean in zip(widths, leans, strict=True)]
    words = captions.styles(np.concatenate(ones + bolder), np.repeat([1, 2], 10))
    assert words[:10] == words[10:]
    assert [[word for word in found if word in ("thin", "bold")] for found in words[:10]] == (
        3 * [["thin"]] + 4 * [[]] + 3 * [["bold"]]
    )
    assert {index for index, found in enumerate(words[:10]) if "slanted" in found} == set(np.argsort(leans)[-3:])
    assert {index for index, found in enumerate(words[:10]) if "upright" in found} == set(np.argsort(leans)[:3])


def test_captions_say_what_they_are_given_in_several_ways():
    generator = np.random.default_rng(0)
    assert {captions.caption(8, ["bold", "upright"], generator) for _ in range(200)} == {
        "a bold upright eight",
        "an upright bold eight",
        "eight, bold and upright",
        "eight, upright and bold",
        "the bold upright digit eight",
        "the upright bold digit eight",
    }
    assert {captions.caption(8, [], generator) for _ in range(50)} == {"an eight", "eight", "the digit eight"}
    assert {captions.caption(1, ["thin"], generator) for _ in range(50)} == {
        "a thin one",
        "one, thin",
        "the thin digit one",
    }


def test_prompts_are_balanced():
    rows = captions.prompts(900, seed=1)
    assert len(rows) == 900
    said = collections.Counter(
        frozenset(row.replace(",", "").split()) - {"a", "an", "the", "and", "digit"} for row in rows
    )
    assert len(said) == 90
    assert set(said.values()) == {10}
    assert rows != captions.prompts(900, seed=2)


def test_an_unbalanced_number_of_prompts_is_refused():
    with pytest.raises(ValueError, match="count 100: must be a multiple of 90"):
        captions.prompts(100, seed=0)


def test_the_committed_prompts_are_the_commands(tmp_path):
    text_to_digit.write_prompts(output=tmp_path)
    committed = (REPOSITORY / "config/prompts/digits.txt").read_text(encoding="utf-8")
    assert (tmp_path / "digits.txt").read_text(encoding="utf-8") == committed
    assert len(committed.splitlines()) == 2700
