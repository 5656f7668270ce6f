"""The documentation as a site, and its notebook."""

import contextlib
import io
import json
import re
import subprocess
from pathlib import Path

import pytest

import forked_python

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    """A link to a page or a heading that is not there is a warning, and so is a name that cannot be imported."""
    command = ["-m", "sphinx", "--quiet", "--fail-on-warning", "--conf-dir", "docs/site", "docs", tmp_path]
    python = forked_python.executable("pipelines")
    done = subprocess.run([python, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {
        path.relative_to(tmp_path).with_suffix("").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")
    }
    assert "Two commands" in pages["index"]
    assert "dode.sample" in pages["api"]
    assert "config/models/&lt;model&gt;.yaml" in pages["generated/configuration"]
    assert "heun" in (tmp_path / "searchindex.js").read_text()
    for name, page in pages.items():
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*(?:src|href)="(https?:[^"]+)"', page)
        assert not loaded, f"{name} loads {loaded}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path):
    """Numbers to 20 %, as other machines round otherwise and the fit is of few images."""
    names = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
        shown = "".join(line for output in cell["outputs"] for line in output["text"])
        number = r"\d+\.\d+"
        assert re.sub(number, "x", printed.getvalue()) == re.sub(number, "x", shown)
        found, expected = ([float(each) for each in re.findall(number, text)] for text in (printed.getvalue(), shown))
        assert found == pytest.approx(expected, rel=0.2)
