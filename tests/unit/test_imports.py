"""Who may import whom: the library knows nothing of the benchmark, and no room is in a circle."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "dode"
UPPER = {"benchmark", "report", "commands"}
LIBRARY = sorted(
    path.stem
    for path in ROOT.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").is_file())
    and path.stem not in UPPER | {"__init__", "__main__", "__pycache__"}
)


def imports(room):
    """``{room: {file: statement}}`` of what a room, a folder or a module of ``dode``, imports of others."""
    place, found = ROOT / room, {}
    for file in [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "dode" and len(parts) > 1 and parts[1] != room:
                    found.setdefault(parts[1], {})[file.relative_to(ROOT).as_posix()] = ast.unparse(node)
    return found


@pytest.mark.parametrize("room", LIBRARY)
def test_the_library_knows_nothing_of_the_benchmark(room):
    assert not {other: where for other, where in imports(room).items() if other in UPPER}


def test_reports_know_nothing_of_the_benchmark():
    assert "benchmark" not in imports("report")
    assert "commands" not in imports("report")


def test_no_room_is_in_a_circle():
    """With a package as one room: each room can be taken away once all that import it are."""
    left = {room: set(imports(room)) for room in [*LIBRARY, *UPPER]}
    left = {room: others & set(left) for room, others in left.items()}
    while free := [room for room, others in left.items() if not others]:
        for room in free:
            del left[room]
        left = {room: others - set(free) for room, others in left.items()}
    assert not left


def test_few_modules_lie_beside_the_rooms():
    assert len(list(ROOT.glob("*.py"))) <= 15


#: These import those of their submodules that are used.
WHOLE = {"dode", "jsonschema", "numpy", "os", "torch"}


def not_imported(tree):
    """Submodules that are used by their full name, such as ``scipy.linalg``, without an import of them in the file."""
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {name.split(".")[0] for name in imported} - WHOLE
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in roots
    }
    covered = {name.rsplit(".", place)[0] for name in imported for place in range(name.count(".") + 1)}
    return sorted(filter(is_module, used - covered))


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of what is no package
        return False


def test_submodules_that_are_used_are_imported_where_they_are():
    """Another import may bring them in, in these tests and in jobs that are forked; in a job that just starts, none."""
    files = [*ROOT.rglob("*.py"), *(ROOT.parent / "scripts").glob("*.py")]
    found = {str(path): not_imported(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    assert {name: missing for name, missing in found.items() if missing} == {}
    assert not_imported(ast.parse("import scipy\nscipy.linalg.sqrtm")) == ["scipy.linalg"]
    assert not_imported(ast.parse("import scipy.stats\nscipy.linalg.sqrtm(scipy.stats)")) == ["scipy.linalg"]
    assert not_imported(ast.parse("import scipy.linalg\nscipy.linalg.sqrtm")) == []
