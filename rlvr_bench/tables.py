"""Writes tables as Markdown, LaTeX, plain text, TSV or HTML, with every cell escaped for the format.

Names in a table are untrusted: a cell stays on one line, and in no format is any of it read as markup, a formula or a
control character. A number with an interval is a ``Figure``; each format has a way to write it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self, get_args

import msgspec

from rlvr_bench.errors import visible

__all__ = [
    "FORMATS",
    "Cell",
    "Column",
    "Figure",
    "Format",
    "Line",
    "Table",
    "as_latex",
    "as_markdown",
    "best_marked",
    "document",
    "html",
    "in_one_cell",
    "latex",
    "markdown",
    "no_formula",
    "plain",
    "tsv",
]

Format = Literal["table", "markdown", "latex", "plain", "tsv"]
FORMATS: tuple[Format, ...] = get_args(Format)

# Control characters and line breaks in a row become one space; any other kind of blank becomes a space.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+|[^\S ]")
# Inside a word @, # and _ have no meaning: pass@64 and error_rate are not changed.
_IN_MARKDOWN = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)[@#_]|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)
# What TeX reads as a command, as an argument of the preceding line end ([ and *), or as another character (--, quotes).
_IN_LATEX = {
    **{c: f"\\{c}" for c in "{}$&#_%"},
    **{c: f"{{{c}}}" for c in "[*-,?!`'\""},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_KEPT_IN_LATEX = re.compile(r"(?<!-)-(?!-)|(?<!,),(?!,)|[?!](?!`)|(?<!')'(?!')")  # characters that begin no ligature
# A spreadsheet reads text that starts like this as a formula; an apostrophe before it marks it as text.
_FORMULA = re.compile(r"['=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(\.[0-9]*)?(e[-+]?[0-9]+)?%?")


class Column(msgspec.Struct, frozen=True):
    """A column: its title, and ``interval``, the title of the intervals' column where these have a separate one."""

    title: str
    align: Literal["left", "right"] = "left"
    interval: str = ""

    @property
    def joined(self) -> str:
        """The title of a column that has both figures and their intervals."""
        return f"{self.title} [{self.interval}]".strip() if self.interval else self.title


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number with the interval [``low``, ``high``], printed as ``scale`` times the value with ``digits`` decimals.

    ``most``: if set, the number is not known, but between ``value`` and ``most``. ``unit`` follows the number.
    ``tail``: text at the end of the cell, such as a rank. ``is_best``: LaTeX prints the number in bold
    (``best_marked``).
    """

    value: float
    low: float | None = None
    high: float | None = None
    most: float | None = None
    digits: int = 3
    scale: float = 1.0
    unit: str = ""
    has_sign: bool = False
    tail: str = ""
    is_best: bool = False

    @classmethod
    def of(cls, value: float, low: float | None = None, high: float | None = None, *, percent: bool) -> Self:
        """A figure in percent with one decimal, or a plain number with three."""
        if percent:
            return cls(value=value, low=low, high=high, digits=1, scale=100.0, unit="%")
        return cls(value=value, low=low, high=high)

    def number(self, value: float) -> str:
        """A value or a limit as printed, without the unit; empty if it is not finite."""
        sign = "+" if self.has_sign else ""
        return f"{self.scale * value:{sign}.{self.digits}f}" if math.isfinite(value) else ""

    @property
    def main(self) -> str:
        """The value as printed, or its bounds: ``50.0 to 60.0``."""
        if self.most is None:
            return self.number(self.value)
        return f"{self.number(self.value)} to {self.number(self.most)}"

    @property
    def limits(self) -> tuple[str, str] | None:
        """The limits of the interval as printed; None without an interval."""
        return None if self.low is None or self.high is None else (self.number(self.low), self.number(self.high))

    @property
    def alone(self) -> str:
        """The number with its unit and tail, without the interval."""
        unit = self.unit if self.unit in ("", "%") else f" {self.unit}"
        return f"{self.main}{unit} {self.tail}".rstrip()

    @property
    def span(self) -> str:
        """Only the interval: ``20.1% to 24.9%``."""
        unit = "%" if self.unit == "%" else ""
        return "" if self.limits is None else f"{self.limits[0]}{unit} to {self.limits[1]}{unit}"

    @property
    def joined(self) -> str:
        """``22.4 [20.1, 24.9] %``; ``22.4%`` without an interval."""
        if self.limits is None:
            return self.alone
        number = f"{self.main} [{', '.join(self.limits)}]"
        return " ".join(filter(None, (number, self.unit, self.tail)))


Cell = str | Figure | None


class Table(msgspec.Struct, frozen=True):
    """Columns and rows; a row has a cell for each column, and None for an empty cell."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Line(msgspec.Struct, frozen=True):
    """A line of text between tables, made of strings and (string, terminal style) pairs.

    ``is_whole``: the line is not wrapped in a terminal, so that it can be copied.
    """

    parts: tuple[str | tuple[str, str], ...]
    is_whole: bool = False

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part[0] for part in self.parts)


