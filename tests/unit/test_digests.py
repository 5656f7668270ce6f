"""A digest changes with the code that a result depends on, and with nothing else.

Each test has a copy of the package to edit, in the same place as the others', where what was not edited is parsed once.
"""

import ast
import functools
import json
import shutil
from pathlib import Path

import pytest

from dode import grids, solvers
from dode.benchmark import bare_code, digests, parameters
from dode.distillation import fit_checks, learned
from dode.metrics.extractors import extractors
from dode.metrics.prompt_scores import scorers
from dode.models.networks import networks
from dode.pipelines.registry import families
from dode.validation import ConfigError
from workspace import CHANGED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where each test finds its copy."""
    return tmp_path_factory.mktemp("digests")


@pytest.fixture
def copy(place, monkeypatch):
    """A copy of the package: its folder, functions that edit a file of it, and one that gives a digest in it."""
    shutil.rmtree(place)
    return Copy(place, monkeypatch)


statements_of = digests._statements.__wrapped__


@functools.cache
def parsed(path, content, files):
    """The statements of a file, which depend on its content and on what there is to import."""
    return statements_of(path)


@functools.cache
def one_of(files):
    """Of equal sets always the same one, so that no two need be compared path by path for each of these files."""
    return files


class Copy:
    def __init__(self, root, monkeypatch):
        self.root, self.monkeypatch = root, monkeypatch
        for folder in ("dode", "scripts"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))

    def digest(self, script="scripts/sample.py", *modules):
        """As in a new process whose package is this one."""
        files = one_of(frozenset(self.root.rglob("*.py")))
        with self.monkeypatch.context() as patch:
            patch.setattr(digests, "PACKAGE", self.root / "dode")
            patch.setattr(digests, "FRAME", self.root / "dode/benchmark/scripting.py")
            for name in ("_file_of", "_files"):  # whose answers are paths of another copy
                patch.setattr(digests, name, functools.cache(getattr(digests, name).__wrapped__))
            patch.setattr(digests, "_code", digests._code.__wrapped__)
            patch.setattr(digests, "_statements", lambda path: parsed(path, path.read_bytes(), files))
            return digests.code_digest(self.root / script, *modules)

    def append(self, name, text):
        path = self.root / name
        path.write_text(path.read_text() + text)

    def replace(self, name, old, new):
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


SAMPLE = "scripts/sample.py", "dode.models.embedded.residual_mlp"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/sample.py", '"""Sample one shard', '"""Another summary. Sample one shard'),
        ("scripts/sample.py", "recorders = []", "recorders = []  # a remark"),
        ("scripts/sample.py", "mininterval=5", "mininterval=6"),  # a progress bar
        (
            "dode/images/shards.py",
            "total = self.images * self.seeds",
            "total = (self.images *\n            self.seeds)",
        ),
        ("dode/images/noise.py", '"""Unit-normal noise', '"""Noise'),
        ("dode/driver.py", "end states contain NaN or infinity", "images are not finite"),  # the words of an error
        ("dode/registry.py", "did you mean", "do you mean"),
        ("dode/registry.py", "is registered twice", "has two registrations"),
        ("dode/calls.py", "if output.shape != x.shape:", "if output.shape != x.shape or x.ndim != 4:"),
        ("dode/grids/base.py", "def names() -> list[str]:", "def names():"),  # an annotation
        ("dode/sampling.py", "from typing import Any, NamedTuple", "from typing import Any, NamedTuple, Callable"),
        ("dode/driver.py", "Advance: TypeAlias = Callable[[Step]", "Advance: TypeAlias = Callable[[Step, int]"),
        ("dode/benchmark/scripting.py", "DISK_WAIT, DISK_FREE = 600", "DISK_WAIT, DISK_FREE = 700"),  # the frame
        ("dode/storage.py", "for start in range(0, len(part), ROWS)", "for start in range(0, len(part), 2 * ROWS)"),
        ("dode/distillation/greedy.py", "RIDGE = 1e-6", "RIDGE = 1e-7"),  # samples know nothing of fits
        ("dode/solvers/ddim.py", 'source="', 'source="see '),
        # Functions that only check, and what only these need.
        ("dode/models/agreement.py", "if not least < most:", "if least > most:"),
        ("dode/models/hub/repository.py", "def _faults_of_scheduler(", "def _faults_of_schedulers("),
        ("dode/calls.py", "def check_unit(", "def check_the_unit("),
    ],
)
def test_what_changes_no_number_does_not_count(copy, file, old, new):
    before = copy.digest(*SAMPLE, "dode.solvers.ddim")
    copy.replace(file, old, new)
    assert copy.digest(*SAMPLE, "dode.solvers.ddim") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/sample.py", "not recorders", "not recorders[:1]"),
        ("dode/images/shards.py", "shard * total // shards", "shard * total // shards + 0"),
        ("dode/images/noise.py", '"fit": 1', '"fit": 2'),
        ("dode/images/noise.py", "STREAMS", "THE_STREAMS"),
        ("dode/models/embedded/residual_mlp.py", "norm(h) * (1 + scale)", "norm(h) * (1 - scale)"),
        ("dode/grids/tensor.py", "dtype=torch.float64).as_subclass", "dtype=torch.float32).as_subclass"),
        ("dode/solvers/ddim.py", '@solver("ddim"', '@solver("euler"'),
    ],
)
def test_code_counts(copy, file, old, new):
    before = copy.digest(*SAMPLE, "dode.solvers.ddim")
    copy.replace(file, old, new)
    assert copy.digest(*SAMPLE, "dode.solvers.ddim") != before


def test_a_check_counts_where_its_error_is_caught(copy):
    """A refinement goes on after a student's run that breaks down, so when it does decides its coefficients."""
    check = "if not bool(finite.all()):"
    refined = "scripts/distill.py", "dode.benchmark.stepwise_fits"
    before = copy.digest("scripts/sample.py"), copy.digest(*refined)
    copy.replace("dode/driver.py", check, "if not bool(finite.any()):")
    after = copy.digest("scripts/sample.py"), copy.digest(*refined)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_condition_with_an_effect_counts(copy):
    """One that calls what might change something is no check."""
    (copy.root / "scripts/new.py").write_text("def main(snakemake):\n    if advance() > 1:\n        raise ValueError\n")
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", "> 1", "> 2")
    assert copy.digest("scripts/new.py") != before


