"""A digest changes with the code that a result depends on, and with nothing else.

Each test works on a copy of the package in a folder of its own, asked in a process of its own.
"""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = """
from dode.benchmark import digests
import sys
print(digests.code_digest(*sys.argv[1:]))
"""


@pytest.fixture
def copy(tmp_path):
    """A function that edits a file of the copied package and one that gives a digest in it."""
    for folder in ("dode", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Copy(tmp_path)


class Copy:
    def __init__(self, root):
        self.root = root

    def digest(self, script="scripts/sample.py", *modules):
        command = [sys.executable, "-B", "-c", DIGEST, str(self.root / script), *modules]
        done = subprocess.run(
            command, cwd=self.root, env={"PYTHONPATH": str(self.root)}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def append(self, name, text):
        path = self.root / name
        path.write_text(path.read_text() + text)

    def replace(self, name, old, new):
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def test_comments_docstrings_and_layout_do_not_count(copy):
    before = copy.digest()
    copy.append("scripts/sample.py", "\n\n# a remark\n")
    copy.replace("scripts/sample.py", '"""Sample one shard', '"""Another summary. Sample one shard')
    copy.replace(
        "dode/images/shards.py", "total = self.images * self.seeds", "total = (self.images *\n            self.seeds)"
    )
    copy.replace("dode/images/shards.py", '"""How many of a batch', '"""Count how many of a batch')
    copy.replace("dode/images/noise.py", '"""Unit-normal noise', '"""Noise')
    assert copy.digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/sample.py", "mininterval=5", "mininterval=6"),
        ("dode/images/shards.py", "shard * total // shards", "shard * total // shards + 0"),
        ("dode/images/noise.py", '"fit": 1', '"fit": 2'),
        ("dode/images/noise.py", "STREAMS", "THE_STREAMS"),
    ],
)
def test_code_counts(copy, file, old, new):
    before = copy.digest()
    copy.replace(file, old, new)
    assert copy.digest() != before


def test_whom_to_cite_does_not_count(copy):
    before = copy.digest("scripts/sample.py", "dode.solvers.heun")
    copy.replace("dode/solvers/heun.py", "arXiv:2206.00364, Alg. 1", "arXiv:2206.00364")
    assert copy.digest("scripts/sample.py", "dode.solvers.heun") == before


def test_a_solvers_file_counts_for_the_cells_of_that_solver_alone(copy):
    def digests():
        return copy.digest("scripts/sample.py", "dode.solvers.heun"), copy.digest(
            "scripts/sample.py", "dode.solvers.ddim"
        )

    heun, ddim = digests()
    assert heun != ddim
    copy.append("dode/solvers/heun.py", "\n\nX = 1\n")
    heun_edited, ddim_same = digests()
    assert heun_edited != heun
    assert ddim_same == ddim
    copy.append("dode/solvers/ddim.py", "\n\nX = 1\n")
    heun_same, ddim_edited = digests()
    assert heun_same == heun_edited
    assert ddim_edited != ddim


def test_a_new_solver_file_leaves_the_others_alone(copy):
    before = copy.digest("scripts/sample.py", "dode.solvers.heun")
    shutil.copy(copy.root / "dode/solvers/ddim.py", copy.root / "dode/solvers/mine.py")
    copy.replace("dode/solvers/mine.py", '@solver("ddim"', '@solver("mine"')
    assert copy.digest("scripts/sample.py", "dode.solvers.heun") == before


def test_a_file_that_the_script_does_not_use_does_not_count(copy):
    before = copy.digest()
    copy.append("dode/report/figures/figures.py", "\n\nX = 1\n")
    copy.append("dode/models/embedded/training.py", "\n\nX = 1\n")
    copy.append("scripts/score.py", "\n\nX = 1\n")
    assert copy.digest() == before


@pytest.mark.parametrize(
    "statement",
    [
        "import dode.far",
        "from dode import far",
        "from dode.far import X",
        "import dode.far as other",
        "def f():\n    from dode.far import X",
        "class C:\n    def f(self):\n        if True:\n            import dode.far",
    ],
)
def test_every_form_of_import_is_followed_transitively(copy, statement):
    (copy.root / "dode/far.py").write_text("from dode import farther\nX = 1\n")
    (copy.root / "dode/farther.py").write_text("Y = 1\n")
    (copy.root / "dode/near.py").write_text(f"{statement}\n")
    (copy.root / "scripts/new.py").write_text("import json\nimport missing.module\nfrom dode import near\n")
    digests = [copy.digest("scripts/new.py")]
    for name in ("far", "farther"):
        copy.append(f"dode/{name}.py", "Z = 2\n")
        digests.append(copy.digest("scripts/new.py"))
    assert len(set(digests)) == 3


def test_imports_in_a_circle_end(copy):
    (copy.root / "dode/one.py").write_text("from dode import two\n")
    (copy.root / "dode/two.py").write_text("from dode import one\n")
    (copy.root / "scripts/new.py").write_text("from dode import one\n")
    before = copy.digest("scripts/new.py")
    copy.append("dode/two.py", "X = 1\n")
    assert copy.digest("scripts/new.py") != before


def test_a_digest_does_not_depend_on_where_the_package_lies(copy, tmp_path):
    other = tmp_path / "zz" / "elsewhere"
    for folder in ("dode", "scripts"):
        shutil.copytree(copy.root / folder, other / folder)
    assert Copy(other).digest("scripts/score.py") == copy.digest("scripts/score.py")


def test_the_package_has_no_relative_import_that_a_digest_would_miss():
    found = [
        f"{path}: {ast.unparse(node)}"
        for path in (ROOT / "dode").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []
