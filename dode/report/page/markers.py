"""The figures' markers as paths of SVG."""

from typing import Any

from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def marker(name: str, size: float = 8.6) -> str:
    """Matplotlib's marker of that name and size as the path of an SVG around (0, 0)."""
    style = MarkerStyle(name)
    transform: Any = style.get_transform()  # affine, as a marker's is
    path, written = style.get_path().transformed(transform.scale(size, -size)), []
    for points, code in path.iter_segments():
        written.append("Z" if code == Path.CLOSEPOLY else _LETTERS[code] + ",".join(f"{x:.2f}" for x in points))
    return "".join(written)
