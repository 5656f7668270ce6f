"""Where the workflow's files are: beside the package in a checkout, within it where it was installed from a wheel.

A wheel has what lies beside the package in a checkout as ``dode/workflow`` (``setup.py``). What commands and runs
write, cards, configurations and results, is in the working directory; with an installed package the lock file of
checkpoints is, too. Imports no torch.
"""

from pathlib import Path

from dode.registry import nearest

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "workflow"
#: Where a configuration is, if none is named.
CONFIG = Path("config", "config.yaml")
#: The end of the name of a card that is being written.
DRAFT = ".draft"
#: What commands say of a configuration that they take.
NAMED = (
    "a file, or the name of one of this project's such as mnist (default: config/config.yaml of this folder, or else "
    "the embedded benchmark)"
)


def workflow() -> Path:
    """The folder with the Snakefile, ``config/``, ``rules/`` and ``scripts/`` that belong to this package."""
    return PACKAGE.parent if (PACKAGE.parent / "Snakefile").is_file() else INSTALLED


def is_installed(root: str | Path) -> bool:
    """Whether a workflow's folder is that of an installed package, which nobody edits."""
    return Path(root).resolve() == INSTALLED.resolve()


def own(root: str | Path) -> Path:
    """The folder in whose ``config/`` the lock file is written: a checkout's own, or the working directory."""
    return Path() if is_installed(root) else Path(root)


def folders_of_cards(root: str | Path) -> list[Path]:
    """Where cards are: with the workflow, and in the working directory."""
    folders = [Path(root) / "config" / "models", Path("config", "models")]
    return folders if folders[0].resolve() != folders[1].resolve() else folders[:1]


def default_configuration(root: Path) -> Path:
    """The configuration where none is named: that of the working directory, or else the workflow's own in ``root``."""
    return CONFIG if CONFIG.exists() else root / CONFIG


def configuration(named: str | Path | None = None) -> Path:
    """The configuration that a command means.

    Args:
        named: a file; the name of one of this project's own, such as ``mnist``; None for ``config/config.yaml`` of the
            working directory, or else the embedded benchmark.

    Raises:
        ValueError: where there is none; it lists those of this project.
    """
    folder = workflow() / "config"
    if named is None:
        return default_configuration(workflow())
    if Path(named).is_file():
        return Path(named)
    if str(named) == Path(named).name and (own := folder / f"{named}.yaml").is_file():
        return own
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    hint = nearest(str(named), known)
    raise ValueError(f"config: there is no file '{named}'{hint}; this project's own are {', '.join(known)}")
