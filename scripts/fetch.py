"""Fetch a checkpoint and verify its sha256."""

from dode import config, scripting
from dode.fetch import fetch


def main(snakemake):
    root = snakemake.params.root
    # The mirrors are read here and not from params: a further one must not fetch again what is there.
    card = config.load_card(root, snakemake.wildcards.card, "card")
    fetch(card["urls"], snakemake.params.sha256, snakemake.output[0], folder=config.cards_folder(root))


if __name__ == "__main__":
    scripting.run(main, snakemake)
