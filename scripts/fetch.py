"""Fetch a checkpoint and verify it."""

import sys

from dode.benchmark import scripting
from dode.fetching import acquire, cards


def announce(text):
    """To the terminal too, which the log has replaced as standard error."""
    print(text, file=sys.stderr)
    print(text, file=sys.__stderr__)


def main(snakemake):
    name, root = snakemake.wildcards.card, snakemake.params.root
    # The card is read here and not from params: a further mirror must not fetch again what is there.
    card = cards.load_card(root, name, "card")
    shared = snakemake.config["execution"].get("cache")
    acquire.obtain(name, card, snakemake.output[0], root=root, shared=shared, announce=announce)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
