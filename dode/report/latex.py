r"""Text and tables in LaTeX that every engine and font encoding can set, in plain ASCII and with booktabs alone.

What libraries offer for this was tried on the tables of ``config/config.yaml`` and of ``tests/unit/test_latex.py``,
with TeX Live 2022, and left:

- ``Styler.to_latex`` of pandas with ``S`` columns of siunitx aligns no better, and a document must load and set up that
  package. Nothing in it fits a table to a line: in two columns of article all 12 tables were up to 192 pt too wide, and
  across both columns those of the tests 737 pt. It has neither a rule between body and foot nor cells across columns,
  cannot underline in ``S`` columns, and sets a label that begins with a bracket as an argument of the row before.
- pylatexenc 2.11 has commands for more characters, but of 1,193 letters and signs (Latin, Greek, Cyrillic, punctuation,
  arrows, operators) 315 do not compile in the default font encoding, 293 not in T1, for want of a package or a font.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from dode.report import numbers
from dode.report.frame import SEPARATOR

# Of a character, its name in maths.
_MATHS = """
    ± pm, × times, ∞ infty, ≤ leq, ≥ geq, ≈ approx, ≠ neq, · cdot, √ surd, ∂ partial, ∇ nabla, ∼ sim, ∈ in, ° circ,
    † dagger, → rightarrow, ← leftarrow, ↑ uparrow, ↓ downarrow,
    α alpha, β beta, γ gamma, δ delta, ε epsilon, ζ zeta, η eta, θ theta, ι iota, κ kappa, λ lambda, μ mu,
    ν nu, ξ xi, π pi, ρ rho, σ sigma, ς varsigma, τ tau, υ upsilon, φ phi, χ chi, ψ psi, ω omega,
    Γ Gamma, Δ Delta, Θ Theta, Λ Lambda, Ξ Xi, Π Pi, Σ Sigma, Φ Phi, Ψ Psi, Ω Omega
