"""The checkpoint of a card for commands, which have no rules that fetch and convert it."""

from pathlib import Path

from dode import checkpoints
from dode.fetching import acquire
from dode.fetching.cards import CONVERTED, Card, file_name, reading


def obtained(name: str, card: Card, root: str | Path) -> Path:
    """The file that jobs read, at its place in the working directory; fetched and converted if it is not here.

    Args:
        name: the card's name.
        card: the card.
        root: the folder that holds ``config/``.
    """
    fetched = Path("resources", "checkpoints", name, file_name(card))
    acquire.obtain(name, card, fetched, root=root, announce=print)
    if card["format"] not in CONVERTED:
        return fetched
    converted = Path("resources", "models", f"{name}.safetensors")
    if not checkpoints.is_of(converted, fetched, **reading(card)):
        if converted.exists():
            print(f"{converted} was not made from {fetched} by this card; it is made again.")
        checkpoints.convert(fetched, converted, **reading(card))
    return converted