def test_a_function_that_nothing_calls_does_not_count(copy):
    before = copy.digest()
    copy.append("dode/sampling.py", "\n\ndef never_called(x):\n    return x + 1\n")
    assert copy.digest() == before
    copy.append("dode/sampling.py", "\n\nNEVER_READ = {'x': (1,)}\n")  # nor a constant that nothing reads
    assert copy.digest() == before
    copy.append("dode/sampling.py", "\n\nMADE = made()\n")  # what calls something has an effect, perhaps
    assert copy.digest() != before


def test_networks_and_extractors_count_for_their_own_cards_alone(copy):
    def digests():
        return [copy.digest("scripts/sample.py", f"dode.models.{name}") for name in ("ddpm.ddpm_unet", "adm.adm_unet")]

    ddpm, adm = digests()
    copy.append("dode/models/adm/layers.py", CHANGED)
    copy.append("dode/models/edm/layers.py", CHANGED)
    assert digests()[0] == ddpm
    assert digests()[1] != adm
    score = copy.digest("scripts/score.py", "dode.metrics.extractors.digit_classifier")
    copy.append("dode/metrics/extractors/inception.py", CHANGED)
    copy.append("dode/metrics/resizing.py", CHANGED)
    assert copy.digest("scripts/score.py", "dode.metrics.extractors.digit_classifier") == score
    copy.append("dode/models/embedded/digit_classifier.py", CHANGED)
    assert copy.digest("scripts/score.py", "dode.metrics.extractors.digit_classifier") != score


