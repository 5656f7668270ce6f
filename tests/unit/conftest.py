"""Fixtures of the unit tests."""

import pytest

from dode import checkpoints
from dode.checkpoints import conversion


@pytest.fixture
def here(monkeypatch):
    """Conversion in this process, which starts torch only once; what the child is for has tests of its own."""
    monkeypatch.setattr(conversion, "run", checkpoints.convert_here)
