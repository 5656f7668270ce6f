"""Syntax trees without what cannot change a number.

This removes docstrings, annotations and the papers that methods are from; what is printed, logged or warned about;
progress bars (``tqdm(x)`` is ``x``); the words of errors (``raise ValueError("...")`` is ``raise ValueError``); and
checks.

A *check* is an ``if`` (or ``assert``) that does nothing but raise. It changes no number: a job that passes it has
the same results without it, and a job that fails it has no results. This is not so where an error of its kind is
caught and the program goes on, so a check is kept wherever some code that counts does that, and always if it raises
what Python itself catches (:data:`MEANINGFUL`). Its condition must have no effect of its own, so a check is also kept
if it calls functions that are not in :data:`SILENT`, or may use up an iterator.

The call of a function of :data:`CHECKS`, as a statement of its own, is a check too, and so is all that only this
function needs.
"""

import ast
import builtins
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
#: Of these, builtins that may use up an iterator.
CONSUMING = frozenset(
    {"all", "any", "dict", "enumerate", "frozenset", "iter", "list", "map", "max", "min", "reversed", "set", "sorted"}
    | {"sum", "tuple", "zip"}
)
_CHECKS = """
    benchmark/fit_config: check_solver
    calls: check_unit
    distillation/backprop/settings: check_lowest check_one_per_step
    distillation/fit_checks: check_alignment check_basis check_fit check_images check_joint check_model check_noiseless
    distillation/fit_checks: check_recipe_of check_recipe_order check_recipe_schedule check_released
    distillation/learned: check_solver
    driver: check_solver
    grids/base: check_between check_descent check_numbers check_range
    grids/of_model: check_levels
    grids/schedules: check_steps
    grids/shared: check_first
    models/agreement: check_file check_options
    models/guidance: check_guidance
    models/unet_parts: check_images
    portable: check_model
    registry: check_options
    solvers/base: check_shared_levels
"""
#: Functions and methods that raise one of :data:`CHECKED` or do nothing, ``(module of this package, last name)``;
#: ``tests/unit/test_digests.py`` holds these to it. One of the name in another module is no check.
CHECKS = frozenset(
    (module, name)
    for module, _, names in (line.strip().partition(": ") for line in _CHECKS.strip().splitlines())
    for name in names.split()
)
CHECK_NAMES = frozenset(name for _, name in CHECKS)
CHECKED = frozenset({"ValueError", "ConfigError"})
#: Errors by which Python's own protocols are answered (iteration, ``getattr`` with a default, ...).
MEANINGFUL = frozenset(
    {"AttributeError", "GeneratorExit", "IndexError", "KeyError", "StopAsyncIteration", "StopIteration"}
)
#: What tells somebody something: ``print(...)``, and methods of these.
TELLERS = frozenset({"log", "logger", "logging", "warnings"})
#: Decorators that change no number and call nothing else; another one may register what it decorates.
PLAIN_DECORATORS = frozenset(
    {"classmethod", "contextlib.contextmanager", "dataclass", "dataclasses.dataclass", "functools.cache", "property"}
    | {"functools.cached_property", "functools.lru_cache", "staticmethod", "torch.inference_mode", "torch.no_grad"}
)
#: What may stand in a script's ``if __name__ == "__main__"`` without counting.
FRAMES = frozenset({"scripting.execute(main, snakemake)", "remove_others(snakemake.input)", "main()"})
#: Decorators that say which paper a method is from.
SOURCED = frozenset({"solver", "grid", "fit", "preparation"})
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


def is_lazy(tree: ast.stmt) -> bool:
    """Whether a function or class only comes to be when it is defined: nothing is registered, nothing else happens."""
    if isinstance(tree, ast.FunctionDef):
        arguments = tree.args
        values = [*arguments.defaults, *arguments.kw_defaults]
        return _plain_decorators(tree) and all(each is None or is_silent(each) for each in values)
    if isinstance(tree, ast.ClassDef):
        return not tree.keywords and _plain_decorators(tree) and all(map(_is_lazy_in_class, tree.body))
    return False


def _plain_decorators(tree: ast.FunctionDef | ast.ClassDef) -> bool:
    functions = (each.func if isinstance(each, ast.Call) else each for each in tree.decorator_list)
    return all(ast.unparse(each) in PLAIN_DECORATORS for each in functions)


def _is_lazy_in_class(tree: ast.stmt) -> bool:
    if isinstance(tree, ast.FunctionDef | ast.ClassDef):
        return is_lazy(tree)
    if isinstance(tree, ast.Assign | ast.AnnAssign):
        return tree.value is None or is_silent(tree.value)
    return isinstance(tree, ast.Pass) or (isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant))