def document(blocks: Iterable[Line | Table], form: Format) -> str:
    """All lines and tables as one text; in TSV only the tables, in LaTeX the lines as comments."""
    write, line = _WRITERS[form]
    text, before = "", None
    for block in blocks:
        if isinstance(block, Line) and (form == "tsv" or (form != "plain" and not block.text)):
            continue
        apart = form == "markdown" or (isinstance(before, Table) and isinstance(block, Table))
        text += "\n" if before is not None and apart else ""
        text += write(block) if isinstance(block, Table) else line(in_one_cell(block.text))
        text, before = f"{text}\n", block
    return text


def best_marked(cells: Sequence[Cell], better: Literal["more", "less", "neither"]) -> list[Cell]:
    """The cells, the best figures marked. Figures printed alike are equally best; if all are alike, none is marked."""
    printed = [
        float(cell.number(cell.value) or "nan") if isinstance(cell, Figure) and cell.most is None else math.nan
        for cell in cells
    ]
    known = [value for value in printed if not math.isnan(value)]
    if better == "neither" or len(set(known)) < 2:
        return list(cells)
    best = max(known) if better == "more" else min(known)
    return [
        msgspec.structs.replace(cell, is_best=True) if isinstance(cell, Figure) and value == best else cell
        for cell, value in zip(cells, printed, strict=True)
    ]


def in_one_cell(text: str) -> str:
    """``text`` on one line, without control characters; other invisible characters become escapes."""
    return visible(_BREAKS.sub(" ", text).strip())


def as_markdown(text: str) -> str:
    """``text`` on one line; characters with a meaning in Markdown or HTML become character references.

    Backslashes are not used: renderers differ in which of them they accept. A name must not become a link, a mention or
    formatting.
    """
    return _IN_MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", in_one_cell(text))


def as_latex(text: str) -> str:
    """``text`` on one line, escaped so that TeX prints every character as it is."""
    text = in_one_cell(text)
    kept = {match.start() for match in _KEPT_IN_LATEX.finditer(text)}
    return "".join(c if i in kept else _IN_LATEX.get(c, c) for i, c in enumerate(text))


def no_formula(text: str) -> str:
    """``text``, with an apostrophe before it if a spreadsheet would read it as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown; intervals are in brackets."""
    rule = " | ".join("---:" if column.align == "right" else "---" for column in table.columns)
    rows = [[as_markdown(column.joined) for column in table.columns]]
    rows += [
        [cell.joined if isinstance(cell, Figure) else as_markdown(cell or "") for cell in row] for row in table.rows
    ]
    return _drawn(rows, row=("| ", " | ", " |"), below_head=f"| {rule} |")


def latex(table: Table) -> str:
    r"""A ``tabular`` with booktabs rules; an interval is ``$22.4_{\,20.1}^{\,24.9}$``, the best figures are bold."""
    aligns = "".join("r" if column.align == "right" else "l" for column in table.columns)
    rows = [[as_latex(column.joined) for column in table.columns]]
    rows += [
        [_figure_in_latex(cell) if isinstance(cell, Figure) else as_latex(cell or "") for cell in row]
        for row in table.rows
    ]
    return _drawn(
        rows,
        row=("", " & ", r" \\"),
        above=f"\\begin{{tabular}}{{{aligns}}}\n\\toprule",
        below_head=r"\midrule",
        below="\\bottomrule\n\\end{tabular}",
    )


