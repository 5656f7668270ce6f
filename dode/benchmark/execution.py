"""The settings ``execution`` of a configuration: how jobs run, never what they compute.

They have their own module because every job reads them: in a larger one, any edit would rerun all jobs (digests.py).
"""

from collections.abc import Mapping
from typing import Any


def settings(execution: Mapping[str, Any], dataset: str | None) -> dict[str, Any]:
    """The settings for the dataset id ``dataset`` (None: for jobs that belong to no dataset)."""
    return {**execution, **execution["datasets"].get(dataset, {})}


def of_job(snakemake: Any) -> dict[str, Any]:
    """The settings for a job's dataset, for use in its script."""
    return settings(snakemake.config["execution"], snakemake.wildcards.get("dataset"))