def test_a_solvers_file_counts_for_the_cells_of_that_solver_alone(copy):
    def digests():
        return copy.digest("scripts/sample.py", "dode.solvers.heun"), copy.digest(
            "scripts/sample.py", "dode.solvers.ddim"
        )

    heun, ddim = digests()
    assert heun != ddim
    copy.append("dode/solvers/heun.py", CHANGED)
    heun_edited, ddim_same = digests()
    assert heun_edited != heun
    assert ddim_same == ddim
    copy.append("dode/solvers/ddim.py", CHANGED)
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
    copy.append("dode/report/figures/images.py", CHANGED)
    copy.append("dode/models/embedded/training.py", CHANGED)
    copy.append("dode/distillation/fitting.py", CHANGED)
    copy.append("scripts/score.py", CHANGED)
    assert copy.digest() == before


FITS = {name: ("scripts/distill.py", f"dode.benchmark.{name}_fits") for name in ("joint", "stepwise", "method")}
FITTING = {**FITS, "fine_ends": ("scripts/fine_ends.py",), "teacher": ("scripts/teacher.py",)}
FITTING |= {"prepare": ("scripts/prepare.py",)}


@pytest.mark.parametrize(
    ("file", "edited"),
    [
        ("joint", {"joint"}),
        ("levenberg_marquardt", {"joint"}),
        ("greedy", {"stepwise"}),
        ("refinement", {"stepwise"}),
        ("damped_steps", {"joint", "stepwise"}),
        ("by_method", {"method"}),
        ("fitting", set()),
        ("teacher", {"stepwise", "teacher"}),
        ("learned", {"method", "prepare"}),
    ],
)
def test_a_way_of_fitting_counts_for_its_own_fits_alone(copy, file, edited):
    """And not for what they follow, on which all other fits depend."""
    before = {name: copy.digest(*job) for name, job in FITTING.items()}
    copy.append(f"dode/distillation/{file}.py", CHANGED)
    assert {name for name, job in FITTING.items() if copy.digest(*job) != before[name]} == edited


#: Jobs that are dear, with what other jobs depend on.
DEAR = ("sample", "distill", "prepare", "teacher", "fine_ends", "search_grid", "precision", "encode", "decode", "score")
PLANNING = {f"dode/benchmark/{name}.py" for name in ("config", "cells", "precisions", "dependencies", "files")}


def chosen(script):
    """The modules of which a script's jobs choose some as they run."""
    registries = [networks, extractors, scorers, families]
    found = {module for registry in registries for module in registry.modules.values()}
    found |= {parameters.RECIPES, parameters.PIPELINES, parameters.STUDENTS}
    found |= {solvers.module_of(name) for name in solvers.names()} | {*grids.grids.modules.values()}
    if script == "distill":
        found |= {*parameters.FIT_MODULES.values(), parameters.METHODS, *learned.fits.modules.values()}
    return found | ({*learned.preparations.modules.values()} if script == "prepare" else set())


def test_each_kind_of_fit_has_its_module():
    assert {*parameters.FIT_MODULES} == {*fit_checks.FITS}


@pytest.mark.parametrize("script", [*DEAR, "prompt_score", "statistics", "real", "gather"])
def test_reading_configurations_fetching_and_reports_count_for_no_job_that_is_dear(script):
    own = digests.code_of(ROOT / "scripts" / f"{script}.py", *chosen(script))
    files = {path.relative_to(ROOT).as_posix() for path in own}
    unwanted = ("dode/fetching/", "dode/commands/", "dode/report/page/", "dode/report/figures/")
    assert {file for file in files if file.startswith(unwanted)} | files & PLANNING == set()


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
        copy.append(f"dode/{name}.py", CHANGED)
        digests.append(copy.digest("scripts/new.py"))
    assert len(set(digests)) == 3


