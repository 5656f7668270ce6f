"""What a benchmark has taken of archives, as its tables, its record and its page say it.

Everything starts from the files of the rule ``elsewhere`` (:func:`dode.report.archives.elsewhere.taken`).
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from dode.report import comparison, verdicts
from dode.report.page import texts
from dode.report.preface import escaped

Taken = Mapping[str, Any]


def section(added: Sequence[Taken], scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the Markdown tables say at their end of each archive, in parts; nothing without archives.

    Args:
        added: what was taken of each archive.
        scores: the ``score.json`` of each own cell, by name.
    """
    return ["## Measured elsewhere", *(part for each in added for part in _of_archive(each, scores))] if added else []


def _of_archive(each, scores):
    about, names = each["about"], (each["about"]["mark"], "here")
    yield f"{escaped(about['legend'])}. {_count(each)}"
    for kind, what in (("same", "cells that are the same as here"), ("controls", "fine-step cells")):
        if each[kind]:
            yield f"Of its {what}: {agreement(each[kind], scores)}."
    if changes := _grouped((pair["own"], pair["differences"]) for pair in each["controls"]):
        yield "The fine-step cells were not computed by the same code:\n\n" + comparison.changed(changes, names)
    if changes := differing(each):
        yield (
            "These cells have the name or the parameters of cells here, and are not the same:\n\n"
            + comparison.changed(changes, names)
        )
    for own in each["apart"]:
        yield (
            f"Not shown are {texts.many(own['cells'], 'cell')} of its {escaped(own['dataset'])}, which cannot be "
            f"compared with {escaped(own['own'])} here:\n\n" + comparison.changed(_changes(own), names)
        )


def _count(each):
    rows, same = len(each["facts"]), len(each["same"])
    text = f"{texts.many(rows, 'cell')} of it {'is a row' if rows == 1 else 'are rows'} here"
    return f"{text}{f'; {same} more are the same as cells here' * bool(same)}."


def agreement(pairs: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, Any]]) -> str:
    """How the scores of an archive's cells agree with those of the same cells here, in words."""
    found = [
        row
        for pair in pairs
        for row in comparison.rows(pair["own"], verdicts.CONFIDENCE, pair["metrics"], scores[pair["own"]]["metrics"])
    ]
    equal = sum(row.first == row.second for row in found)
    beyond = [row for row in found if row.beyond]
    unknown = sum(row.beyond is None for row in found)
    text = f"{equal} of {texts.many(len(found), 'score')} are equal to the last digit, {len(beyond)} differ beyond"
    text += f" their errors, {unknown} cannot be judged" if unknown else " their errors"
    named = ", ".join(escaped(f"{row.metric} of {row.cell}") for row in beyond[:3])
    return f"{text} ({named}{', …' if len(beyond) > 3 else ''})" if beyond else text


def differing(each: Taken) -> list[comparison.Change]:
    """Where rows differ from the cells here that they have the name or the parameters of."""
    return _grouped((facts["name"], facts["differences"]) for facts in each["facts"])


def _grouped(cells):
    grouped: dict[tuple[str, str, str], tuple[Any, Any, list[str]]] = {}
    for name, found in cells:
        for key, theirs, own in found:
            grouped.setdefault((key, repr(theirs), repr(own)), (theirs, own, []))[2].append(name)
    return [
        comparison.Change("cells", key, theirs, own, tuple(cells))
        for (key, *_), (theirs, own, cells) in grouped.items()
    ]


def _changes(apart):
    return [comparison.Change(apart["dataset"], key, theirs, own, ()) for key, theirs, own in apart["differences"]]


def said(each: Taken) -> str:
    """What would become of an archive's cells, as Markdown, before anything has run here."""
    about, names = each["about"], (each["about"]["mark"], "here")
    parts = [f"{about['legend']}."]
    rows = collections.Counter(facts["dataset"] for facts in each["facts"])
    parts += [
        f"Rows of {dataset}: {texts.many(count, 'cell')}, marked {about['mark']}." for dataset, count in rows.items()
    ]
    if each["same"]:
        parts.append(f"The same as here, and therefore no rows: {', '.join(pair['own'] for pair in each['same'])}.")
    if changes := differing(each):
        parts.append("Rows that have the name or the parameters of cells here, and are not the same:")
        parts.append(comparison.changed(changes, names))
    if changes := _grouped((pair["own"], pair["differences"]) for pair in each["controls"]):
        parts.append(
            "Its fine-step cells were not computed by the same code. Once they are measured here too, table.md says "
            "whether their scores are the same:"
        )
        parts.append(comparison.changed(changes, names))
    for own in each["apart"]:
        cells = texts.many(own["cells"], "cell")
        parts.append(f"Not comparable with {own['own']} here, and not shown: {cells} of {own['dataset']}, because of")
        parts.append(comparison.changed(_changes(own), names))
    return "\n\n".join(parts)


def record(added: Sequence[Taken]) -> dict[str, Any]:
    """What the benchmark's own record says of archives: of each its checksum, and the cells that are rows here."""
    found = [
        {**{key: each["about"][key] for key in ("mark", "benchmark", "by", "date", "dode", "sha256")}, "cells": names}
        for each in added
        for names in [[facts["name"] for facts in each["facts"]]]
    ]
    return {"elsewhere": found} if found else {}


def provenance(own: Mapping[str, Any], added: Sequence[Taken]) -> dict[str, Any]:
    """The record of a benchmark with what the rows from archives were made of and on, as the page needs it."""
    cells, environments = dict(own["cells"]), list(own["environments"])
    for each in added:
        first = len(environments)
        environments += each["environments"]
        for name, made in each["made"].items():
            kinds = {kind: [first + index for index in indices] for kind, indices in made["environments"].items()}
            cells[name] = {**made, "environments": kinds}
    return {**own, "cells": cells, "environments": environments}


def about(added: Sequence[Taken], scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the page says of each archive: ``mark``, ``legend``, ``file``, ``sha256`` and ``sentences``."""
    found = []
    for each in added:
        sentences = [_count(each)]
        if each["same"]:
            sentences.append(f"Of its cells that are the same as here, {agreement(each['same'], scores)}.")
        if each["controls"]:
            sentences.append(f"Of its fine-step cells, {agreement(each['controls'], scores)}.")
        if codes := sorted({key for pair in each["controls"] for key, *_ in pair["differences"]}):
            sentences.append(f"They were not computed by the same code: {', '.join(codes)}.")
        counts = collections.Counter(key for facts in each["facts"] for key, *_ in facts["differences"])
        if counts:
            keys = ", ".join(sorted(counts))
            sentences.append(f"From cells of the same name or parameters here, rows differ in: {keys}.")
        for own in each["apart"]:
            keys = ", ".join(key for key, *_ in own["differences"])
            sentences.append(
                f"Its {own['dataset']} cannot be compared with {own['own']} here, and is not shown: {keys}."
            )
        found.append(
            {**{key: each["about"][key] for key in ("mark", "legend", "file", "sha256")}, "sentences": sentences}
        )
    return found
