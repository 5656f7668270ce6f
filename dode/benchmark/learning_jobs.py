"""What the scripts of methods that learn have in common: where a task goes on after a kill."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dode.distillation.task import Checkpoint


@contextlib.contextmanager
def checkpoint(path: str, made: Mapping[str, Any]) -> Iterator[Checkpoint]:
    """Where a job that writes ``path`` keeps how far it is: a file beside that, gone once ``path`` is written."""
    own = Checkpoint(f"{path}.checkpoint", json.dumps(made, sort_keys=True))
    yield own
    own.remove()
