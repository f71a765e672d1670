"""Tables in every format: what names of strangers cannot do, how intervals are printed, what is bold."""

from __future__ import annotations

import csv
import io
import re

import pytest

from rlvr_bench.tables import (
    FORMATS,
    Cell,
    Column,
    Figure,
    Format,
    Line,
    Table,
    as_latex,
    best_marked,
    document,
    html,
    latex,
    markdown,
    plain,
    tsv,
)

HOSTILE = (
    "a|b\n| c |",
    "<script>x</script>",
    "=HYPERLINK(1)",
    "\t-2+3\r",
    "\\input{/etc/passwd}%",
    "$x^2_1$ & ~#",
    "[10pt]",
    "*",
    "\x01",
    "\x1b[31mred\u202e",
    "--- ``''",
    "{unbalanced",
    "",
)
TABLE = Table(
    (Column("name"), Column("pass@1 (<b>|\n", "right", "95% interval"), Column("", "right")),
    tuple((name, Figure(value=0.2244, low=0.201, high=0.249, digits=1, scale=100, unit="%"), name) for name in HOSTILE),
)


def lines(text: str) -> list[str]:
    return text.splitlines()


@pytest.mark.parametrize("form", FORMATS)
def test_a_row_is_a_line_and_nothing_in_it_is_a_control_character(form: Format) -> None:
    text = document([Line(("title\n|",)), TABLE, Line(("note",))], form)
    assert all(c.isprintable() or c == "\n" or (c == "\t" and form == "tsv") for c in text)
    body = {"latex": 8, "markdown": 6, "tsv": 1}.get(form, 3)
    assert len(lines(text)) == body + len(HOSTILE)
    assert text.endswith("\n")


def test_markdown_cells_hold() -> None:
    rows = lines(markdown(TABLE))
    assert {row.count("|") for row in rows} == {4}
    assert rows[1] == "| --- | ---: | ---: |"
    assert "22.4 [20.1, 24.9] %" in rows[2]
    assert not [row for row in rows if re.search(r"[<>*`\\$]|\[10pt|\[31m", row)]


def test_tsv_has_as_many_cells_in_every_row_and_figures_as_numbers() -> None:
    cells = [row.split("\t") for row in lines(tsv(TABLE))]
    assert {len(row) for row in cells} == {5}
    assert [row[1:4] for row in cells[1:]] == [["0.2244", "0.201", "0.249"]] * len(HOSTILE)
    assert not [cell for row in cells for cell in row if cell[:1] in ("=", "+", "-", "@")]
    numbers = Table((Column("x"),), (("-2.5",), (Figure(value=-0.5),), ("-1.95e-03",), ("-2+3",), (None,)))
    assert tsv(numbers).split("\n")[1:] == ["-2.5", "-0.5", "-1.95e-03", "'-2+3", ""]
    assert list(csv.reader(io.StringIO(tsv(numbers)), delimiter="\t"))[1] == ["-2.5"]


def test_latex_is_a_tabular_of_booktabs_whose_cells_hold() -> None:
    head, top, titles, middle, *rows, bottom, end = lines(latex(TABLE))
    assert (head, top, middle, bottom, end) == (
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    )
    for row in (titles, *rows):
        assert row.endswith(r" \\")
        bare = re.sub(r"\\[{}&%$#_]", "", row)  # without what is escaped
        assert bare.count("&") == 2
        assert bare.count("{") == bare.count("}")
        assert not set(bare) & set("#~%")
        commands = set(re.findall(r"\\([a-z]+)", bare))
        assert commands <= {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"}
        assert row.lstrip()[0] not in "[*", "the line end before it would read it as an argument"
    assert r"$22.4_{\,20.1}^{\,24.9}$\,\%" in rows[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zoo:grpo@20", "zoo:grpo@20"),
        ("a-b_c", r"a-b\_c"),
        ("50%", r"50\%"),
        ("a--b", "a{-}{-}b"),
        ("it's", "it's"),
        ("''", "{'}{'}"),
        ("1, 2", "1, 2"),
        ("\\", r"\textbackslash{}"),
        ("<0.001", r"\textless{}0.001"),
    ],
)
def test_latex_prints_text_letter_by_letter(text: str, shown: str) -> None:
    assert as_latex(text) == shown


def test_a_title_or_a_note_is_a_comment_in_latex() -> None:
    text = document([Line(("evil\n\\input{x}",)), Line(("",)), TABLE, Line(("\u2028\\end",))], "latex")
    assert [line for line in lines(text) if "input{x}" in line or line.endswith("\\end")] == [
        "% evil \\input{x}",
        "% \\end",
    ]


def test_plain_text_is_aligned_and_html_is_escaped() -> None:
    narrow = Table((Column("a"), Column("b", "right")), (("x", "1"), ("long", "10")))
    assert plain(narrow) == "a       b\nx       1\nlong   10"
    page = html(TABLE)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_has_its_head(form: Format) -> None:
    assert "name" in document([Table(TABLE.columns, ())], form)


def figures(*values: float) -> list[Cell]:
    return [Figure(value=value, digits=1, scale=100) for value in values]


def best(cells: list[Cell]) -> list[int]:
    return [i for i, cell in enumerate(cells) if isinstance(cell, Figure) and cell.is_best]


def test_the_best_of_a_column_is_bold_where_it_has_a_direction() -> None:
    assert best(best_marked(figures(0.1, 0.3, 0.2), "more")) == [1]
    assert best(best_marked(figures(0.1, 0.3, 0.2), "less")) == [0]
    assert best(best_marked(figures(0.1, 0.3, 0.2), "neither")) == []
    assert best(best_marked(figures(0.3, 0.3004, 0.2), "more")) == [0, 1], "equal as they are printed"
    assert best(best_marked(figures(0.3, 0.3), "more")) == [], "none is better than another"
    assert best(best_marked([None, *figures(0.3), "text"], "more")) == []
    cells = best_marked([None, *figures(0.1, 0.2, float("nan"))], "more")
    table = Table((Column("x", "right"),), tuple((cell,) for cell in cells))
    assert lines(latex(table))[4:8] == [r" \\", r"$10.0$ \\", r"$\mathbf{20.0}$ \\", r" \\"]


def test_bounds_are_a_range_in_every_format_and_never_the_best() -> None:
    bounds = Figure(value=0.5, most=0.625, low=0.4, high=0.7, digits=1, scale=100, unit="%")
    table = Table((Column("a", "right", "95% interval"),), ((bounds,), (Figure(value=0.1, low=0.0, high=0.2),)))
    assert "50.0 to 62.5 [40.0, 70.0] %" in markdown(table)
    assert r"$50.0\mbox{ to }62.5_{\,40.0}^{\,70.0}$" in latex(table)
    assert tsv(table).splitlines()[1] == "\t0.4\t0.7"
    assert bounds.alone == "50.0 to 62.5%"
    one, other = best_marked([bounds, Figure(value=0.1)], "more")
    assert one == bounds
    assert other == Figure(value=0.1)
