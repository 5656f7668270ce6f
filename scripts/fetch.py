"""Fetch a checkpoint and verify it."""

from dode.benchmark import scripting
from dode.fetching import acquire, cards, places


def main(snakemake):
    name, root = snakemake.wildcards.card, places.workflow()
    # The card is read here and not from params: a further mirror must not fetch again what is there.
    card = cards.load_card(root, name, "card")
    shared = snakemake.config["execution"].get("cache")
    acquire.obtain(name, card, snakemake.output[0], root=root, shared=shared, announce=scripting.announce)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
