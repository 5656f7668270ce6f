"""Where the workflow's files are: beside the package in a checkout, within it where it was installed from a wheel.

A wheel has what lies beside the package in a checkout as ``dode/workflow`` (``setup.py``). What a user adds to an
installed one, cards and the lock file of checkpoints, is in ``config/`` of the working directory. Imports no torch.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "workflow"


def workflow() -> Path:
    """The folder with the Snakefile, ``config/``, ``rules/`` and ``scripts/`` that belong to this package."""
    return PACKAGE.parent if (PACKAGE.parent / "Snakefile").is_file() else INSTALLED


def is_installed(root: str | Path) -> bool:
    """Whether a workflow's folder is that of an installed package, which nobody edits."""
    return Path(root).resolve() == INSTALLED.resolve()


def own(root: str | Path) -> Path:
    """The folder in whose ``config/`` the user's own files are: the workflow's, or the working directory."""
    return Path() if is_installed(root) else Path(root)


def folders_of_cards(root: str | Path) -> list[Path]:
    """Where cards are: with the workflow, and in the working directory."""
    folders = [Path(root) / "config" / "models", Path("config", "models")]
    return folders if folders[0].resolve() != folders[1].resolve() else folders[:1]
