"""Views of a scorecard: the short table for a terminal or a notebook, an estimate by name, and Arrow tables."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from rlvr_bench.errors import NotInScorecard, RunError, in_one_line
from rlvr_bench.metrics import METRICS, find_metric
from rlvr_bench.records import Estimate
from rlvr_bench.tables import Cell, Column, Figure, Line, Table, document, html, in_one_cell

if TYPE_CHECKING:
    import pyarrow as pa

    from rlvr_bench.scorecard import ProblemScore, Scorecard

__all__ = [
    "as_html",
    "as_text",
    "curve_notes",
    "estimates_table",
    "figure_of",
    "find_estimate",
    "headline",
    "main_table",
    "problems_table",
    "quality_line",
    "shown_curve",
    "split_budget",
]

_NEGLIGIBLE = 0.005  # a chance of guessing below this is not printed next to pass@k
_SINGLE = {metric.name: metric for metric in METRICS if metric.summary}
# Estimates whose budgets `score --k` sets.
_OF_ANY_BUDGET = ("pass@k", "unsolved@k", "guess@k", "corrected_pass@k", "cot_pass@k")
_BUDGET = re.compile(r"([A-Za-z_]+)@([1-9][0-9]{0,9})")
_NAMES = 6
_NAME_CHARACTERS = 80


def as_text(card: Scorecard) -> str:
    """The text of ``print(card)``."""
    return document([headline(card), *_shown(card)], "plain").rstrip("\n")


def as_html(card: Scorecard) -> str:
    """The HTML for a notebook; every name is escaped."""
    parts = [f"<p><b>{escape(in_one_cell(headline(card).text))}</b></p>"]
    parts += [
        html(block) if isinstance(block, Table) else f"<p>{escape(in_one_cell(block.text))}</p>"
        for block in _shown(card)
    ]
    return "\n".join(parts)


def headline(card: Scorecard) -> Line:
    """A line with the model, the task, and the numbers of problems and rollouts."""
    run, drawn = card.run, [problem.n for problem in card.problems if problem.n]
    model, task = (in_one_line(name, _NAME_CHARACTERS) or "(no name)" for name in (run.model, run.task))
    rollouts = _span(min(drawn, default=0), max(drawn, default=0))
    return Line(((model, "bold"), " on ", (task, "bold"), f": {len(drawn):,} problems, n = {rollouts} rollouts each"))


def _shown(card: Scorecard) -> Iterator[Line | Table]:
    table = main_table(card)
    yield table if table.rows else Line(("no estimates",))
    if quality := quality_line(card.quality):
        yield Line((in_one_line(f"quality: {quality}", 500),))
    yield from (Line((f"warning: {in_one_line(text, 300)}",)) for text in card.run.warnings)


def main_table(card: Scorecard) -> Table:
    """pass@k at the budgets of ``shown_curve``, and the metrics that have a summary in ``METRICS``."""
    guesses, corrected = _guesses(card.estimates), _corrected(card.estimates)
    rows: list[tuple[Cell, ...]] = [
        _pass_row(estimate, guesses.get(estimate.k), corrected.get(estimate.k, ""))
        for estimate in shown_curve(card.estimates)
    ]
    for name, metric in _SINGLE.items():
        single = next((e for e in card.estimates if e.name == name and e.group is None and _is_known(e)), None)
        if single is not None:
            label = f"{name} in {single.k}" if metric.unit == "problems" else name.replace("_", " ")
            rows.append((label, figure_of(single), f"{metric.summary}{_over_errors(single)}"))
    columns = (Column(""), Column("value", "left", "95% interval"), Column(""))
    return Table(columns, tuple(rows))


def figure_of(estimate: Estimate) -> Figure | None:
    """An estimate as a cell, in the unit of its metric; its bounds where it has no value; None where it has neither."""
    value = estimate.at_least if estimate.value is None else estimate.value
    if value is None:
        return None
    metric = find_metric(estimate.name)
    percent = metric is not None and metric.is_fraction
    figure = Figure.of(value, estimate.low, estimate.high, percent=percent)
    figure = msgspec.structs.replace(figure, most=estimate.at_most if estimate.value is None else None)
    if metric is not None and metric.unit == "problems":
        return msgspec.structs.replace(
            figure, digits=_digits_of_count(value, figure.most), tail=f"of {estimate.n_problems}"
        )
    return figure


def _digits_of_count(*counts: float | None) -> int:
    """Digits after the point: 0 for whole numbers of problems, 1 for expected numbers."""
    return 0 if all(count is None or float(count).is_integer() for count in counts) else 1


def _is_known(estimate: Estimate) -> bool:
    return estimate.value is not None or estimate.at_least is not None


def _over_errors(estimate: Estimate) -> str:
    """The end of a sentence with the bounds of a value, if some rollouts have no verdict; else empty."""
    if estimate.value is None or estimate.at_least is None or estimate.at_most is None:
        return ""
    figure = figure_of(msgspec.structs.replace(estimate, value=None, low=None, high=None, n_problems=0))
    return "" if figure is None else f"; errors leave {msgspec.structs.replace(figure, tail='').alone}"


def quality_line(rates: dict[str, float | None]) -> str:
    """Known rates in percent and known lengths in tokens, as one line; empty if none is known."""
    parts = []
    for name, value in rates.items():
        if value is not None:
            row = find_metric(name)
            shown = f"{value:.1%}" if row is None or row.is_fraction else f"{value:.1f}"
            parts.append(f"{name.removesuffix('_rate').replace('_', ' ')} {shown}")
    return ", ".join(parts)


def shown_curve(estimates: Sequence[Estimate]) -> list[Estimate]:
    """pass@k at powers of four, at the largest k, and at the largest k with a value: few enough to read quickly."""
    curve = [e for e in estimates if e.name == "pass@k" and e.k is not None and e.k > 0 and _is_known(e)]
    valued = [e for e in curve if e.value is not None]
    last = {max((e.k or 0 for e in subset), default=0) for subset in (curve, valued)}
    return [e for e in curve if e.k in last or math.log2(e.k or 1) % 2 == 0]


def curve_notes(estimates: Sequence[Estimate]) -> dict[str, list[int | None]]:
    """The notes on pass@k and their budgets, for the budgets that are shown and those with neither value nor bounds."""
    shown = {e.k for e in shown_curve(estimates)}
    notes: dict[str, list[int | None]] = {}
    for e in estimates:
        if e.name == "pass@k" and e.note and (e.k in shown or e.at_least is None):
            notes.setdefault(e.note, []).append(e.k)
    return notes


def _guesses(estimates: Sequence[Estimate]) -> dict[int | None, float]:
    """By k, what the better of the two guessers would reach, where that is not negligible."""
    chances: dict[int | None, float] = {}
    for e in estimates:
        if e.name == "guess@k" and e.value is not None and e.value >= _NEGLIGIBLE:
            chances[e.k] = max(e.value, chances.get(e.k, 0.0))
    return chances


def _corrected(estimates: Sequence[Estimate]) -> dict[int | None, str]:
    """By k, pass@k corrected for guessing, in words."""
    return {
        e.k: "; corrected for it: no value" if e.value is None else f"; corrected for it {e.value:.1%}"
        for e in estimates
        if e.name == "corrected_pass@k" and (e.value is not None or e.at_least is None)
    }


def _pass_row(estimate: Estimate, guess: float | None, corrected: str) -> tuple[Cell, ...]:
    meaning = "solved by one rollout" if estimate.k == 1 else f"solved by one of {estimate.k:,}"
    lucky = "" if guess is None else f"; guessing {guess:.1%}"
    bounds = "bounds: " if estimate.value is None else ""
    return (f"pass@{estimate.k}", figure_of(estimate), f"{bounds}{meaning}{_over_errors(estimate)}{lucky}{corrected}")


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def split_budget(name: object) -> tuple[str, int | None]:
    """``pass@64`` becomes ``("pass@k", 64)``; any other name is returned unchanged, with None."""
    match = _BUDGET.fullmatch(name) if isinstance(name, str) else None
    return (f"{match[1]}@k", int(match[2])) if match else (str(name), None)


def find_estimate(card: Scorecard, name: str, k: int | None = None, group: str | None = None) -> Estimate:
    """The estimate with this name, budget (None if it has none) and group.

    Where rollouts are missing its value is None, and it has bounds. Raises NotInScorecard, with the reason, where there
    is none, or it has neither value nor bounds.
    """
    named = [estimate for estimate in card.estimates if estimate.name == name]
    of_group = [estimate for estimate in named if estimate.group == group]
    matches = [estimate for estimate in of_group if estimate.k == k or (k is None and not name.endswith("@k"))]
    if len(matches) != 1:
        raise NotInScorecard(_why_missing(card, name, k, named, of_group))
    if matches[0].value is None and matches[0].at_least is None:
        reason = card.left_out.get(name) or matches[0].note or "the scorecard does not say why"
        raise NotInScorecard(f"{_called(name, k)} has no value in this scorecard: {reason}")
    return matches[0]


def _why_missing(
    card: Scorecard, name: str, k: int | None, named: Sequence[Estimate], of_group: Sequence[Estimate]
) -> str:
    missing = f"{in_one_line(_called(name, k))!r} is not in this scorecard"
    if named and not of_group:
        groups = list(dict.fromkeys(estimate.group for estimate in named))
        keys = [f"[{name!r}]" if group is None else f"[{name!r}, {group!r}]" for group in groups[:_NAMES]]
        return f"{missing}. Its groups: {', '.join(keys)}{', ...' if len(groups) > _NAMES else ''}"
    if named:
        return f"{missing}, which has k = {', '.join(str(estimate.k) for estimate in of_group)}.{_how_to_get(card, name, k)}"
    if name in card.left_out:
        return f"{missing}: {card.left_out[name]}"
    if card.quality.get(name) is not None:
        return f"{missing} as an estimate with an interval; card.quality[{name!r}] is {card.quality[name]:.6g}"
    if find_metric(name) is not None:
        return f"{missing}: a run of this kind does not have it, or an older version scored it (`rlvr-bench score RUN`)"
    known = sorted({estimate.name for estimate in card.estimates})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f" Near names: {', '.join(near)}." if near else ""
    return f"{missing}.{guess} It has: {', '.join(known) or 'no estimates'}"


def _how_to_get(card: Scorecard, name: str, k: int | None) -> str:
    if k is None:
        return f" Name one, such as card[{name.replace('@k', '@1')!r}]"
    largest = max((problem.n for problem in card.problems), default=0)
    if name not in _OF_ANY_BUDGET:
        return " Its budgets are fixed"
    if isinstance(k, int) and 1 <= k <= largest:
        return f" rlvr_bench.score(run, ks=[{k}]), or `rlvr-bench score RUN --k {k}`, computes it"
    if isinstance(k, int) and k > largest:
        return f" The run has at most {largest} rollouts of a problem: `rlvr-bench evaluate -n {k}` draws more"
    return " A budget is a whole number of at least 1"


def _called(name: str, k: object) -> str:
    return name if k is None else name.replace("@k", f"@{k}")


def estimates_table(estimates: Sequence[Estimate]) -> pa.Table:
    """A row for each estimate: its fields, and the unit of its metric.

    Raises RunError for values Arrow cannot store.
    """
    rows = [msgspec.structs.asdict(estimate) | {"unit": _unit(estimate)} for estimate in estimates]
    return _arrow({**_types(Estimate), "unit": str}, rows)


def problems_table(kind: type[ProblemScore], problems: Sequence[ProblemScore]) -> pa.Table:
    """A row for each problem: the fields of ``kind``. A field with values by k becomes a column for each k.

    Raises RunError.
    """
    rows, wide = [], dict[str, Any]()
    for problem in problems:
        row: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(problem).items():
            row |= {f"{name}@{k}": number for k, number in value.items()} if isinstance(value, dict) else {name: value}
        rows.append(row)
        wide |= dict.fromkeys((name for name in row if "@" in name), float)
    return _arrow({**_types(kind), **dict(sorted(wide.items(), key=_by_budget))}, rows)


def _by_budget(column: tuple[str, object]) -> tuple[str, int]:
    name, _, k = column[0].partition("@")
    return name, int(k)


def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The types (str, int or float, without None) of the fields that are numbers or texts."""
    types = {}
    for field in msgspec.structs.fields(kind):
        plain = [part for part in (get_args(field.type) or (field.type,)) if part in (str, int, float)]
        if plain:
            types[field.name] = plain[0]
    return types


def _arrow(types: dict[str, Any], rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in types.items()])
    try:
        return pa.Table.from_pylist([{name: row.get(name) for name in types} for row in rows], schema=schema)
    except (pa.ArrowException, OverflowError) as error:
        raise RunError(f"the scorecard cannot be a table: {in_one_line(str(error))}") from error


def _unit(estimate: Estimate) -> str | None:
    metric = find_metric(estimate.name)
    return None if metric is None else metric.unit
