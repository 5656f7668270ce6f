"""Fetch the folder of a pipeline, or find it, and write its manifest."""

from dode.benchmark import scripting
from dode.fetching import cards, pipelines, places


def main(snakemake):
    name, root = snakemake.wildcards.card, places.workflow()
    # The card is read here and not from params: another source of the same files must not make all again.
    card, shared = cards.load_card(root, name, "card"), snakemake.config["execution"].get("cache")
    how = {"root": root, "folder": cards.folder_of(root, name), "shared": shared, "announce": scripting.announce}
    pipelines.obtain(name, card, snakemake.output[0], **how)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
