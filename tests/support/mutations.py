"""Bytes of a file, changed by Hypothesis."""

import os

from hypothesis import strategies as st


def examples(count):
    """How many examples a test has: ``count``, times DODE_EXAMPLES from the environment for a longer search."""
    return count * int(os.environ.get("DODE_EXAMPLES", "1"))


def mutated(content, data, places):
    """``content`` after one to four changes, half of them where the strategy ``places`` says."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, len(content) - 1), places)) % len(content)
        kind = data.draw(st.sampled_from(["set", "delete", "insert", "cut", "repeat"]))
        if kind == "set":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "delete":
            del content[place : place + data.draw(st.integers(1, 8))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del content[place:]
        else:
            content[place:place] = content[place : place + data.draw(st.integers(1, 64))]
        content = content or bytearray(b"\0")
    return bytes(content)
