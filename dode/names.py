"""The names of cells in paths, tables and commands, which are formed and read only here."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

REFERENCE = "reference"  # id of the fine-step solver of each dataset among the cells
HALVES = "real-halves"  # what stands in tables in a solver's place, where halves of the real images are compared


class CellName(NamedTuple):
    """A cell: the ids of its dataset and its solver, and its number of network evaluations (NFE).

    >>> str(CellName("digits-edm", "ddim", 5))
    'digits-edm/ddim/nfe5'
    >>> CellName.read("digits-edm/ddim/nfe5").nfe
    5
    """

    dataset: str
    solver: str
    nfe: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.solver}/nfe{self.nfe}"

    @classmethod
    def read(cls, text: str) -> "CellName":
        """From ``<dataset>/<solver>/nfe<n>``; ValueError for anything else."""
        found = re.fullmatch(r"([^/]+)/([^/]+)/nfe([0-9]+)", text)
        if found is None:
            raise ValueError(f"{text!r} is not the name of a cell; expected <dataset>/<solver>/nfe<n>")
        return cls(found[1], found[2], int(found[3]))

    @classmethod
    def of(cls, facts: dict) -> "CellName":
        """From a dictionary with ``dataset``, ``solver`` and ``nfe``."""
        return cls(facts["dataset"], facts["solver"], facts["nfe"])


#: The same name with Snakemake's wildcards.
WILDCARDS = "{dataset}/{solver}/nfe{nfe}"


def any_of(ids: Iterable[str]) -> str:
    """The pattern of these ids and nothing else; without any it matches nothing.

    >>> any_of(["a.b", "c"])
    'a\\\\.b|c'
    """
    return "|".join(map(re.escape, ids)) or "(?!)"


def cells_with(folder: str | Path, file: str) -> dict[CellName, Path]:
    """The folders of cells below a folder of results that hold ``file``, by name, sorted."""
    found = {}
    for path in Path(folder).glob(f"*/*/nfe*/{file}"):
        with contextlib.suppress(ValueError):
            found[CellName.read(path.parent.relative_to(folder).as_posix())] = path.parent
    return dict(sorted(found.items()))