def test_imports_in_a_circle_end(copy):
    (copy.root / "dode/one.py").write_text("from dode import two\n")
    (copy.root / "dode/two.py").write_text("from dode import one\n")
    (copy.root / "scripts/new.py").write_text("from dode import one\n")
    before = copy.digest("scripts/new.py")
    copy.append("dode/two.py", CHANGED)
    assert copy.digest("scripts/new.py") != before


def test_a_digest_does_not_depend_on_where_the_package_lies(copy, tmp_path, monkeypatch):
    other = Copy(tmp_path / "zz" / "elsewhere", monkeypatch)
    assert other.digest("scripts/score.py") == copy.digest("scripts/score.py")


@functools.cache
def names(path):
    """What a file defines or imports, and every name in it."""
    tree = ast.parse(path.read_text())
    found = {each.name for each in tree.body if hasattr(each, "name")}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found | {node.asname or node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}


@pytest.fixture(scope="module")
def nodes():
    """Every node of every file of the package and of the scripts, with the file."""
    paths = [*(ROOT / "dode").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    return [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def test_what_is_imported_is_where_the_import_says(nodes):
    """A name that a package hands on when it is asked for it would be missed, and so would a relative import."""
    for path, node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: {ast.unparse(node)}"
            if node.module.split(".")[0] == "dode":
                for alias in node.names:
                    place = f"{node.module}.{alias.name}"
                    assert digests._file_of(place) or alias.name in names(digests._file_of(node.module)), (
                        f"{path}: {ast.unparse(node)}"
                    )


#: What the digest does not see: it compares names and follows imports. So the package has none of it.
UNSEEN = {
    "globals": lambda node: (
        isinstance(node, ast.Call) and ast.unparse(node.func) in ("globals", "vars().update", "exec")
    ),
    "star import": lambda node: isinstance(node, ast.ImportFrom) and node.names[0].name == "*",
    "whole package": lambda node: isinstance(node, ast.Import) and any(each.name == "dode" for each in node.names),
    "subclass hooks": lambda node: getattr(node, "name", "") in ("__init_subclass__", "__set_name__"),
    "subclass registry": lambda node: isinstance(node, ast.Attribute) and node.attr == "__subclasses__",
    "single dispatch": lambda node: isinstance(node, ast.Attribute) and node.attr.startswith("singledispatch"),
    "attributes by text": lambda node: isinstance(node, ast.Name | ast.Attribute) and "attrgetter" in ast.unparse(node),
    "made-up name": lambda node: (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "getattr"
        and isinstance(node.args[1], ast.JoinedStr | ast.BinOp)
    ),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_the_package_has_nothing_that_the_digest_does_not_see(what, nodes):
    for path, node in nodes:
        assert not UNSEEN[what](node), f"{path}: {ast.unparse(node)[:200]}"


#: What a function that only checks has none of, besides calls of what changes something in place.
EFFECTS = (ast.Global, ast.Nonlocal, ast.Yield, ast.YieldFrom, ast.Delete, ast.With, ast.Try, ast.NamedExpr)
MUTATING = {"add", "append", "clear", "extend", "insert", "manual_seed", "next", "pop", "popitem", "remove", "seed"}
MUTATING |= {
    "send",
    "setattr",
    "setdefault",
    "shuffle",
    "sort",
    "unlink",
    "update",
    "write",
    "write_bytes",
    "write_text",
}


def effects(function):
    """What a function does besides raising errors: its nodes, as text."""
    arguments = {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}
    for node in ast.walk(function):
        found = isinstance(node, EFFECTS)
        if isinstance(node, ast.Attribute | ast.Subscript):
            found = not isinstance(node.ctx, ast.Load)
        elif isinstance(node, ast.AugAssign):  # of a tensor it is in place
            found = not isinstance(node.target, ast.Name) or node.target.id in arguments
        elif isinstance(node, ast.Call):
            name = bare_code.name_of_call(node)
            found = name in MUTATING or (name.endswith("_") and not name.endswith("__"))
        elif isinstance(node, ast.Return):
            found = node.value is not None
        elif isinstance(node, ast.Raise):
            found = bare_code.name_of_call(node.exc) not in bare_code.CHECKED
        if found:
            yield ast.unparse(node)[:100]


def test_functions_that_only_check_raise_the_errors_of_checks_or_do_nothing(nodes):
    assert issubclass(ConfigError, ValueError)
    assert {ValueError.__name__, ConfigError.__name__} == bare_code.CHECKED
    defined = set()
    for path, node in nodes:
        if isinstance(node, ast.FunctionDef) and node.name in bare_code.CHECK_NAMES:
            module = path.relative_to(ROOT / "dode").with_suffix("").as_posix()
            defined.add((module, node.name))
            assert not list(effects(node)), f"{module}: {node.name}"
    assert defined == bare_code.CHECKS


@pytest.mark.parametrize(
    "body",
    [
        "levels *= 1.01",
        "levels.mul_(1.01)",
        "levels[0] = 1",
        "seen.append(levels)",
        "torch.manual_seed(0)",
        "setattr(levels, 'x', 1)",
        "next(levels)",
        "return 1",
        "raise KeyError('x')",
    ],
)
def test_what_changes_something_is_no_check(body):
    (function,) = ast.parse(f"def check_levels(levels):\n    {body}\n").body
    assert list(effects(function))


CAUGHT = [
    ("    try:\n        check(x)\n    except ValueError:\n        return 1\n", True),
    ("    try:\n        check(x)\n    except BAD:\n        return 1\n", True),
    ("    try:\n        check(x)\n    except ValueError:\n        raise KeyError from None\n", True),
    ("    try:\n        check(x)\n    finally:\n        return 1\n", True),
    ("    with contextlib.suppress(ValueError):\n        check(x)\n", True),
    ("    try:\n        check(x)\n    except OSError:\n        return 1\n", False),
    ("    try:\n        check(x)\n    except ValueError:\n        clean()\n        raise\n", False),
]


@pytest.mark.parametrize(("body", "counts"), CAUGHT)
def test_a_check_counts_where_an_error_of_its_kind_is_caught(copy, body, counts):
    source = (
        "import contextlib\nBAD = (ValueError,)\n\n\ndef check(x):\n    if x > 1:\n        raise ValueError('large')\n"
    )
    (copy.root / "scripts/new.py").write_text(f"{source}\n\ndef main(snakemake):\n    x = snakemake.x\n{body}")
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", "x > 1", "x > 2")
    assert (copy.digest("scripts/new.py") != before) == counts


@pytest.mark.parametrize(("body", "counts"), CAUGHT)
def test_a_function_that_only_checks_counts_where_its_errors_are_caught(copy, body, counts):
    place = "dode/grids/schedules.py"
    (copy.root / place).write_text(
        "def found(x):\n    return x > 1\n\n\n"
        "def check_steps(x):\n    fault = found(x)\n    if fault:\n        raise ValueError('large')\n"
    )
    begin = "import contextlib\nfrom dode.grids.schedules import check_steps\nBAD = (ValueError,)\n"
    body = body.replace("check(", "check_steps(")
    (copy.root / "scripts/new.py").write_text(f"{begin}\n\ndef main(snakemake):\n    x = snakemake.x\n{body}")
    before = copy.digest("scripts/new.py")
    copy.replace(place, "if fault:", "if fault and x:")
    assert (copy.digest("scripts/new.py") != before) == counts
    before = copy.digest("scripts/new.py")
    copy.replace(place, "return x > 1", "return x > 2")  # what the check needs
    assert (copy.digest("scripts/new.py") != before) == counts


@pytest.mark.parametrize(("given", "other"), [("advance(1)", "advance(2)"), ("*rows", "*others")])
def test_a_check_that_is_given_what_may_have_an_effect_counts(copy, given, other):
    (copy.root / "scripts/new.py").write_text(f"def main(snakemake):\n    check_steps({given})\n")
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", given, other)
    assert copy.digest("scripts/new.py") != before


@pytest.mark.parametrize("defined", ["def check_steps(x):\n    x['n'] = 1\n", "check_steps = noted(1)\n"])
def test_a_function_of_ones_own_with_the_name_of_a_check_counts(copy, defined):
    (copy.root / "scripts/new.py").write_text(f"{defined}\n\ndef main(snakemake):\n    check_steps(snakemake.x)\n")
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", "1", "2")
    assert copy.digest("scripts/new.py") != before


def test_a_constant_that_a_class_takes_over_counts(copy):
    text = "LIMIT = 1\n\n\nclass Own:\n    LIMIT = LIMIT\n\n\ndef main(snakemake):\n    return Own()\n"
    (copy.root / "scripts/new.py").write_text(text)
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", "LIMIT = 1", "LIMIT = 2")
    assert copy.digest("scripts/new.py") != before


@pytest.mark.parametrize(
    "function",
    [
        "def check(x):\n    if x > 1:\n        raise IndexError\n",  # ends a loop over what has no __iter__
        "def check(x):\n    if not any(y > 1 for y in x):\n        raise ValueError\n",  # may use up an iterator
        "@hook\ndef check(x):\n    return x > 1\n",  # nobody calls it by name
        "class Check(metaclass=Hook):\n    limit = 1 > 1\n",
        "def other(x=hook(1 > 1)):\n    pass\n",
    ],
)
def test_what_may_have_an_effect_counts(copy, function):
    text = f"{function}\n\ndef main(snakemake):\n    check(snakemake.x)\n"
    (copy.root / "scripts/new.py").write_text(text)
    before = copy.digest("scripts/new.py")
    copy.replace("scripts/new.py", "> 1", "> 2")
    assert copy.digest("scripts/new.py") != before


KEPT = "import math\n\n\ndef half(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x / 2\n"


def kept(path, source):
    """A later run's reader of that source file, from the file at ``path``; its statements' names and texts."""
    read = digests.Read()
    read.load(path)
    found = [(each.names, each.mentions, each.text(frozenset())) for each in read.statements(source)]
    read.save(path)
    return found


def test_what_was_read_is_the_same_for_a_later_run_which_does_not_parse_it_again(tmp_path, monkeypatch):
    path, source = tmp_path / "kept.json", tmp_path / "half.py"
    source.write_text(KEPT)
    first = kept(path, source)
    assert [names for names, _, _ in first] == [{"math"}, {"half"}]
    assert first[1][2] == "def half(x):\n    return x / 2"
    monkeypatch.setattr(digests.bare_code, "bare", None)
    monkeypatch.setattr(digests.bare_code, "without_checks", None)
    assert kept(path, source) == first


@pytest.mark.parametrize("how", ["edited", "cut off", "of other code", "no such thing"])
def test_what_was_read_is_passed_over_where_it_may_be_wrong(tmp_path, how):
    path, source = tmp_path / "kept.json", tmp_path / "half.py"
    source.write_text(KEPT)
    first, text = kept(path, source), path.read_text()
    saved = json.loads(text)
    for entry in saved["files"].values():
        entry["statements"][1]["unchecked"] = {"": "wrong"}
    if how == "edited":
        source.write_text(KEPT.replace("x / 2", "x / 3"))
        first[1] = (*first[1][:2], "def half(x):\n    return x / 3")
    wrong = {
        "edited": json.dumps(saved),
        "cut off": text[:-10],
        "of other code": json.dumps({**saved, "by": "another Python"}),
        "no such thing": "[]",
    }
    path.write_text(wrong[how])
    assert kept(path, source) == first
    assert json.loads(path.read_text())["by"] == saved["by"]
