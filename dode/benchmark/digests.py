"""What code a result depends on, as a digest that goes into a rule's ``params``.

The workflow engine sees only a rule's script. The digest covers what can change a number:

- the script, the parts that the configuration names (the files of a solver, a grid, a network, a feature extractor),
  and every module of this package that these import, directly or not;
- the files with numbers that what learns declares (:class:`dode.distillation.learned.Parts`), as they are;
- of the script its ``main`` and what that needs, but not the frame around it (:data:`FRAME`: log, locks, threads);
- of a module what is executed on import, and the functions, classes and constants whose name is mentioned by what
  counts;
- of a statement all but what :mod:`dode.benchmark.bare_code` removes: comments, docstrings, layout, annotations, the
  words of errors and of logs, progress bars, and checks whose error nobody catches.

So an edited message, an added check, another network or a function that no job of the rule calls reruns nothing. The
rule errs on the safe side: names are compared but not resolved, so a definition counts even if another one of the same
name is meant. Another version of Python may print the same syntax tree differently; then everything runs again.
"""

import ast
import atexit
import builtins
import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from dode import storage
from dode.benchmark import bare_code
from dode.fetching import places

PACKAGE = Path(__file__).parents[1]
FRAME = PACKAGE.resolve() / "benchmark" / "scripting.py"
KEPT = Path(".snakemake", "dode-code.json")  # what a run has read of source files, for the next one


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
        source: the statement as text, with its checks.
        names: what it defines; empty where it counts as soon as the module is imported.
        mentions: the identifiers in it.
        needed: those that are not in calls of checks alone.
        modules: files of this package that it imports.
        bases: of a class, the names of its bases.
        caught: errors that are caught in it so that the program goes on.
        errors: what the checks in it raise.
        checks: functions of :data:`dode.benchmark.bare_code.CHECKS` that it defines.
    """

    def __init__(self, facts: dict[str, Any], read: "Read"):
        self.facts, self.read, self.source = facts, read, facts["source"]
        self.names, self.mentions, self.needed, self.caught, self.errors, self.checks = (
            frozenset(facts[key]) for key in ("names", "mentions", "needed", "caught", "errors", "checks")
        )
        self.modules, self.bases = _files(tuple(facts["imports"])), tuple(facts["bases"])

    def text(self, caught: frozenset[str]) -> str:
        """The statement as text without its checks, but for those that raise what is ``caught``."""
        if self.errors <= caught:
            return self.source
        found, kept = self.facts.setdefault("unchecked", {}), " ".join(sorted(caught))
        if kept not in found:
            found[kept] = bare_code.without_checks(self.source, caught)
            self.read.changed = True
        return found[kept]


def _facts(tree: ast.stmt) -> dict[str, Any]:
    """What a :class:`_Statement` is made of, as JSON has it."""
    nodes, source = list(ast.walk(tree)), ast.unparse(tree)
    mentions, bare = bare_code.mentions(source, nodes), bare_code.without_calls(source)
    needed = mentions if bare == source else bare_code.mentions(bare, list(ast.walk(ast.parse(bare))))
    return {
        "source": source,
        "names": sorted(_names(tree)),
        "mentions": sorted(mentions),
        "needed": sorted(needed),
        "imports": sorted(_imports(nodes)),
        "bases": bare_code.bases(tree),
        "caught": sorted(bare_code.caught_errors(nodes)),
        "errors": sorted(bare_code.checked_errors(nodes)),
        "checks": sorted(bare_code.defined_checks(nodes)),
    }


class Read:
    """What has been read of source files, ``{place: {"of": digest, "statements": [...]}}``, for later runs as well.

    Reading takes most of the time in which a graph of jobs is built, and is the same for the same contents.
    """

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.changed = False

    def load(self, path: Path) -> None:
        """What was saved at ``path``; a file that cannot be read, or that other code wrote, is passed over."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            saved = storage.read_json(path)
            if saved["by"] == _reader():
                self.found = saved["files"]

    def save(self, path: Path) -> None:
        """For later runs, if there is something new."""
        if self.changed:
            with contextlib.suppress(OSError), storage.atomic(path) as file:  # a folder may be full, or not writable
                file.write_text(json.dumps({"by": _reader(), "files": self.found}), encoding="utf-8")

    def statements(self, path: Path) -> tuple[_Statement, ...]:
        """Those of a source file, without what cannot change a number."""
        content, place = path.read_bytes(), str(_place(path))
        known = {"of": hashlib.sha256(content).hexdigest()}
        if self.found.get(place, {}).get("of") != known["of"]:
            tree = bare_code.bare(ast.parse(content))
            made = [_facts(each) for each in tree.body if not isinstance(each, ast.Pass)]
            self.found[place], self.changed = {**known, "statements": made}, True
        return tuple(_Statement(each, self) for each in self.found[place]["statements"])


