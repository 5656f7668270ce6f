"""The best plain and the best distilled solver of the embedded models, from the table of config/solvers.yaml.

After ``snakemake --configfile config/solvers.yaml``, ``python benchmarks/digits.py`` writes the last section of
docs/solvers.md.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from toy import PAGE, replace

from dode.metrics.catalogue import METRICS
from dode.report import frame as frames

ROOT = Path(__file__).parents[1]
SHOWN = ("self_fid", "trajectory_rmse")


def champions(frame):
    """The best plain and the best distilled cell of each dataset, metric and NFE, with the gain, Markdown."""
    rows = []
    for (dataset, metric, nfe), group in frame.groupby(["dataset", "metric", "nfe"], sort=True):
        plain, fitted = (group[group["distilled"] == kind] for kind in (False, True))
        if metric not in SHOWN or plain.empty or fitted.empty:
            continue
        best = [of.loc[of["value"].idxmin()] for of in (plain, fitted)]
        rows.append(
            {
                "model": dataset,
                "metric": METRICS[metric].name,
                "NFE": int(nfe),
                "best plain": _cell(best[0]),
                "best distilled": _cell(best[1]),
                "gain": f"{best[0]['value'] / best[1]['value']:.1f}×",
            }
        )
    table = pd.DataFrame(rows).sort_values(["metric", "model", "NFE"])
    return table.to_markdown(index=False)


def _cell(row):
    return f"{row['value']:.3g} ± {row['error']:.1g}: {row['label']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=ROOT / "results" / "solvers" / "table.csv")
    parser.add_argument("--print", action="store_true", help="print the table and write nothing")
    options = parser.parse_args()
    if not options.table.is_file():
        sys.exit(f"{options.table} is missing: run snakemake --configfile config/solvers.yaml first")
    frame = frames.read_csv(options.table)
    text = champions(frame[frame["nfe"].notna() & ~frame["reference"]])
    if options.print:
        print(text)
        return
    PAGE.write_text(replace(PAGE.read_text(encoding="utf-8"), "digits", text), encoding="utf-8")


if __name__ == "__main__":
    main()
