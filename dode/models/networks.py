"""Networks by the name that a card gives them: that of ``adm-unet`` is in ``adm_unet.py``, in the folder of its family.

Imports no torch: the configuration is checked, and the code that a result depends on is found, without it.
"""

from pathlib import Path

from dode.registry import FileRegistry

networks = FileRegistry("network", "dode.models", Path(__file__).parent)