"""
# Of a character, its command in text. In the encoding that is the default, OT1, < > | " themselves are other glyphs.
_TEXT = r"""
    \ textbackslash, ~ textasciitilde, ^ textasciicircum, < textless, > textgreater, | textbar, " textquotedblright,
    ` textquoteleft, ‘ textquoteleft, ’ textquoteright, “ textquotedblleft, ” textquotedblright, … ldots,
    – textendash, — textemdash, ß ss, æ ae, Æ AE, ø o, Ø O, œ oe, Œ OE, ł l, Ł L, ı i
"""
_COMMANDS = {
    **{character: f"\\{character}" for character in "{}_&%$#"},
    **{character: f"\\{name}{{}}" for character, name in map(str.split, _TEXT.split(","))},
    **{character: f"$\\{name}$" for character, name in map(str.split, _MATHS.split(","))},
    "−": "$-$",
    "⁄": "/",
}
# Of a combining character, the command of the accent.
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
}
_RAISED = {"<super>": "textsuperscript", "<sub>": "textsubscript"}

_LONGEST_WORD = 20
# In pt. Columns of two-column classes are 229 (article) to 252 (IEEE) wide.
_COLUMN = 228
# So much room a label has at least; a longer one is broken.
_LABEL = 95
_SEPARATION = 4
# Computer Modern, the font of LaTeX's classes: their \footnotesize, 8 pt of its design for small sizes, is as broad as
# 8.5 pt of the design that matplotlib has.
_FONT = FontProperties(family="cmr10", size=8.5)
_BOLD = 1.16
# So many, with a caption and sources, are no longer than a page of article.
_MOST_LINES = 40


def escaped(text: str) -> str:
    """``text`` as it is, in LaTeX: on one line, long words breakable; what has no command by its code point."""
    words = unicodedata.normalize("NFC", text).split()
    # Two hyphens would be set as a dash.
    return re.sub("-(?=-)", "-{}", " ".join(map(_word, words)))


def _word(word):
    pieces = re.findall(r"\w{1,10}\W?|\W", word) if len(word) > _LONGEST_WORD else [word]
    return r"\allowbreak{}".join("".join(map(_character, piece)) for piece in pieces)


def _character(character):
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character <= "~":
        return character
    kind = unicodedata.decomposition(character).split(" ")[0]
    parts = unicodedata.normalize("NFKD", character)
    if kind in _RAISED:
        return f"\\{_RAISED[kind]}{{{''.join(map(_character, parts))}}}"
    if kind.startswith("<"):
        return "".join(map(_character, parts))
    if parts[1:] in _ACCENTS and parts[0].isascii():
        return f"\\{_ACCENTS[parts[1:]]}{{{parts[0]}}}"
    return f"U+{ord(character):04X}"


@dataclasses.dataclass(frozen=True)
class Table:
    """One dataset and metric: body rows ``(label, {nfe: cell})``, foot rows ``(label, cell)``.

    A cell is ``(value, error, published, place)``, scaled; ``sources`` are ``(source, [what it published])``,
    ``elsewhere`` says of each mark in the labels who measured it, ``passes`` is a sentence of
    :mod:`dode.report.passes`.
    """

    dataset: str
    metric: str
    nfes: list
    body: list
    foot: list
    images: str
    seeds: str
    halves: str
    errors: list
    sources: list
    elsewhere: list
    passes: str

    def parts(self, cell: tuple) -> tuple[str, str, str]:
        """Value, error and published values of a cell as text, the last two empty where there are none."""
        value, error, published, _ = cell
        value, error = numbers.measured(value, error)
        return value or "not finite", error, ", ".join(dict.fromkeys(published.split(SEPARATOR)))

    def room(self, cell: tuple, nfe: int) -> str:
        """What the value of a cell lacks of the decimals that the longest of its column has, point included."""
        column = [self.parts(cells[nfe])[0] for _, cells in self.body if nfe in cells]
        decimals = max((text.partition(".")[2] for text in column if "e" not in text), key=len, default="")
        whole, _, own = self.parts(cell)[0].partition(".")
        if "e" in whole + own or len(own) == len(decimals):
            return ""
        return "." * (not own) + "0" * (len(decimals) - len(own))


def environments(table: Table, title: str, note: str, marks: Mapping[int, str], width: float) -> Iterator[str]:
    r"""A table of :mod:`dode.report.tables` as ``table`` environments, the values of an NFE aligned by their points.

    It is as wide as a column of a two-column document where it can be. Else it is a ``table*``, which is as wide as the
    page; NFEs that do not fit stand under the others, and where the page is not long enough in a further environment.

    Args:
        title, note: of the caption, in LaTeX; a list of tables has the title alone.
        marks: by the place of a cell, how its value is written (a format).
        width: of a line of text over the whole page, in pt.
    """
    layout = _layout(table, marks, width)
    anchor = re.sub("[^A-Za-z0-9]+", "-", f"{table.dataset}-{table.metric}")
    floats = layout.floats()
    for number, parts in enumerate(floats, 1):
        last = number == len(floats)
        lines = [
            rf"\begin{{{layout.environment}}}",
            r"\centering",
            rf"\caption[{{{title}}}]{{{title}. {note}}}" if number == 1 else rf"\caption{{{title}, continued.}}",
            rf"\label{{tab:{anchor}{f'-{number}' if number > 1 else ''}}}",
            rf"\footnotesize\setlength{{\tabcolsep}}{{{_SEPARATION}pt}}\setlength{{\abovetopsep}}{{4pt}}",
            rf"\begin{{tabular}}{{{layout.columns()}}}",
            r"\toprule",
            "\n\\midrule\n".join(parts + layout.foot() * last),
            r"\bottomrule",
            r"\end{tabular}",
            *_sources(table) * last,
            rf"\end{{{layout.environment}}}",
        ]
        yield "\n".join(lines)


def _sources(table):
    sources = " ".join(f"{escaped(text)}." for text in map(": ".join, table.sources))
    return [rf"\par\medskip{{\raggedright Published: {sources}\par}}"] if sources else []


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a table is set: ``room`` for a label in pt, the NFEs beside each other, whether errors have own columns."""

    table: Table
    marks: dict
    environment: str
    room: float
    blocks: list
    pairs: bool

    def columns(self):
        label = "l" if _label_width(self.table) <= self.room else f"p{{{self.room:.0f}pt}}"
        return "@{}" + label + self._side_by_side() * (r"r@{\,}l" if self.pairs else "r") + "@{}"

    def _side_by_side(self):
        return max(len(self.blocks[0]), 1)

    def floats(self):
        """What each environment has between its rules: blocks of rows with their heads."""
        rows = [(label, cells, math.ceil(_width(label) / self.room)) for label, cells in self.table.body]
        parts = [
            (self._block(own, nfes), 1 + sum(lines for *_, lines in own))
            for own in _packed(rows, _MOST_LINES - 1)
            for nfes in self.blocks
        ]
        return [[text for text, _ in own] for own in _packed(parts, _MOST_LINES)]

    def _block(self, rows, nfes):
        head = ["solver", *(self._across(f"NFE {nfe}") for nfe in nfes)]
        body = [
            [self._label(label), *(self._cell(cells[nfe], nfe) if nfe in cells else self._across("--") for nfe in nfes)]
            for label, cells, _ in rows
        ]
        return "\n".join([_row(head), r"\midrule", *map(_row, body)])

    def foot(self):
        columns = self._side_by_side() * (1 + self.pairs)
        rows = []
        for label, cell in self.table.foot:
            value, error, published = self.table.parts(cell)
            text = _joined(r"\,", _signed(value), _error(error))
            rows.append(
                _row(
                    [
                        self._label(label),
                        rf"\multicolumn{{{columns}}}{{c}}{{{_joined(' ', text, _bracketed(published))}}}",
                    ]
                )
            )
        return ["\n".join(rows)] if rows else []

    def _label(self, label):
        text = escaped(label)
        if _width(label) > self.room:
            return rf"\raggedright\hangindent=1em {text}"
        # After the end of a row these two would be read as arguments of it.
        return "{}" + text if text[:1] in ("[", "*") else text

    def _cell(self, cell, nfe):
        value, error, published = self.table.parts(cell)
        rest = _joined(" ", _error(error), _bracketed(published))
        if not math.isfinite(cell[0]):
            return self._across(_joined(" ", value, rest))
        room = self.table.room(cell, nfe)
        text = self.marks[cell[-1]].format(_signed(value)) + (rf"\phantom{{{room}}}" if room else "")
        return f"{text} & {rest}".rstrip() if self.pairs else text

    def _across(self, text):
        return rf"\multicolumn{{2}}{{c}}{{{text}}}" if self.pairs else text


def _layout(table, marks, width):
    pairs = any(any(table.parts(cell)[1:]) for _, cells in table.body for cell in cells.values())
    widths = [_nfe_width(table, nfe) for nfe in table.nfes]
    label = min(_label_width(table), _LABEL)
    if label + sum(widths) <= _COLUMN:
        return _Layout(table, marks, "table", _COLUMN - sum(widths), [table.nfes], pairs)
    # As few blocks as can be, as equal as can be.
    for count in range(1, len(widths) + 1):
        size = math.ceil(len(widths) / count)
        # Of the columns that stand under each other the widest counts.
        used = sum(max(widths[i::size]) for i in range(size))
        if label + used <= width:
            break
    blocks = [table.nfes[i : i + size] for i in range(0, len(widths), size)]
    return _Layout(table, marks, "table*", max(width - used, _LABEL), blocks, pairs)


def _packed(items, most):
    """``items`` in groups whose last fields add up to no more than ``most``; one group at least."""
    groups, used = [[]], 0
    for item in items:
        used += item[-1]
        if used > most and groups[-1]:
            groups.append([])
            used = item[-1]
        groups[-1].append(item)
    return groups


def _label_width(table):
    return max(_width(label) for label, _ in [*table.body, *table.foot])


def _nfe_width(table, nfe):
    cells = [(*table.parts(cells[nfe]), table.room(cells[nfe], nfe)) for _, cells in table.body if nfe in cells]
    value = max(_BOLD * _width(_spread(value) + room) for value, _, _, room in cells)
    rest = max(
        _width(_joined(" ", error and f"± {_spread(error)}", _bracketed(published))) for _, error, published, _ in cells
    )
    return 2 * _SEPARATION + max(value + rest, _width(f"NFE {nfe}"))


@functools.cache
def _width(text):
    r"""How wide ``text`` is in \footnotesize, in pt, each command as wide as an m."""
    shown = re.sub(r"(?<!\\)\$.+?\$|\\[A-Za-z]+", "m", escaped(text).replace(r"\allowbreak", ""))
    return text_to_path.get_text_width_height_descent(shown, _FONT, ismath=False)[0]


def _joined(separator, *texts):
    return separator.join(filter(None, texts))


def _row(texts):
    return " & ".join(texts) + r" \\"


def _signed(number):
    found = re.fullmatch(r"([-+]?[0-9.]+)e(-?[0-9]+)", number)
    if found:
        return rf"{_signed(found[1])}$\cdot10^{{{found[2]}}}$"
    return number.replace("-", "$-$")


def _spread(number):
    """About as wide as :func:`_signed` sets it."""
    return number.replace("e", "·10").replace("-", "−") if number[:1] in "-0123456789" else number


def _error(error):
    return rf"$\pm$\,{_signed(error)}" if error else ""


def _bracketed(published):
    return f"[{_signed(published)}]" if published else ""
