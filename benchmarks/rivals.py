"""The tables "side by side" of docs/learned-methods.md, from what a run of config/rivals.yaml found.

``snakemake --configfile config/rivals.yaml`` and then ``python benchmarks/rivals.py results/rivals/costs.csv`` keep its
scores and costs in ``benchmarks/rivals.csv`` and write the tables; without a file they are written from what is kept.
"""

import argparse
import math
from pathlib import Path

import pandas as pd
from toy import replace

ROOT = Path(__file__).parents[1]
KEPT, PAGE = ROOT / "benchmarks" / "rivals.csv", ROOT / "docs" / "learned-methods.md"
OURS = "J-iPNDM"
COSTED = (5, 8, 4, 3)  # at the first of these numbers of evaluations that a solver has, costs are shown


def number(value, digits=3):
    """With so many digits that count, and without a 0 before the point."""
    if value >= 10 ** (digits - 1):
        return f"{value:.0f}"
    places = digits - 1 - math.floor(math.log10(value))
    return f"{value:.{places}f}".removeprefix("0")


def costs_of(rows):
    """The last two columns of a solver's row: evaluations, those with gradients in brackets, and seconds."""
    row = next(rows.loc[nfe] for nfe in COSTED if nfe in rows.index)
    if not row["evaluations"]:
        return ["–", "–"]
    gradients = f" ({row['gradients']:,.0f})" if row["gradients"] else ""
    return [f"{row['evaluations']:,.0f}{gradients}", number(row["seconds"])]


def behind(found, best):
    """By how much a solver is behind the best of its columns: the mean of the logarithm of the ratio."""
    return sum(math.log(found[nfe] / best[nfe]) for nfe in found.index) / len(found)


def table(cells):
    """The table of one data set: ours first, the others by how far they are behind the best of each column."""
    paired = cells.pivot_table(index="label", columns="nfe", values="paired_fid")
    best = paired.min()
    ordered = sorted(paired.index, key=lambda label: (label != OURS, behind(paired.loc[label].dropna(), best)))
    (name,), nfes = cells["dataset"].unique(), list(paired.columns)
    head = [f"`{name}`", *(f"NFE {nfe}" for nfe in nfes), "evaluations (with gradients)", "s"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for label in ordered:
        found = paired.loc[label]
        values = ["" if math.isnan(found[nfe]) else number(found[nfe]) for nfe in nfes]
        values = [f"**{each}**" if found[nfe] == best[nfe] else each for nfe, each in zip(nfes, values, strict=True)]
        lines.append([label, *values, *costs_of(cells[cells["label"] == label].set_index("nfe"))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(cells):
    """What goes into the page."""
    scored = cells[cells["paired_fid"].notna()]
    return "\n\n".join(table(own) for _, own in scored.groupby("dataset", sort=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", type=Path, nargs="?", help="costs.csv of a run, which is kept")
    options = parser.parse_args()
    if options.costs is not None:
        KEPT.write_bytes(options.costs.read_bytes())
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace(text, "side by side", section(pd.read_csv(KEPT))), encoding="utf-8")


if __name__ == "__main__":
    main()
