"""Versions of what is installed. Imports no torch."""

import importlib.metadata
import platform


def versions(packages):
    """Python's version and those of ``packages`` that are installed, by name."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
