"""What a run must find before anything else: its own folder, a usable Python, files that say what they seem to say.

Snakemake reads the configuration itself, before and while it parses the Snakefile. Of a key that is given twice it
keeps the last, ``010`` is 8 in a file and 10 on the command line, and a file that it cannot read ends in a traceback.
So all are looked at here first; what they mean is checked in :mod:`dode.benchmark.config`. Imports no torch.
"""

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dode import texts, validation
from dode.fetching import places
from dode.validation import ConfigError

#: All but the characters that mean nothing in a command; that with which Snakemake starts a script is not quoted.
UNSAFE = r"[^\w@%+=:,./~^-]"


def root(workflow: Any) -> Path:
    """The folder of this workflow's Snakefile, which is being read, also where it is a module of another one.

    Raises:
        ConfigError: where the Snakefile is not on this machine, or was included.
    """
    own = workflow.current_basedir.get_path_or_uri(secret_free=True)
    if not Path(own).is_dir():
        raise ConfigError(
            f"this workflow cannot be used from {own}, because its jobs need its files beside it; install dode, or "
            "fetch the repository, and use the Snakefile there"
        )
    if len(workflow.included_stack) > 1 and not is_module(workflow):
        raise ConfigError(
            "this workflow cannot be included in another one, with whose names its own would be mixed; make it a "
            f"module: 'module dode: snakefile: \"{own}/Snakefile\"; config: ...'"
        )
    return Path(own)


def is_module(workflow: Any) -> bool:
    """Whether this workflow is a module of another one."""
    return not workflow.modifier.is_main_snakefile() and workflow.modifier.is_module


def check(workflow: Any, root: Path) -> None:
    """Refuse a run that is bound to fail, or would take its configuration for something else.

    Args:
        workflow: Snakemake's, in the Snakefile.
        root: :func:`root`.

    Raises:
        ConfigError: in one sentence.
    """
    check_paths(sys.executable, str(root))
    check_arguments(sys.argv[1:])
    if places.is_installed(root) and workflow.deployment_settings.deployment_method:
        raise ConfigError(
            "--software-deployment-method: it is not allowed where dode was installed without its repository, because "
            "jobs in an environment of their own would not find dode; run snakemake in a copy of the repository"
        )
    if is_module(workflow):
        return  # its configuration is the other workflow's, and so are profiles
    for path in sorted(root.glob("profiles/*/*.yaml")):
        validation.read_yaml(path)
    for path in workflow.overwrite_configfiles or [places.default_configuration(root)]:
        validation.read_mapping(path)


@contextlib.contextmanager
def told_alone(logger: logging.Logger, kinds: tuple[type[Exception], ...] = (ConfigError,)) -> Iterator[None]:
    """End Snakemake with a refusal's own sentence, on the terminal and in its log.

    It puts the class, file and line before an exception that leaves the Snakefile, which say nothing to who has made a
    mistake in a configuration.
    """
    try:
        yield
    except kinds as error:
        logger.error(texts.shown(error))
        raise SystemExit(1) from None


def end_if_bad(arguments: Sequence[str]) -> None:
    """:func:`check_arguments` for a profile, which Snakemake reads before the configuration: ends the process."""
    try:
        check_arguments(arguments)
    except ConfigError as error:
        raise SystemExit(f"snakemake: {texts.shown(error)}") from None


def check_paths(python: str, root: str) -> None:
    """Refuse a Python whose path Snakemake cannot put into a command, and a checkout that it takes for a format."""
    for what, path, found in (
        ("Python", python, re.search(UNSAFE, python)),
        ("this checkout", root, re.search("[{}]", root)),
    ):
        if found:
            raise ConfigError(
                f"the path of {what}, {path}, contains {found[0]!r}, with which Snakemake cannot start scripts; "
                "move the checkout to a path without it and make .venv anew"
            )


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse configurations on Snakemake's command line that it would read as something else, or not at all.

    Args:
        arguments: those of ``snakemake``.

    Raises:
        ConfigError: in one sentence with the file and its line, or the key.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[])
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--config", "-C", nargs="*", action="extend", default=[])
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return  # Snakemake says what is wrong with it
    named = [path for profile in found.profile for path in _configurations(Path(profile))]
    for path in found.configfile or named:
        validation.read_mapping(path)
    for entry in found.config:
        key, _, value = entry.partition("=")
        if validation.is_octal(value):
            raise ConfigError(f"--config {key}: {value} is an octal number in YAML 1.1; write it without the leading 0")


def _configurations(profile: Path) -> list[str]:
    """The configurations that a profile names, a folder or a file, where it is here and not with the user's others."""
    path = profile / "config.yaml" if profile.is_dir() else profile
    entries = validation.read_yaml(path) if path.is_file() else {}
    named = entries.get("configfile", []) if isinstance(entries, dict) else []
    return [named] if isinstance(named, str) else list(named)
