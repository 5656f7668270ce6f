"""What code a result depends on, as a digest that goes into a rule's ``params``.

The workflow engine sees only a rule's script. The digest covers what can change a number:

- the script, the parts that the configuration names (the files of a solver, a grid, a network, a feature extractor),
  and every module of this package that these import, directly or not;
- the files with numbers that what learns declares (:class:`dode.distillation.learned.Parts`), as they are;
- of the script its ``main`` and what that needs, but not the frame around it (:data:`FRAME`: log, locks, threads);
- of a module what is executed on import, and the functions and classes whose name is mentioned by what counts;
- of a statement all but what :mod:`dode.benchmark.bare_code` removes: comments, docstrings, layout, annotations, the
  words of errors and of logs, progress bars, and checks whose error nobody catches.

So an edited message, an added check, another network or a function that no job of the rule calls reruns nothing. The
rule errs on the safe side: names are compared but not resolved, so a definition counts even if another one of the same
name is meant. Another version of Python may print the same syntax tree differently; then everything runs again.
"""

import ast
import builtins
import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dode.benchmark import bare_code
from dode.fetching import places

PACKAGE = Path(__file__).parents[1]
FRAME = PACKAGE / "benchmark" / "scripting.py"


@functools.cache
def _file_of(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.resolve()
    return None


class _Statement:
    """A statement at the top level of a module, bare.

    Attributes:
        names: what it defines; empty where it counts as soon as the module is imported.
        mentions: the identifiers in it.
        modules: files of this package that it imports.
        bases: of a class, the names of its bases.
        caught: errors that are caught in it so that the program goes on.
        errors: what the checks in it raise.
    """

    def __init__(self, tree: ast.stmt):
        nodes = list(ast.walk(tree))
        self.source, self.names, self.modules = ast.unparse(tree), _names(tree), _modules(nodes)
        self.mentions = bare_code.mentions(self.source, nodes)
        self.bases = bare_code.bases(tree)
        self.caught = bare_code.caught_errors(nodes)
        self.errors = bare_code.checked_errors(nodes)

    @functools.cache  # noqa: B019 - there is one of each statement as long as the program runs
    def text(self, caught: frozenset[str]) -> str:
        """The statement as text without its checks, but for those that raise what is ``caught``."""
        return self.source if self.errors <= caught else bare_code.without_checks(self.source, caught)


def _modules(nodes: Iterable[ast.AST]) -> tuple[Path, ...]:
    """Files of this package that are imported anywhere among the nodes, with the packages that they are in."""
    dotted = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            dotted |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name for name in dotted if name.split(".")[0] == PACKAGE.name}
    own |= {name.rsplit(".", place)[0] for name in own for place in range(name.count(".") + 1)}
    return tuple(sorted(path for name in own if (path := _file_of(name)) not in (None, FRAME.resolve())))


def _names(statement: ast.stmt) -> frozenset[str]:
    """What a statement defines, if that is all it does; otherwise nothing."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return frozenset((alias.asname or alias.name).split(".")[0] for alias in statement.names)
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) and bare_code.is_lazy(statement):
        special = statement.name.startswith("__")  # a module's __getattr__ is called without being named
        return frozenset() if special else frozenset({statement.name})
    return frozenset()


@functools.cache
def _statements(path: Path) -> tuple[_Statement, ...]:
    tree = bare_code.bare(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(_Statement(each) for each in tree.body if not isinstance(each, ast.Pass))


def _counted(roots: Iterable[Path]) -> list[tuple[Path, _Statement]]:
    """The statements that count, with their files, in their order. Of a script that is ``main`` and its needs."""
    todo, loaded = list(roots), set()
    while todo:
        path = todo.pop()
        if path not in loaded:
            loaded.add(path)
            todo += [other for each in _statements(path) for other in each.modules]
    waiting = [(path, place, each) for path in loaded for place, each in enumerate(_statements(path))]
    mentioned, counted = {"main"}, set()
    while new := [item for item in waiting if not item[2].names or item[2].names & mentioned]:
        waiting = [item for item in waiting if item[2].names and not item[2].names & mentioned]
        counted |= {(path, place) for path, place, _ in new}
        mentioned = mentioned.union(*(each.mentions for _, _, each in new))
    return [(path, each) for path in loaded for place, each in enumerate(_statements(path)) if (path, place) in counted]


class _Caught:
    """Which errors some of the statements may catch, so that the program continues."""

    def __init__(self, statements: Sequence[_Statement]):
        self.bases = {name: each.bases for each in statements for name in each.names if each.bases}
        self.errors = frozenset[str]().union(*(each.caught for each in statements))

    def _kinds(self, error: str) -> set[str]:
        """The names of the error's class and of all that it is derived from."""
        found, todo = {"Exception", "BaseException"}, [error]
        while todo:
            name = todo.pop()
            if name not in found:
                found |= {base.__name__ for base in getattr(getattr(builtins, name, None), "__mro__", ())} | {name}
                todo += self.bases.get(name, ())
        return found

    def among(self, errors: Iterable[str]) -> frozenset[str]:
        """Those of ``errors`` that may be caught."""
        return frozenset(error for error in errors if self.errors & self._kinds(error))


@functools.cache
def _code(script: Path, parts: tuple[str | Path, ...]) -> tuple[tuple[Path, str], ...]:
    """(file, what counts of it) of a script and of modules and files that are chosen as it runs, sorted."""
    roots = [Path(script).resolve()]
    data = {part.resolve(): [part.read_text(encoding="utf-8")] for part in parts if isinstance(part, Path)}
    for part in parts:
        if isinstance(part, Path):
            continue
        path = _file_of(part)
        if path is None:
            raise ValueError(f"{part}: there is no such module")
        roots.append(path)
    counted = _counted(roots)
    caught = _Caught([each for _, each in counted])
    found: dict[Path, list[str]] = data
    for path, each in counted:
        found.setdefault(path, []).append(each.text(caught.among(each.errors)))
    return tuple(sorted((path, "\n".join(filter(None, texts))) for path, texts in found.items() if any(texts)))


def code_of(script: str | Path, *parts: str | Path) -> dict[Path, str]:
    """What counts of the code behind ``script`` and ``parts`` (dotted names of modules, and files), by file."""
    return dict(_code(Path(script), tuple(sorted(set(parts), key=str))))


def code_digest(script: str | Path, *parts: str | Path) -> str:
    """Digest of :func:`code_of`, with the files' places below the root; where that lies does not count."""
    digest = hashlib.sha256()
    for path, text in sorted((_place(path), text) for path, text in code_of(script, *parts).items()):
        digest.update(f"{path}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def _place(path: Path) -> Path:
    """Where a file of the package or of the workflow is in a checkout, as a relative path."""
    workflow = places.INSTALLED.resolve()
    root = workflow if path.is_relative_to(workflow) else PACKAGE.parent.resolve()
    return Path(os.path.relpath(path, root))


def folder_digest(folder: str | Path) -> str:
    """Digest of the names and contents of the files in ``folder``, which no import names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
