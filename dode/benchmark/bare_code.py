"""Syntax trees without what cannot change a number.

This removes docstrings, annotations and the papers that methods are from; what is printed, logged or warned about;
progress bars (``tqdm(x)`` is ``x``); the words of errors (``raise ValueError("...")`` is ``raise ValueError``); and
checks.

A *check* is an ``if`` (or ``assert``) that does nothing but raise. It changes no number: a job that passes it has
the same results without it, and a job that fails it has no results. This is not so if other code catches the error and
continues, so a check is kept if its error may be caught. Its condition must have no effect of its own, so a check is
also kept if it calls functions that are not in :data:`SILENT`.
"""

import ast
import symtable
from collections.abc import Iterable, Sequence
from typing import Any

_SILENT = """
    abs all any bool callable dict enumerate float frozenset getattr hasattr int isinstance issubclass iter len list map
    max min range repr reversed round set sorted str sum tuple type vars zip
    count decode diff dim double endswith eq exists fullmatch ge get gt is_dir is_file is_floating_point isclose
    isdecimal isdigit isfinite isinf isnan issubset item items join keys le lower lstrip lt match ndim ne numel
    removeprefix removesuffix replace rsplit rstrip search signature size split startswith strip tolist upper values
    FileRegistry MappingProxyType Path Registry TypeVar array asarray cache cached_property classmethod compile
    contextmanager dataclass dtype field fields fromkeys getLogger namedtuple no_grad partial property resolve
    staticmethod wraps
"""
#: Functions and methods, by their last name, that change nothing but what they return.
SILENT = frozenset(_SILENT.split())
#: Functions whose calls, as statements of their own, only tell somebody something.
TELLING = frozenset(["print", "info", "warning", "debug", "exception", "warn"])
PROGRESS = frozenset({"tqdm", "trange"})
# Modules whose names are of use in annotations alone, or define nothing but types.
OF_TYPES = ("typing", "collections.abc", "__future__")
# Annotations that make a field of a dataclass another one.
MEANT = ("ClassVar", "InitVar", "KW_ONLY")


def name_of_call(call: ast.Call) -> str:
    """The last name of what is called: ``isfinite`` for ``x.abs().isfinite()``; empty if it has no name."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_silent(node: ast.AST) -> bool:
    """Whether evaluating an expression has no effect, as far as the names that it calls tell."""
    unquiet = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return all(
        not isinstance(each, unquiet) and (not isinstance(each, ast.Call) or name_of_call(each) in SILENT)
        for each in ast.walk(node)
    )


def _global_names(table: symtable.SymbolTable) -> set[str]:
    """Names that a scope, or one within it, takes from the module (or from Python)."""
    here = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() or table.get_type() == "module"}
    return here.union(*map(_global_names, table.get_children()))


def mentions(source: str, nodes: Sequence[ast.AST]) -> frozenset[str]:
    """The identifiers in statements that may mean something outside of them.

    Names that are not a function's own, attributes, what is imported, and texts that could be a name.

    Args:
        source: the statements as text.
        nodes: all of their syntax trees' nodes.
    """
    try:
        found = _global_names(symtable.symtable(source, "?", "exec"))
    except SyntaxError:  # a part of a function: its names may all mean something outside
        found = {node.id for node in nodes if isinstance(node, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
    return frozenset(found)


class _Bare(ast.NodeTransformer):
    """Takes away everything but the checks."""

    def __init__(self) -> None:
        self.in_class = False

    def _body(self, node: Any, *, of_class: bool) -> Any:
        kept, self.in_class = self.in_class, of_class
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:]
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        self.in_class = kept
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        return self._body(node, of_class=False)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return self._body(node, of_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        for decorator in node.decorator_list:  # a method says there which paper it is from
            if isinstance(decorator, ast.Call):
                decorator.keywords = [each for each in decorator.keywords if each.arg != "source"]
        return self._body(node, of_class=False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        node.returns = None
        return self._body(node, of_class=False)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if self.in_class:  # the fields of a dataclass are its annotated names
            if not any(word in ast.unparse(node.annotation) for word in MEANT):
                node.annotation = ast.Constant(...)
            return node
        if node.value is None or ast.unparse(node.annotation) == "TypeAlias":
            return None
        return ast.Assign([node.target], node.value, lineno=node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt] | None:
        if node.module in OF_TYPES:
            return None
        return [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]  # each counts by itself

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.Import([alias]) for alias in node.names]

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        if ast.unparse(node.test) == "__name__ == '__main__'":
            return None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call) and name_of_call(node.exc) != "StopIteration":
            node.exc = node.exc.func
        node.cause = None
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and name_of_call(call) in TELLING and all(map(is_silent, _arguments(call))):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if name_of_call(node) in PROGRESS and node.args:
            return self.visit(node.args[0])
        return self.generic_visit(node)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def bare(tree: ast.Module) -> ast.Module:
    """A module without what cannot change a number; its checks are kept, without their words."""
    bared = _Bare().visit(tree)
    for node in ast.walk(bared):  # what is left of a block that had nothing else
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
    return bared


def definitions(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """The names of all functions and classes that are defined in a syntax tree with these nodes."""
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))


def bases(tree: ast.AST) -> tuple[str, ...]:
    """The last names of a class's bases; nothing for other statements."""
    return tuple(map(_last_name, tree.bases)) if isinstance(tree, ast.ClassDef) else ()


def _last_name(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def protected(nodes: Iterable[ast.AST]) -> list[tuple[frozenset[str], frozenset[str]]]:
    """``(errors, identifiers)`` of each block among the nodes whose errors are caught without being raised again."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Try):
            kinds: list[ast.AST | None] = []
            for handler in node.handlers:
                if not isinstance(handler.body[-1], ast.Raise):
                    kinds += handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        elif isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            kinds = [kind for call in calls if name_of_call(call) == "suppress" for kind in call.args]
        else:
            continue
        if kinds:
            errors = frozenset(_last_name(kind) or "BaseException" for kind in kinds)
            source = "\n".join(map(ast.unparse, node.body))
            found.append((errors, mentions(source, [each for part in node.body for each in ast.walk(part)])))
    return found


def _error_of_check(node: ast.AST) -> str | None:
    """What a check raises; None if this is not a check. A check may first name what its message needs."""
    if isinstance(node, ast.Assert):
        return "AssertionError" if is_silent(node.test) else None
    if not isinstance(node, ast.If) or node.orelse or not is_silent(node.test):
        return None
    *naming, last = node.body
    for each in naming:
        if not isinstance(each, ast.Assign) or not is_silent(each.value):
            return None
        if not all(isinstance(target, ast.Name) for target in each.targets):
            return None
    return _last_name(last.exc) if isinstance(last, ast.Raise) else None


def checked_errors(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """What the checks among the nodes raise."""
    return frozenset(error for node in nodes if (error := _error_of_check(node)) is not None)


class _WithoutChecks(ast.NodeTransformer):
    def __init__(self, kept: frozenset[str]):
        self.kept = kept

    def visit(self, node: ast.AST) -> Any:
        error = _error_of_check(node)
        if error is not None and error not in self.kept:
            return None
        self.generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return self._without_else(node)

    def _without_else(self, node: ast.AST) -> ast.AST | None:
        """An ``if`` may become a check once its other branch, a check, has been removed."""
        return None if (error := _error_of_check(node)) is not None and error not in self.kept else node


def without_checks(source: str, caught: frozenset[str]) -> str:
    """A statement's text without the checks that raise something else than ``caught``; empty where it was one."""
    return ast.unparse(_WithoutChecks(caught).visit(ast.parse(source)))
