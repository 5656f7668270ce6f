"""What code a result depends on, as a digest that goes into a rule's ``params``.

The workflow engine sees only a rule's script. The digest covers the script, every module of this package that it
imports, directly or not, and the modules named besides (a solver's file, chosen by the configuration as the job runs).
Comments, docstrings, layout and the ``source`` that a solver or grid is registered with do not count, so that editing
them reruns nothing. Another Python may print the same syntax tree otherwise, and everything is then run again.
"""

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def _file_of(module):
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(tree):
    """Modules of this package that a syntax tree imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE.name and _file_of(name)}


def _without_docstrings(tree):
    for node in ast.walk(tree):
        # Whom to cite for a solver or a grid decides no result.
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Call):
                decorator.keywords = [keyword for keyword in decorator.keywords if keyword.arg != "source"]
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]
    return tree


@functools.cache
def _read(path):
    """(canonical source, imported modules) of a file."""
    tree = ast.parse(path.read_text())
    return ast.unparse(_without_docstrings(tree)), frozenset(_imports(tree))


@functools.cache
def modules_of(path):
    """Files of this package that the file at ``path`` depends on, itself included, sorted."""
    seen, todo = set(), [Path(path).resolve()]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        todo += [_file_of(module).resolve() for module in _read(current)[1]]
    return tuple(sorted(seen))


@functools.cache
def code_digest(script, *modules):
    """Digest of ``script`` (a path) and ``modules`` (dotted names chosen at run time) with all that they import."""
    files = set(modules_of(script)).union(*(modules_of(_file_of(module)) for module in modules))
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda path: (path.name, str(path))):
        digest.update(_read(file)[0].encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def folder_digest(folder):
    """Digest of the names and contents of the files in ``folder``, which no import names."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).iterdir()):
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
