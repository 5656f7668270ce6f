"""The header of the file of what is prepared for a solver. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

METADATA = "dode"  # its one entry


def read_header(path: str | Path) -> dict[str, Any]:
    """``cost``, ``numbers`` and what it was ``made`` from, as ``write_prepared`` of :mod:`learning_jobs` wrote."""
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()[METADATA])
