"""The settings ``execution`` of a configuration: how jobs run, never what they compute.

A file of its own, because every job reads them: in a larger one any edit of it would run all jobs again (digests.py).
"""

from collections.abc import Mapping
from typing import Any


def settings(execution: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """The settings as they are for the dataset id ``dataset`` (None: for jobs of no dataset)."""
    return {**execution, **execution["datasets"].get(dataset, {})}


def of_job(snakemake: Any) -> dict[str, Any]:
    """The settings for the dataset of a job, as its script has them."""
    return settings(snakemake.config["execution"], snakemake.wildcards.get("dataset"))
