"""Texts in JSON from elsewhere are read, or refused in one sentence."""

import numpy as np
import pytest

from dode.weights import foreign_json


@pytest.mark.parametrize("value", [0, -1, 10**18, 2**63 - 1, -(2**63)])
def test_an_integer_that_an_array_can_hold_is_read(value):
    assert foreign_json.parsed(f'{{"a": [{value}]}}'.encode(), "it", ValueError) == {"a": [value]}
    assert int(np.int64(value)) == value


@pytest.mark.parametrize(
    ("digits", "says"),
    [
        (str(2**63), "it has the integer 9223372036854775808; "),
        (str(-(2**63) - 1), "it has the integer -9223372036854775809; "),
        (str(2**64), "it has the integer 18446744073709551616; "),
        ("9" * 20, "it has the integer 99999999999999999999; "),
        ("9" * 21, "it has an integer of 21 digits; "),
        ("-" + "9" * 5000, "it has an integer of 5000 digits; "),
    ],
)
def test_an_integer_beyond_64_bits_is_refused_with_what_is_allowed(digits, says):
    with pytest.raises(ValueError, match="it has") as caught:
        foreign_json.parsed(f"[{digits}]".encode(), "it", ValueError)
    assert str(caught.value) == f"{says}allowed: integers from {-(2**63)} to {2**63 - 1}"


def test_half_of_a_surrogate_pair_is_refused_and_a_whole_one_is_not():
    assert foreign_json.parsed(rb'["\uD83D\ude00"]', "it", ValueError) == ["\N{GRINNING FACE}"]
    for text in (rb'["\ud83d"]', rb'{"\udead": 1}', rb'["\ude00\ud83d"]'):
        with pytest.raises(ValueError, match="it has half of a surrogate pair, which is no character"):
            foreign_json.parsed(text, "it", ValueError)
