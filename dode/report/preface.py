"""What a reader of the Markdown tables should know first: marks, ranks over datasets, what the scores are against."""

import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dode.metrics.catalogue import METRICS
from dode.names import HALVES
from dode.report import ranking


def escaped(text: str) -> str:
    """``text`` as it is, in Markdown."""
    return re.sub(r"([\\|*_<`\[\]])", r"\\\1", text)


def pipes(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """A pipe table, the first column to the left, the others to the right."""
    alignment = ["left", *["right"] * (len(header) - 1)]
    return pd.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True, colalign=alignment)


def opening(frame: pd.DataFrame) -> list[str]:
    """The paragraphs under the title: what marks and scores mean, how solvers rank."""
    if frame.empty:
        return []
    found = [kind for name, kind in METRICS.items() if (frame["metric"] == name).any()]
    rare = ", ".join(kind.name for kind in found if not kind.tabled)
    more = f" Only the CSV file has {rare}." if rare else ""
    marks = f"{ranking.LEGEND.format('italic')} docs/scores.md says how scores are told apart.{more}"
    meanings = [f"- **{escaped(kind.name)}**: {escaped(kind.description)}" for kind in found if kind.tabled]
    return [marks, "\n".join(meanings), *_ranks(frame)]


def _ranks(frame):
    """The section on ranks; none where there is one dataset, or nothing that all have."""
    measured = frame[(frame["solver"] != HALVES) & ~frame["reference"]]
    datasets, having = measured["dataset"].nunique(), measured.groupby("metric")["dataset"].nunique()
    first = next((name for name in METRICS if having.get(name) == datasets), None)
    if first is None or datasets == 1:
        return []
    kind = METRICS[first]
    found = ranking.mean_ranks(measured[measured["metric"] == first], lower_is_better=kind.lower_is_better)
    if not found:
        return []
    counts = {nfe: count for own in found.values() for nfe, (_, count) in own.items()}
    nfes = sorted(counts)
    best = {nfe: min(own[nfe][0] for own in found.values() if nfe in own) for nfe in nfes}
    rows = []
    for label, own in sorted(found.items(), key=lambda item: np.mean([rank for rank, _ in item[1].values()])):
        texts = {nfe: f"{own[nfe][0]:.3g}" for nfe in nfes if nfe in own}
        texts |= {nfe: f"**{text}**" for nfe, text in texts.items() if own[nfe][0] == best[nfe]}
        rows.append([escaped(label), *(texts.get(nfe, "–") for nfe in nfes)])
    header = ["solver", *(f"NFE {nfe} (of {counts[nfe]})" for nfe in nfes)]
    note = (
        f"Mean over {datasets} datasets of the rank by {kind.name} (1 is best) among the solvers that every dataset "
        "has at that NFE. Solvers that cannot be told apart are tied, and a tie counts half."
    )
    return ["## Ranks", note, pipes(rows, header)]


def against(rows: pd.DataFrame) -> list[str]:
    """What the scores of a dataset are against, and which it lacks for want of real images; nothing where unknown."""
    of_real = [name for name, kind in METRICS.items() if kind.of_real]
    known = rows[(rows["real"] != "") | ((rows["extractor"] != "") & ~rows["metric"].isin(of_real).any())]
    if known.empty:
        return []
    first = known.iloc[0]
    card = json.loads(first["extractor"] or "{}")
    network = card.get("network", {}).get("name", "an unstated network") + _short(card.get("sha256"))
    if not card and first["real"] == "":
        others = [kind.name for kind in METRICS.values() if kind.of_features and kind.tabled]
        text = f"Scored without features and real images, so there is no {', '.join(others)} and the like."
    elif first["real"] == "":
        *others, last = [METRICS[name].name for name in of_real if METRICS[name].tabled]
        without = f"there is no {', '.join(others)} or {last}"
        text = f"Scored without real images by features of {network}, so {without}."
    else:
        size = "an unstated number of" if first["real_images"] is pd.NA else f"{first['real_images']:,}"
        statistics = _short(first["real_sha256"], "SHA-256 of their statistics")
        text = f"Scored against {size} real images (`{first['real']}`{statistics}) by features of {network}."
    for kind in (kind for name, kind in METRICS.items() if (known["metric"] == name).any()):
        if bias := [words for name, words in kind.bias.items() if known["biased"].str.contains(name).any()]:
            text += f" Here {kind.name} is biased. {' '.join(bias)}"
    return [text]


def _short(sha256, name="SHA-256"):
    return f", {name} {sha256[:12]}…" if sha256 else ""