def _reader() -> str:
    """What the statements of a file depend on besides its contents: this Python, and the code here."""
    own = b"\0".join(Path(file).read_bytes() for file in (__file__, bare_code.__file__))
    return f"{sys.version} {hashlib.sha256(own).hexdigest()}"


_read = Read()


def keep(path: str | Path) -> None:
    """Let later runs have from the file ``path`` what this one reads of source files, as far as these stay the same."""
    place = Path(path).absolute()
    _read.load(place)
    atexit.register(_read.save, place)


def _imports(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names in this package that are imported anywhere among the nodes, with the packages that they are in."""
    dotted = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            dotted |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name for name in dotted if name.split(".")[0] == PACKAGE.name}
    return own | {name.rsplit(".", place)[0] for name in own for place in range(name.count(".") + 1)}


@functools.cache
def _files(dotted: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of modules among the dotted names."""
    return tuple(sorted(path for name in dotted if (path := _file_of(name)) not in (None, FRAME)))


def _names(statement: ast.stmt) -> frozenset[str]:
    """What a statement defines, if that is all it does; otherwise nothing."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return frozenset((alias.asname or alias.name).split(".")[0] for alias in statement.names)
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) and bare_code.is_lazy(statement):
        special = statement.name.startswith("__")  # a module's __getattr__ is called without being named
        return frozenset() if special else frozenset({statement.name})
    if isinstance(statement, ast.Assign) and bare_code.is_silent(statement.value):
        targets = [each for target in statement.targets for each in getattr(target, "elts", [target])]
        if all(isinstance(each, ast.Name) and not each.id.startswith("__") for each in targets):
            return frozenset(each.id for each in targets)
    return frozenset()


@functools.cache
def _statements(path: Path) -> tuple[_Statement, ...]:
    return _read.statements(path)


def _counted(roots: Iterable[Path]) -> "tuple[list[tuple[Path, _Statement]], _Caught]":
    """The statements that count, with their files, in their order, and the errors whose checks count.

    Of a script that is ``main`` and its needs. What only calls of checks mention does not count, unless their errors
    are caught, or another function that is loaded has the name of one.
    """
    todo, loaded = list(roots), set()
    while todo:
        path = todo.pop()
        if path not in loaded:
            loaded.add(path)
            todo += [other for each in _statements(path) for other in each.modules]
    known = [(path, each) for path in loaded for each in _statements(path)]
    defining: dict[str, list[int]] = {}
    for place, (_, each) in enumerate(known):
        for name in each.names:
            defining.setdefault(name, []).append(place)

    def reached(mentions: Callable[[_Statement], frozenset[str]]) -> list[tuple[Path, _Statement]]:
        mentioned, counted = {"main"}, set[int]()
        waiting = [place for place, (_, each) in enumerate(known) if not each.names] + defining.get("main", [])
        while waiting:
            place = waiting.pop()
            if place not in counted:
                counted.add(place)
                new = mentions(known[place][1]) - mentioned
                mentioned |= new
                waiting += [other for name in new for other in defining.get(name, ())]
        return [known[place] for place in sorted(counted)]

    found = reached(lambda each: each.needed)
    caught = _Caught([each for _, each in found])
    if not caught.among(bare_code.CHECKED) and not any(_is_foreign(path, each) for path, each in known):
        return found, caught
    found = reached(lambda each: each.mentions)
    return found, _Caught([each for _, each in found], always=bare_code.CHECKED)


def _is_foreign(path: Path, statement: _Statement) -> bool:
    """Whether a statement defines a function with the name of a check in another module than the check's."""
    if not statement.checks:
        return False
    module = os.path.relpath(path.with_suffix(""), PACKAGE.resolve()).replace(os.sep, "/")
    return any((module, name) not in bare_code.CHECKS for name in statement.checks)


class _Caught:
    """Which errors some of the statements may catch, so that the program continues; ``always`` are taken for such."""

    def __init__(self, statements: Sequence[_Statement], always: frozenset[str] = frozenset()):
        self.always = always
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
        return frozenset(error for error in errors if error in self.always or self.errors & self._kinds(error))


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
    counted, caught = _counted(roots)
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


@functools.cache
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
