"""What is imported before anything is done, as it decides how long a command takes to answer."""

import subprocess
import sys

import pytest

SLOW = ("numpy", "torch", "pandas", "yaml", "jsonschema", "importlib.metadata", "snakemake")


def imported(*command):
    """The modules that are there once a Python program has ended."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    lines = [line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "argparse" in lines or "dode" in lines
    return set(lines)


@pytest.mark.parametrize("command", [["-m", "dode", "--help"], ["-m", "dode", "export", "--help"]])
def test_help_needs_nothing_large(command):
    without = imported("-c", "import argparse")  # a .pth file of the environment may import much by itself
    assert not (imported(*command) - without) & set(SLOW)
