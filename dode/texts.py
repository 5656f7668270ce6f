"""Text from elsewhere: shown so that no terminal, table or page obeys it, and refused where nobody means it."""

import io
import re
import unicodedata
from typing import TextIO

#: Categories of characters that draw nothing: control and format characters (escape codes, zero-width ones, those that
#: turn the direction of writing), surrogates, private and unassigned ones, separators of lines and paragraphs.
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def is_seen(character: str) -> bool:
    """Whether a character is drawn and nothing else; a space is."""
    return unicodedata.category(character) not in UNSEEN


def shown(text: object, *, lines: bool = False) -> str:
    r"""``text`` with every character that is not drawn as its escape sequence.

    Args:
        text: anything; ``str`` of it is shown.
        lines: whether line feeds and tabs stay as they are.

    >>> print(shown("a\x1b[31mb\nc"))
    a\x1b[31mb\nc
    """
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or is_seen(c) else c.encode("unicode_escape").decode() for c in str(text))


def write_all(stream: TextIO) -> None:
    """Let a standard stream escape what the locale has no bytes for, as standard error does, and not die of it."""
    if isinstance(stream, io.TextIOWrapper):  # and not what a test or a notebook has put there
        stream.reconfigure(errors="backslashreplace")


def refuse(text: str, *, lines: bool = False, tags: bool = False) -> None:
    """Raise ValueError, which shows the text escaped, for text that cannot be meant as a name.

    Args:
        text: what a user wrote.
        lines: whether line feeds and tabs are allowed.
        tags: whether what starts a tag of HTML is allowed; ``m<3`` always is. A page made from foreign templates, as
            Snakemake's report is, may run what is in one.
    """
    kept = "\n\t" if lines else ""
    for character in "" if text.isprintable() else text:  # that is quick, and no character of UNSEEN is printable
        if character not in kept and not is_seen(character):
            name = unicodedata.name(character, "a control character").lower()
            raise ValueError(
                f"'{shown(text)}' contains U+{ord(character):04X} ({name}), which cannot be seen; remove it"
            )
    if not tags and re.search(r"<[A-Za-z/!?]", text):
        raise ValueError(
            f"'{text}' contains '<' as at the start of an HTML tag, which is not allowed; put a space after it"
        )
