"""Where the methods that learn are found by name (:mod:`dode.distillation.learned`). Imports no torch."""

from pathlib import Path

from dode.registry import FileRegistry

_HERE = Path(__file__).parent
fits = FileRegistry("fit", "dode.distillation.methods", _HERE / "methods")
preparations = FileRegistry("preparation", "dode.distillation.preparations", _HERE / "preparations")
