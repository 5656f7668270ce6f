"""What is kept of a cell's scores, beside the scores: of how many images, by what, and made from what."""

from collections.abc import Mapping, Sequence
from typing import Any

from dode.benchmark.software import environment


def record(
    params: Any,
    made: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    images: int,
    device: str,
    reference: Mapping[str, Any] | None = None,
    extractor: str = "{}",
    biased: Sequence[str] = (),
) -> dict[str, Any]:
    """The contents of ``score.json``.

    Args:
        params: of the job: ``seeds``, ``scoring`` and ``code``.
        made: what the cell's samples were made from and with (``environments.json``).
        metrics: the scores.
        images: of each seed.
        device: on which they were scored.
        reference: the real images that they were compared with.
        extractor: what the features are of.
        biased: scores that so few images bias.
    """
    return {
        "metrics": metrics,
        "images": images,
        "seeds": params.seeds,
        **{key: made[key] for key in ("passes", "depth")},
        "reference": reference,
        "extractor": extractor,
        "biased": biased,
        **environment(device),
        "samples": made["environments"],
        "made": {
            **{key: made[key] for key in ("cell", "samples")},
            "scoring": params.scoring,
            "code": {**made["code"], "score": params.code},
        },
    }
