"""What is public has types, each parameter and what is returned; mypy says in `make lint` whether they are right."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "dode"


def public(node):
    """``(name, function, whether it is a method)`` of all that is public in a module or class."""
    for each in ast.iter_child_nodes(node):
        name = getattr(each, "name", "")
        if name.startswith("_") and not name.startswith("__"):
            continue
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, each, isinstance(node, ast.ClassDef)
        elif isinstance(each, ast.ClassDef):
            yield from ((f"{name}.{own}", function, method) for own, function, method in public(each))


def untyped(tree):
    """Names of the public functions of a module that leave a type out; ``__init__`` returns nothing."""
    for name, function, method in public(tree):
        own = function.args
        parameters = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
        static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
        typed = all(each.annotation for each in parameters[method and not static :])
        if not typed or (function.returns is None and function.name != "__init__"):
            yield name


def test_public_functions_have_types():
    found = {str(path): list(untyped(ast.parse(path.read_text(encoding="utf-8")))) for path in ROOT.rglob("*.py")}
    assert found
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "def f(x) -> int: ...",
        "def f(x: int): ...",
        "def f(*x, **y: int) -> int: ...",
        "class C:\n    def f(self, x) -> int: ...",
        "class C:\n    def __init__(self, x): ...",
        "class C:\n    @staticmethod\n    def f(x) -> int: ...",
    ],
)
def test_a_type_that_is_left_out_is_found(source):
    assert list(untyped(ast.parse(source)))
