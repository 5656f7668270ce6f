"""Tables in LaTeX: text that any document can set, and rows that are no wider than its lines."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from dode.report import frame as frames
from dode.report import latex, tables

NFES = (3, 4, 5, 6, 7, 8, 9, 10, 15, 20)
LABELS = [
    "DDIM",
    "D-DDIM (m=3, refined)",
    r"S_churn = 40 & 50% #2 $5 ^2 ~a {x} \cmd <b|c> \"q\" `é' ŝ – − × → ≤ ½ x₀ 10³ ™ 漢 🙂",
    "[3] λ with σ_max→∞, a very long label of a solver with many options (order 3, corrector, dynamic thresholding)",
    "*AVERYLONGWORDWITHOUTANYSPACE_ORDER=3/CORRECTOR=NONE",
    "two\nlines\u2028and\ta tab",
]
URL = "https://raw.githubusercontent.com/NVlabs/edm/62072d2612c7da05165d6233d13d17d71f213fee/a_b%20c?x=1&y=~2#README.md"


def cell(label, nfe, dataset="a_b & <λ>", published=(), **metrics):
    """Three seeds a metric, 1 % apart."""
    scores = {}
    for name, value in metrics.items():
        blocks = value * np.array([0.99, 1.0, 1.01])
        scores[name] = {"value": blocks.mean(), "error": blocks.std(ddof=1), "error_kind": "seeds", "blocks": blocks}
    facts = {"method": label, "distilled": False, "reference": nfe > 50, "images": 5000, "published": published}
    return {"dataset": dataset, "solver": label, "label": label, "nfe": nfe, **facts, "metrics": scores}


def nasty():
    """Many NFEs, some missing, one value that is not finite, negative ones, published ones with long sources."""
    cells = []
    for row, label in enumerate(LABELS):
        for nfe in NFES:
            fid = np.nan if (row, nfe) == (1, 4) else 300 / nfe / (row + 1)
            published = [{"fid": "93.36", "source": URL}, {"fid": "9", "source": f"README, {URL}"}] if nfe == 5 else []
            if (row + nfe) % 7:
                cells.append(cell(label, nfe, fid=fid, kid=1e-3 * (row - nfe), published=published))
    cells.append(cell("reference: fine steps of Heun", 79, fid=1.0, published=[{"fid": "1.97", "source": URL}]))
    return frames.tidy(cells, [{"dataset": "a_b & <λ>", "images": 2500, "halves": {"fid": [0.9, 1.0]}}])


def written(frame, folder, **options):
    tables.write_latex(frame, folder / "table.tex", **options)
    return (folder / "table.tex").read_text(encoding="ascii")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a_1 & 50% {x} #2 $", r"a\_1 \& 50\% \{x\} \#2 \$"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ('<|>"`', r"\textless{}\textbar{}\textgreater{}\textquotedblright{}\textquoteleft{}"),
        ("λ→∞ × −1", r"$\lambda$$\rightarrow$$\infty$ $\times$ $-$1"),
        ("e\u0301 éŁ", r"\'{e} \'{e}\L{}"),
        ("x₀ 10³ ½ ﬁ µ", r"x\textsubscript{0} 10\textsuperscript{3} 1/2 fi $\mu$"),
        ("a--b – c", r"a-{}-b \textendash{} c"),
        ("two\nlines\u2028and\ta\xa0tab", "two lines and a tab"),
        ("🙂\x00한", "U+1F642U+0000U+D55C"),
        (
            "https://a.org/b1/c?d=e",
            r"https:\allowbreak{}/\allowbreak{}/\allowbreak{}a.\allowbreak{}org/\allowbreak{}b1",
        ),
    ],
)
def test_text(text, expected):
    assert latex.escaped(text).startswith(expected)
    assert latex.escaped(text).isascii()


@pytest.mark.parametrize(
    ("text", "width"), [("reference: fine heun steps (NFE 79)", 132.8), ("*DPM-Solver++ (2S)", 81.4), ("0.234", 19.4)]
)
def test_widths_are_those_that_tex_measures(text, width):
    r"""``\settowidth`` in ``\footnotesize`` of article."""
    assert latex._width(text) == pytest.approx(width, rel=0.01)


def test_a_label_is_no_argument_of_the_row_before(tmp_path):
    text = written(frames.tidy([cell(label, 5, fid=1.0) for label in ("[3]", "*a")], []), tmp_path)
    assert "\n{}[3] & " in text
    assert "\n{}*a & " in text


def test_value_and_error_have_columns_of_their_own(tmp_path):
    frame = frames.tidy([cell("A", 5, kid=-2e-3), cell("B", 5, kid=np.nan), cell("C", 7, kid=1e-3)], [])
    text = written(frame, tmp_path)
    assert r"\begin{tabular}{@{}lr@{\,}lr@{\,}l@{}}" in text
    assert r"solver & \multicolumn{2}{c}{NFE 5} & \multicolumn{2}{c}{NFE 7} \\" in text
    assert r"A & $-$2.000 & $\pm$\,0.020 & \multicolumn{2}{c}{--} \\" in text
    assert r"B & \multicolumn{2}{c}{not finite} & \multicolumn{2}{c}{--} \\" in text


def test_one_seed_needs_no_columns_for_errors(tmp_path):
    one = cell("A", 5, fid=1.0)
    one["metrics"]["fid"]["error"] = None
    text = written(frames.tidy([one], []), tmp_path)
    assert "{@{}lr@{}}" in text
    assert "\nsolver & NFE 5 \\\\\n\\midrule\nA & 1.00 \\\\\n" in text


def heads(text):
    """The NFEs of each block of rows, and the environment that each is in."""
    found, environment = [], None
    for line in text.splitlines():
        if begins := re.match(r"\\begin\{(table\*?)\}", line):
            environment = begins[1]
        if line.startswith("solver &"):
            found.append((environment, [int(nfe) for nfe in re.findall(r"NFE (\d+)", line)]))
    return found


def test_few_columns_fit_a_column_of_the_page_and_many_stand_under_each_other(tmp_path):
    few = written(frames.tidy([cell("DDIM", nfe, fid=9.0) for nfe in NFES[:2]], []), tmp_path)
    assert heads(few) == [("table", [3, 4])]
    many = frames.tidy([cell("DDIM", nfe, fid=9.0) for nfe in NFES], [])
    found = heads(written(many, tmp_path))
    assert {environment for environment, _ in found} == {"table*"}
    assert [nfe for _, nfes in found for nfe in nfes] == list(NFES)
    assert len(found) > 1
    assert len(heads(written(many, tmp_path, width=250))) > len(found)
    assert heads(written(many, tmp_path, width=1000)) == [("table*", list(NFES))]


def test_long_tables_go_on_in_further_environments(tmp_path):
    frame = frames.tidy([cell(f"S{i}", nfe, fid=9.0 + i) for i in range(100) for nfe in NFES], [])
    text = written(frame, tmp_path)
    assert sorted(re.findall(r"^S(\d+) &", text, re.MULTILINE), key=int) == sorted(
        [str(i) for i in range(100)] * (text.count("\nsolver &") // 3), key=int
    )
    assert text.count(r"\caption[") == 1
    assert text.count(", continued.}") == text.count(r"\begin{table*}") - 1 > 3
    anchors = re.findall(r"\\label\{.*\}", text)
    assert len(set(anchors)) == len(anchors)


PAGES = {
    "one column": r"\documentclass{article}",
    "two columns": r"\documentclass[twocolumn]{article}",
    "T1": r"\documentclass{article}\usepackage[T1]{fontenc}",
}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("page", PAGES)
def test_what_is_nasty_compiles_and_fits(page, tmp_path):
    written(nasty(), tmp_path)
    log = compiled(PAGES[page], tmp_path)
    for problem in (r"Overfull \hbox", "Float too large", "Missing character"):
        assert problem not in log


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_a_document_of_many_tables_alone_compiles(tmp_path):
    cells = [cell("DDIM", 5, dataset=f"set-{i}", fid=9.0) for i in range(120)]
    written(frames.tidy(cells, []), tmp_path)
    compiled(PAGES["two columns"], tmp_path)


def compiled(preamble, folder):
    page = rf"{preamble}\usepackage{{booktabs}}\begin{{document}}\input{{table}}\end{{document}}"
    (folder / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=1800)
    log = (folder / "page.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-3000:]
    # TeX breaks the lines of its log.
    return log.replace("\n", " ")
