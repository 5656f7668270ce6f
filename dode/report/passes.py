"""How many passes of the network the evaluations of a table are, in words."""

from collections.abc import Iterable


def sentence(cells: Iterable[tuple[int, int | None]]) -> str:
    """Where guidance runs the network more than once an evaluation, how often; empty where it does not.

    Args:
        cells: the evaluations (NFE) and the passes of each cell, None where these are not known.

    >>> sentence([(4, 8), (6, 12)])
    'each evaluation (NFE) is 2 network passes'
    >>> sentence([(4, 6), (4, 7), (6, 9)])
    'network passes: 6 to 7 at NFE 4, 9 at NFE 6'
    """
    known = [(nfe, passes) for nfe, passes in cells if passes is not None]
    if all(nfe == passes for nfe, passes in known):
        return ""
    ratios = {passes / nfe for nfe, passes in known}
    if len(ratios) == 1:
        return f"each evaluation (NFE) is {ratios.pop():g} network passes"
    by_nfe: dict[int, set[int]] = {}
    for nfe, passes in known:
        by_nfe.setdefault(nfe, set()).add(passes)
    texts = [
        f"{' to '.join(map(str, sorted({min(found), max(found)})))} at NFE {nfe}"
        for nfe, found in sorted(by_nfe.items())
    ]
    return f"network passes: {', '.join(texts)}"
