"""Bring ``config/checkpoints.lock`` up to date: what a checkpoint must be whose card has no whole sha256.

``python scripts/lock_checkpoints.py`` fetches the checkpoints that have no entry yet and drops the entries that no
card needs. With names of cards these are fetched again, and their entries replaced by what their URLs have today. The
files go to ``resources/checkpoints``, where the workflow looks for them.
"""

import argparse
import sys
from pathlib import Path

from dode import acquire, checksums, config, scripting, storage
from dode.cells import file_name


def unlocked(root):
    """Cards by the key of the entry that they need."""
    names = sorted(path.stem for path in config.cards_folder(root).glob("*.yaml"))
    cards = {name: config.load_card(root, name, "card") for name in names}
    whole = {name for name, card in cards.items() if len(card.get("sha256", "")) == 64}
    return {f"{name}/{file_name(card)}": (name, card) for name, card in cards.items() if name not in whole}


def chosen(wanted, entries, names):
    """The keys to fetch: of the cards ``names``, or those without an entry."""
    known = [name for name, _ in wanted.values()]
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: no card that needs an entry; those that do: {', '.join(known) or 'none'}")
    return [key for key, (name, _) in wanted.items() if (name in names if names else key not in entries)]


def lock(root, names, shared, say):
    """Fetch and record; returns whether all went well."""
    wanted, entries, good = unlocked(root), checksums.read(root), True
    for key in chosen(wanted, entries, names):
        name, card = wanted[key]
        target = Path("resources/checkpoints", key)
        try:
            before = acquire.obtain(name, card, target, root=root, shared=shared, renew=key in entries, announce=say)
        except (OSError, ValueError) as error:
            say(f"failed     {key}: {error}")
            good = False
            continue
        now = checksums.read(root)[key]
        what = "added     " if key not in entries else "unchanged " if before == now else "CHANGED   "
        was = (
            f" (was {before['sha256']}, {before['size']} bytes, of {before['date']})"
            if before not in (None, now)
            else ""
        )
        say(f"{what} {key}: sha256 {now['sha256']}, {now['size']} bytes{was}")
    stale = sorted(entries.keys() - wanted.keys())
    if stale and not names:
        checksums.remove(root, stale)
        say("\n".join(f"removed    {key}: no card needs it" for key in stale))
    return good


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cards", nargs="*", help="cards whose checkpoints are fetched again (default: those without entry)"
    )
    parser.add_argument("--cache", help="the folder of execution.cache")
    options = parser.parse_args(arguments)
    try:
        held = scripting.begin_run()  # noqa: F841 - a run that reads the files must not be under way
        good = lock(Path(), options.cards, options.cache, print)
    except (storage.Busy, config.ConfigError, ValueError) as error:
        sys.exit(str(error))
    if not good:
        sys.exit("not all checkpoints could be locked")


if __name__ == "__main__":
    main()
