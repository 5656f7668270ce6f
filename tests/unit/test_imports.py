"""Who may import whom: the library knows nothing of the benchmark, and no room is in a circle."""

import ast
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
