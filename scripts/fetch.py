"""Fetch a checkpoint and verify it."""

import sys

from dode import texts
from dode.benchmark import scripting
from dode.fetching import acquire, cards


def announce(text):
    """To the terminal too, which the log has replaced as standard error."""
    for stream in (sys.stderr, sys.__stderr__):
        print(texts.shown(text, lines=True), file=stream)


def main(snakemake):
    name, root = snakemake.wildcards.card, snakemake.params.root
    # The card is read here and not from params: a further mirror must not fetch again what is there.
    card = cards.load_card(root, name, "card")
    shared = snakemake.config["execution"].get("cache")
    acquire.obtain(name, card, snakemake.output[0], root=root, shared=shared, announce=announce)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