def plain(table: Table) -> str:
    """Columns separated by blanks, for a log or for ``print``; intervals are in brackets."""
    from tabulate import tabulate

    rows = [
        [cell.joined if isinstance(cell, Figure) else in_one_cell(cell or "") for cell in row] for row in table.rows
    ]
    drawn = tabulate(
        rows,
        headers=[in_one_cell(column.joined) for column in table.columns],
        tablefmt="plain",
        disable_numparse=True,
        colalign=[column.align for column in table.columns] if rows else None,
    )
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def tsv(table: Table) -> str:
    """Tab-separated values for programs: figures as numbers with 12 digits, their limits in two further columns."""
    wide = [any(isinstance(cell, Figure) and cell.limits for cell in cells) for cells in _columns(table)]
    head: list[str] = []
    for column, has_limits in zip(table.columns, wide, strict=True):
        head += [column.title, f"{column.title} low", f"{column.title} high"] if has_limits else [column.title]
    rows = [[no_formula(in_one_cell(title)) for title in head]]
    rows += [
        [text for cell, has_limits in zip(row, wide, strict=True) for text in _in_tsv(cell, has_limits=has_limits)]
        for row in table.rows
    ]
    return _drawn(rows, row=("", "\t", ""))


def html(table: Table) -> str:
    """A ``<table>`` with every cell escaped; intervals are in brackets."""
    from tabulate import tabulate

    rows = [
        [cell.joined if isinstance(cell, Figure) else in_one_cell(cell or "") for cell in row] for row in table.rows
    ]
    head = [in_one_cell(column.joined) for column in table.columns]
    aligns = [column.align for column in table.columns] if rows else None
    return str(tabulate(rows, headers=head, tablefmt="html", disable_numparse=True, colalign=aligns))


def _columns(table: Table) -> list[list[Cell]]:
    return [[row[i] for row in table.rows] for i in range(len(table.columns))]


def _drawn(
    rows: Sequence[Sequence[str]], *, row: tuple[str, str, str], above: str = "", below_head: str = "", below: str = ""
) -> str:
    """The head and the rows as text. Cells are not padded: one long name would make every row of a file longer."""
    from tabulate import TableFormat, tabulate

    def joined(cells: Sequence[str], *_: object) -> str:
        return row[0] + row[1].join(cells) + row[2]

    above_, below_head_, below_ = (
        (lambda *_, text=text: text) if text else None for text in (above, below_head, below)
    )
    form = TableFormat(above_, below_head_, None, below_, joined, joined, padding=0, with_header_hide=None)
    return str(tabulate(rows[1:], headers=rows[0], tablefmt=form, disable_numparse=True, stralign=None))


def _figure_in_latex(figure: Figure) -> str:
    number = figure.number(figure.value)
    if not number:
        return as_latex(figure.tail)
    if figure.most is not None:
        number = f"{number}\\mbox{{ to }}{figure.number(figure.most)}"
    main = f"\\mathbf{{{number}}}" if figure.is_best else number
    limits = "" if figure.limits is None else f"_{{\\,{figure.limits[0]}}}^{{\\,{figure.limits[1]}}}"
    unit = f"\\,{as_latex(figure.unit)}" if figure.unit else ""
    return f"${main}{limits}${unit} {as_latex(figure.tail)}".rstrip()


def _in_tsv(cell: Cell, *, has_limits: bool) -> list[str]:
    if not isinstance(cell, Figure):
        text = in_one_cell(cell or "")
        return [text if _NUMBER.fullmatch(text) else no_formula(text), *([""] * 2 if has_limits else [])]
    number = cell.value if cell.most is None else None
    values = (number, cell.low, cell.high) if has_limits else (number,)
    return ["" if value is None or not math.isfinite(value) else f"{value:.12g}" for value in values]


def _comment(text: str) -> str:
    return f"% {text}"


_WRITERS: dict[Format, tuple[Callable[[Table], str], Callable[[str], str]]] = {
    "table": (plain, str),
    "plain": (plain, str),
    "markdown": (markdown, as_markdown),
    "latex": (latex, _comment),
    "tsv": (tsv, str),
}
