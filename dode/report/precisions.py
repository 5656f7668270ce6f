"""What was measured to choose the precision of networks, as tables say it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dode import storage
from dode.metrics.catalogue import METRICS

HEADER = ("data set", "of", "precision", "evaluations/s", "moves scores by (of a seed's noise)", "taken for", "why")
#: The choices in words.
KINDS = {"plain": "plain solvers", "fitted": "fitted solvers", "fine": "the fine solution"}


def read(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The measurements in files ``<dataset>/precision/<part>/table.json``.

    Returns:
        Of each its ``dataset``, ``part`` and ``ways``: ``way``, ``speed`` in evaluations per second (None where it
        could not run), ``first``, seconds of the first call, ``moved``, by kind and score the largest share of a
        seed's noise that the score may have moved by, ``chosen``, the kinds that it was taken for, and ``why``, by
        kind.
    """
    found = []
    for path in map(Path, paths):
        ways = [
            {
                "way": row["way"],
                "speed": row["evaluations_per_second"],
                "first": row["first_seconds"],
                "moved": {
                    kind: {score: entry["share"] for score, entry in own.items()} for kind, own in row["moved"].items()
                },
                "chosen": row["chosen"],
                "why": row["why"],
            }
            for row in storage.read_json(path)["ways"]
        ]
        found.append({"dataset": path.parts[-4], "part": path.parts[-2], "ways": ways})
    return found


def rows(measurement: dict[str, Any]) -> list[tuple[str, ...]]:
    """A measurement as rows under :data:`HEADER`, the fastest way first."""
    part = "the fine solution" if measurement["part"] == "fine" else f"NFE {measurement['part'].removeprefix('nfe')}"
    found: list[tuple[str, ...]] = []
    for way in sorted(measurement["ways"], key=lambda way: -(way["speed"] or 0)):
        speed = "–" if way["speed"] is None else f"{way['speed']:,.0f}"
        taken = ", ".join(KINDS[kind] for kind in way["chosen"])
        found.append(
            (measurement["dataset"], part, way["way"], speed, _moved(way["moved"]), taken or "–", _why(way["why"]))
        )
    return found


def _moved(moved):
    """Such as ``plain: paired FID 0.53, trajectory RMSE 0.42``; a dash where nothing was compared."""
    texts = [
        f"{kind}: " + ", ".join(f"{METRICS[score].name} {share:.2g}" for score, share in own.items())
        for kind, own in moved.items()
    ]
    return "; ".join(texts) or "–"


def _why(why):
    """The reason of each kind, once where it is the same."""
    if len(set(why.values())) == 1:
        return next(iter(why.values()))
    return "; ".join(f"{kind}: {reason}" for kind, reason in why.items())
