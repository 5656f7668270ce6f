"""Feature extractors by the name that a card gives them, a file each: ``inception`` is in ``inception.py``.

An extractor is a function of images (B, C, H, W) uint8, on the CPU as a numpy array, that returns features (B, F). It
is made with the keyword options ``card``, ``checkpoint`` (a path) and ``device``. Imports no torch.
"""

from pathlib import Path

from dode.registry import FileRegistry

extractors = FileRegistry("feature extractor", "dode.metrics.extractors", Path(__file__).parent)
