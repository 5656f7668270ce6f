"""Which pipelines are known: families by the classes of diffusers that they are of. Imports no torch."""

import functools
import re
from pathlib import Path

from dode.registry import FileRegistry


class Families(FileRegistry):
    """Families by the class of the pipeline; a file may register several classes."""

    @functools.cached_property
    def modules(self) -> dict[str, str]:
        """The dotted name of the module of each class; nothing is imported."""
        found = {}
        for path in sorted(self.folder.glob("*.py")):
            for name in re.findall(r'^@families\.register\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE):
                found[name] = f"{self.package}.{path.stem}"
        return found


families = Families("pipeline", "dode.pipelines", Path(__file__).parent)
