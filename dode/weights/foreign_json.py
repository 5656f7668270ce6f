"""Texts in JSON from elsewhere, whose parsing is bounded and has one kind of error."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

LONGEST = 1000  # characters of a key
#: Integers that torch, numpy and safetensors can hold: of 64 bits, with a sign.
LEAST, MOST = -(2**63), 2**63 - 1
HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a surrogate pair, or a whole one


def parsed(content: bytes, what: str, error: Callable[[str], Exception], *, infinite: bool = False) -> Any:
    """The value of a text in JSON.

    Args:
        content: the text as UTF-8.
        what: it is, for the message.
        error: makes the exception for a message.
        infinite: whether -Infinity and Infinity are allowed, as Python writes them: the first is the
            ``lambda_min_clipped`` of diffusers' DPM-Solver.

    Raises:
        error: where the text is not JSON, has a key twice or a very long one, an integer beyond :data:`LEAST` and
            :data:`MOST`, a number such as NaN or 1e999, or half of a surrogate pair.
    """

    allowed = f"allowed: integers from {LEAST} to {MOST}"

    def once(pairs):
        found = dict(pairs)
        if any(len(key) > LONGEST for key in found):
            raise error(f"{what} has a key of more than {LONGEST} characters")
        if len(found) != len(pairs):
            raise error(f"{what} has the key {json.dumps(_first_double(pairs))[:80]} twice")
        return found

    def integer(digits):
        if len(digits) > 20:  # Python's own error for thousands of them is not one of JSON
            raise error(f"{what} has an integer of {len(digits.lstrip('-'))} digits; {allowed}")
        if not LEAST <= int(digits) <= MOST:
            raise error(f"{what} has the integer {digits}; {allowed}")
        return int(digits)

    def real(digits):
        value = float(digits)
        return value if math.isfinite(value) else constant(digits[:20])

    def constant(name):
        raise error(f"{what} has {name}, which is not a finite number")

    hooks: dict[str, Any] = {"parse_int": integer, "parse_float": real}
    hooks["parse_constant"] = lambda name: float(name) if infinite and name != "NaN" else constant(name)
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=once, **hooks)
        if HALF.search(content):  # it could be neither printed nor written
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise error(f"{what} has half of a surrogate pair, which is no character") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise error(f"{what} is not JSON, or cut off: {str(problem)[:200]}") from None


def _first_double(pairs):
    """The first key of an object that it has more than once."""
    seen: set[str] = set()
    return next(key for key, _ in pairs if key in seen or seen.add(key))
