"""Text is UTF-8 and output goes on in every locale."""

import ast
import os
import subprocess
import sys

import pytest

from workspace import REPOSITORY

SOURCES = [path for room in ("dode", "scripts", "benchmarks") for path in sorted((REPOSITORY / room).rglob("*.py"))]
OPENING = {"open", "read_text", "write_text", "fdopen", "TemporaryFile", "NamedTemporaryFile"}


def text_files(tree):
    """The calls that open a file as text, without the encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        own = node.func.id if isinstance(node.func, ast.Name) else None
        name = "open" if own == "open" else getattr(node.func, "attr", None)
        if name not in OPENING or ast.unparse(node.func) in ("os.open", "Image.open", "archive.open", "packed.open"):
            continue
        modes = [
            each.value for each in [*node.args, *(k.value for k in node.keywords)] if isinstance(each, ast.Constant)
        ]
        binary = any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)
        if not binary and "encoding" not in {keyword.arg for keyword in node.keywords}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_text_files_are_opened_with_their_encoding():
    assert SOURCES
    found = {str(path): list(text_files(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.fixture
def said(tmp_path):
    """``said(*arguments)``: output and errors of ``python -m dode``, where a locale has ASCII only."""

    def run(*arguments):
        environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        environment["PYTHONPATH"] = str(REPOSITORY)
        command = [sys.executable, "-m", "dode", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)

    return run


def test_the_plan_is_printed_where_a_locale_lacks_its_characters(said):
    done = said("plan", REPOSITORY / "config" / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert b"digits-edm" in done.stdout


def test_a_sentence_with_characters_that_a_locale_lacks_and_with_escape_codes(said):
    done = said("plan", "λ\x1b[31m.yaml")
    assert done.returncode == 1
    assert rb"\x1b[31m.yaml'; this project's own are ablation, config," in done.stderr
    assert b"\x1b" not in done.stderr


READ_BY_SNAKEMAKE = ["Snakefile", *(f"{room}/**/*" for room in ("rules", "profiles", "report", "envs"))]


def test_what_snakemake_may_read_in_the_encoding_of_the_locale_is_ascii():
    files = [path for pattern in READ_BY_SNAKEMAKE for path in REPOSITORY.glob(pattern) if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if not path.read_bytes().isascii()] == []