def _global_names(table: symtable.SymbolTable) -> set[str]:
    """Names that a scope, or one within it, takes from the module (or from Python)."""
    kind = table.get_type()
    here = {
        symbol.get_name()
        for symbol in table.get_symbols()
        # In a class ``LIMIT = LIMIT`` is an attribute of the module's value.
        if symbol.is_global() or kind == "module" or (kind == "class" and symbol.is_referenced())
    }
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
            if isinstance(decorator, ast.Call) and name_of_call(decorator) in SOURCED:
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

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [each for other in node.orelse for each in self._listed(self.visit(other))]
        if ast.unparse(node.test) == "__name__ == '__main__'" and {ast.unparse(each) for each in node.body} <= FRAMES:
            return None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    @staticmethod
    def _listed(found: Any) -> list[ast.stmt]:
        return found if isinstance(found, list) else [] if found is None else [found]

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call) and (name := name_of_call(node.exc)) not in MEANINGFUL:
            if hasattr(builtins, name):
                node.exc = node.exc.func
            else:  # an error of one's own may carry more than words
                node.exc.args = [each for each in node.exc.args if not _is_text(each)]
        node.cause = None
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and _tells(call) and all(map(is_silent, _arguments(call))):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if name_of_call(node) == "tqdm" and node.args:
            return self.visit(node.args[0])
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _tells(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Attribute):
        return isinstance(function.value, ast.Name) and function.value.id in TELLERS
    return isinstance(function, ast.Name) and function.id == "print"


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def bare(tree: ast.Module) -> ast.Module:
    """A module without what cannot change a number; its checks are kept, without their words."""
    bared = _Bare().visit(tree)
    for node in ast.walk(bared):  # what is left of a block that had nothing else
        _filled(node)
    return bared


def bases(tree: ast.AST) -> tuple[str, ...]:
    """The last names of a class's bases; nothing for other statements."""
    return tuple(map(_last_name, tree.bases)) if isinstance(tree, ast.ClassDef) else ()


def _last_name(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def caught_errors(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """The names of errors that code among the nodes may catch and go on; ``BaseException`` where that is not known."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Try | ast.TryStar):
            for handler in node.handlers:
                if not _only_raises_again(handler):
                    found |= _errors(handler.type)
            if any(isinstance(each, LEAVING) for part in node.finalbody for each in ast.walk(part)):
                found.add("BaseException")
        elif isinstance(node, ast.Call) and name_of_call(node) == "suppress":
            found |= set().union(*map(_errors, node.args))
    return frozenset(found)


LEAVING = (ast.Return, ast.Break, ast.Continue)


def _only_raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    leaves = any(isinstance(each, LEAVING) for part in handler.body for each in ast.walk(part))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def _errors(kinds: ast.expr | None) -> set[str]:
    """The names of the classes in an ``except``; a name that is not one of a class may stand for any."""
    names = [_last_name(each) for each in (kinds.elts if isinstance(kinds, ast.Tuple) else [kinds])]
    return {name if name[:1].isupper() and not name.isupper() else "BaseException" for name in names}


def _is_condition(node: ast.expr) -> bool:
    """Whether an expression may be asked, or not asked, without any difference."""
    once = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)
    return is_silent(node) and not any(
        isinstance(each, once)
        or (isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in CONSUMING)
        for each in ast.walk(node)
    )


def _error_of_check(node: ast.AST) -> str | None:
    """What a check raises; None if this is not a check. A check may first name what its message needs."""
    if isinstance(node, ast.Expr):
        return "ValueError" if _calls_check(node.value) else None
    if isinstance(node, ast.Assert):
        return "AssertionError" if _is_condition(node.test) else None
    if not isinstance(node, ast.If) or node.orelse or not _is_condition(node.test):
        return None
    *naming, last = node.body
    for each in naming:
        if not isinstance(each, ast.Assign) or not _is_condition(each.value):
            return None
        if not all(isinstance(target, ast.Name) for target in each.targets):
            return None
    if not isinstance(last, ast.Raise):
        return None
    # An error that is given more than words is made by calling it.
    name = _last_name(last.exc.func if isinstance(last.exc, ast.Call) else last.exc)
    return None if name in MEANINGFUL or not name else name


def _calls_check(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or name_of_call(node) not in CHECK_NAMES:
        return False
    given = _arguments(node)
    starred = any(isinstance(each, ast.Starred) for each in node.args)
    return is_silent(node.func) and not starred and all(map(_is_condition, given))


def checked_errors(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """What the checks among the nodes raise."""
    return frozenset(error for node in nodes if (error := _error_of_check(node)) is not None)


def defined_checks(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names of :data:`CHECKS` that are defined among the nodes, as functions or by assignment."""
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset((functions | stored) & CHECK_NAMES)


class _WithoutCalls(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Expr) and _calls_check(node.value):
            return None
        return _filled(self.generic_visit(node))


def without_calls(source: str) -> str:
    """Statements without their calls of :data:`CHECKS`."""
    return ast.unparse(_WithoutCalls().visit(ast.parse(source)))


def _filled(node: ast.AST) -> ast.AST:
    if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
        node.body = [ast.Pass()]  # type: ignore[attr-defined]
    return node


class _WithoutChecks(ast.NodeTransformer):
    def __init__(self, kept: frozenset[str]):
        self.kept = kept

    def visit(self, node: ast.AST) -> Any:
        error = _error_of_check(node)
        if error is not None and error not in self.kept:
            return None
        return self._without_else(_filled(self.generic_visit(node)))

    def _without_else(self, node: ast.AST) -> ast.AST | None:
        """An ``if`` may become a check once its other branch, a check, has been removed."""
        return None if (error := _error_of_check(node)) is not None and error not in self.kept else node


def without_checks(source: str, caught: frozenset[str]) -> str:
    """A statement's text without the checks that raise something else than ``caught``; empty where it was one."""
    return ast.unparse(_WithoutChecks(caught).visit(ast.parse(source)))
