"""The entries of ``config/checkpoints.lock``, made and renewed on purpose (``make lock-checkpoints``)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dode.fetching import acquire, cards, checksums, pipelines


def unlocked(root: str | Path) -> dict[str, tuple[str, cards.Card]]:
    """``(name, card)`` of the cards without a whole sha256, by the key of the entry that they need."""
    known = {name: cards.load_card(root, name, "card") for name in cards.names(root)}
    known = {name: card for name, card in known.items() if not _in_place(card)}
    whole = {name for name, card in known.items() if len(card.get("sha256", "")) == 64}
    return {_key(name, card): (name, card) for name, card in known.items() if name not in whole}


def _in_place(card):
    """Whether a card is of a folder that is used where it is, and known by its contents."""
    own = pipelines.of_card(card)
    return own is not None and own["source"].startswith("file:")


def _key(name, card):
    return f"{name}/{name}.json" if pipelines.of_card(card) is not None else f"{name}/{cards.file_name(card)}"


def chosen(wanted: Mapping[str, tuple[str, cards.Card]], entries: Collection[str], names: Sequence[str]) -> list[str]:
    """The keys to fetch: of the cards ``names``, or those without an entry. ValueError for a name that needs none."""
    known = [name for name, _ in wanted.values()]
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: no such card needs an entry; those that do: {', '.join(known) or 'none'}")
    return [key for key, (name, _) in wanted.items() if (name in names if names else key not in entries)]


def lock(root: str | Path, names: Sequence[str], shared: str | Path | None, say: Callable[[str], object]) -> bool:
    """Fetch what :func:`chosen` names and record it; without names drop the entries that no card needs.

    ``shared`` is a cache folder or None, ``say`` is called with a line for each entry. Returns whether all went well.
    """
    wanted, entries, good = unlocked(root), checksums.read(root), True
    for key in chosen(wanted, entries, names):
        name, card = wanted[key]
        how: dict[str, Any] = {"root": root, "shared": shared, "renew": key in entries, "announce": say}
        try:
            if pipelines.of_card(card) is not None:
                target = Path("resources", "pipelines" if "pipeline" in card else "scorers", f"{name}.json")
                target.parent.mkdir(parents=True, exist_ok=True)
                before = pipelines.obtain(name, card, target, folder=cards.folder_of(root, name), **how)
            else:
                before = acquire.obtain(name, card, Path("resources/checkpoints", key), **how)
        except (OSError, ValueError) as error:
            say(f"failed     {key}: {error}")
            good = False
            continue
        say(_line(key, checksums.read(root)[key], before, known=key in entries))
    stale = sorted(entries.keys() - wanted.keys())
    if stale and not names:
        checksums.remove(root, stale)
        say("\n".join(f"removed    {key}: no card needs it" for key in stale))
    return good


def _line(key, now, before, *, known):
    """A line that says what happened to an entry."""
    what = "added     " if not known else "unchanged " if before == now else "CHANGED   "
    was = f" (was {before['sha256']}, {before['size']} bytes, of {before['date']})" if before not in (None, now) else ""
    return f"{what} {key}: sha256 {now['sha256']}, {now['size']} bytes{was}"
