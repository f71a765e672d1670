"""Prints a comparison as lines and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from string import ascii_uppercase

import msgspec
from rich.console import Console

from rlvr_bench.cli.show_caps import splits_table
from rlvr_bench.cli.tables import p_text, show_blocks
from rlvr_bench.comparison import (
    BoundaryChange,
    ChangedProblems,
    Comparison,
    Difference,
    EqualTokens,
    ErrorComparison,
    NullSize,
    PairComparison,
    ProblemChange,
)
from rlvr_bench.metrics import find_metric
from rlvr_bench.tables import Cell, Column, Figure, Format, Line, Table, best_marked

__all__ = ["show_comparison"]

_LISTED = 8


def show_comparison(console: Console, comparison: Comparison, *, every_k: bool = False, form: Format = "table") -> None:
    """Print the result of ``compare``: the runs with their letters, then each run against the first.

    ``every_k``: print all budgets. Columns have letters only in the ``table`` format; other formats use the runs'
    names.
    """
    show_blocks(console, list(_blocks(comparison, every_k=every_k, named=form != "table")), form)


def _blocks(comparison: Comparison, *, every_k: bool, named: bool) -> Iterator[Line | Table]:
    letters = {run.label: run.label for run in comparison.runs} if named else _letters(comparison)
    yield Line(((comparison.task, "bold"), f": {comparison.n_problems:,} problems"))
    for run in comparison.runs:
        rollouts = f"{run.n_min:,}" if run.n_min == run.n_max else f"{run.n_min:,} to {run.n_max:,}"
        called = run.label if named else f"{letters[run.label]}  {run.label}"
        yield Line((f"{called}  ({rollouts} rollouts each)",), is_whole=True)
    for pair in comparison.pairs:
        yield Line(("",))
        yield from _pair(pair, letters, every_k=every_k)
    if len(comparison.runs) > 2:
        yield Line(("",))
        yield _overlaps(comparison, letters)
    if comparison.looks == "any":
        yield Line(("intervals and p-values hold over any number of looks while rollouts are added",))
    for note in comparison.notes:
        yield Line((f"note: {note}",))


def _letters(comparison: Comparison) -> dict[str, str]:
    names = [run.label for run in comparison.runs]
    return {name: ascii_uppercase[i] if len(names) <= 26 else f"R{i + 1}" for i, name in enumerate(names)}


def _pair(pair: PairComparison, letters: dict[str, str], *, every_k: bool) -> Iterator[Line | Table]:
    first, second = letters[pair.first], letters[pair.second]
    curve = [item for item in pair.pass_at_k if every_k or _is_shown(item, pair)]
    change = Column(f"{second} - {first}", "right", "95% interval")
    columns = (Column(""), Column(first, "right"), Column(second, "right"), change, Column("p (Holm)", "right"))
    yield Table(columns, tuple(_row(item) for item in (*curve, *pair.policy)))
    leader = pair.crossover.leader
    ahead = f"{letters[leader]} leads at small k, " if leader is not None else ""
    yield Line((f"crossover: {ahead}{pair.crossover.text}",))
    if pair.equal_tokens is not None:
        yield from _equal_tokens(pair.equal_tokens, letters, first, second)
    yield from _boundary(pair.boundary, first, second)
    if pair.gained_bounds is not None and pair.lost_bounds is not None:
        gained, lost = (f"{least:.1f} to {most:.1f}" for least, most in (pair.gained_bounds, pair.lost_bounds))
        yield Line((f"expected sizes over what the rollouts without a verdict could be: gained {gained}, lost {lost}",))
    if pair.verifier_error is not None:
        yield from _with_error(pair.verifier_error, first, second)
    if pair.problems is not None:
        yield from _problems(pair.problems, first, second)


def _equal_tokens(equal: EqualTokens, letters: dict[str, str], first: str, second: str) -> Iterator[Line | Table]:
    """pass@k at equal numbers of tokens, the crossover, and the best splits that are stored."""
    yield Line(
        (f"at equal tokens: {first} uses {equal.first_tokens:,.1f} per response, {second} {equal.second_tokens:,.1f}",)
    )
    change = Column(f"{second} - {first}", "right", "95% interval")
    columns = (
        Column("tokens per problem"),
        Column(first, "right"),
        Column(second, "right"),
        change,
        Column("p (Holm)", "right"),
    )
    rows = tuple(
        (
            f"{item.k:,}",
            *best_marked([Figure.of(side or 0.0, percent=True) for side in (item.first, item.second)], "more"),
            _change(item, percent=True),
            p_text(item.p_holm),
        )
        for item in equal.differences
    )
    yield Table(columns, rows)
    leader = equal.crossover.leader
    ahead = f"{letters[leader]} leads at few tokens, " if leader is not None else ""
    yield Line((f"crossover: {ahead}{equal.crossover.text}",))
    for label, splits in equal.splits.items():
        yield Line((f"best splits of tokens between the length of a response and k, {letters[label]}",))
        yield splits_table(splits)


def _with_error(compared: ErrorComparison, first: str, second: str) -> Iterator[Line | Table]:
    differences = [Figure.of(item.value, item.low, item.high, percent=True) for item in compared.pass_at_k]
    rows = tuple(
        (f"pass@{item.k}", msgspec.structs.replace(figure, unit="pts", has_sign=True))
        for item, figure in zip(compared.pass_at_k, differences, strict=True)
    )
    yield Line(("with the verifier's error",))
    yield Table((Column(""), Column(f"{second} - {first}", "right", "95% interval")), rows)
    yield Line((f"crossover: {compared.crossover.text}",))
    gained, lost = (f"{item.value:.1f} [{item.low:.1f}, {item.high:.1f}]" for item in (compared.gained, compared.lost))
    yield Line((f"boundary at k = {compared.k:,}: gained {gained}, lost {lost} expected problems",))
    for word, ids in (("gained", compared.explained_gained), ("lost", compared.explained_lost)):
        if ids:
            shown = " ".join(ids[:_LISTED]) + (" ..." if len(ids) > _LISTED else "")
            yield Line((f"not called {word}, as false positives explain the correct rollouts: {shown}",))


def _is_shown(item: Difference, pair: PairComparison) -> bool:
    """Whether k is a power of four or the largest: few enough budgets to read quickly."""
    return item.k == pair.pass_at_k[-1].k or math.log2(item.k or 1) % 2 == 0


def _row(item: Difference) -> tuple[Cell, ...]:
    metric = find_metric(item.name)
    percent = metric is not None and metric.is_fraction
    sides: list[Cell] = [
        None if side is None else Figure.of(side, percent=percent) for side in (item.first, item.second)
    ]
    change = _change(item, percent=percent)
    name = item.name.replace("@k", f"@{item.k}")
    label = name if item.name == "pass@k" else name.replace("_", " ")
    return (label, *best_marked(sides, "neither" if metric is None else metric.better), change, p_text(item.p_holm))


def _change(item: Difference, *, percent: bool) -> Figure | None:
    """The difference, with its bounds where rollouts or verdicts are missing; only the bounds where it has no value."""
    value = item.at_least if item.value is None else item.value
    if value is None:
        return None
    figure = Figure.of(value, item.low, item.high, percent=percent)
    figure = msgspec.structs.replace(figure, unit="pts" if percent else "", has_sign=True)
    if item.value is None:
        return msgspec.structs.replace(figure, most=item.at_most)
    if item.at_least is None or item.at_most is None:
        return figure
    bounds = msgspec.structs.replace(figure, value=item.at_least, most=item.at_most)
    return msgspec.structs.replace(figure, tail=f"({bounds.alone})")


def _boundary(change: BoundaryChange, first: str, second: str) -> Iterator[Line | Table]:
    both, neither = _size(change.n_both), _size(change.n_neither)
    line = f"boundary at k = {change.k:,}: expected problems, {both} solved by both, {neither} by neither"
    yield Line((line,))
    columns = (
        Column(""),
        Column("problems", "right"),
        Column("same policy twice", "right"),
        Column("p (Holm)", "right"),
        Column("most likely these"),
    )
    rows = (
        _set_row(f"gained (only {second})", change.n_gained, change.gained, change.gains),
        _set_row(f"lost (only {first})", change.n_lost, change.lost, change.losses),
    )
    yield Table(columns, rows)


def _set_row(name: str, expected: float, ids: tuple[str, ...], size: NullSize | None) -> tuple[Cell, ...]:
    shown = " ".join(ids[:_LISTED]) + (" ..." if len(ids) > _LISTED else "")
    if size is None:
        return (name, _size(expected), "not known", "", shown)
    chance = f"{_size(size.expected)} ({_size(size.low)} to {_size(size.high)})"
    return (name, _size(expected), chance, p_text(size.p_holm), shown)


def _size(value: float) -> str:
    """An expected number of problems, as text."""
    return f"{value:,.1f}"


def _problems(changed: ChangedProblems, first: str, second: str) -> Iterator[Line]:
    number = len(changed.gained) + len(changed.lost)
    line = f"single problems: {number:,} of {changed.tested:,} that could show it have another solve rate"
    yield Line((f"{line} (false discovery rate {changed.rate:.0%})" if number else line,))
    for name, changes in ((f"more often solved by {second}", changed.gained), (f"by {first}", changed.lost)):
        if changes:
            yield Line((f"  {name}: {_listed(changes)}",))


def _listed(changes: tuple[ProblemChange, ...]) -> str:
    shown = [f"{change.id} {change.first:.0%} -> {change.second:.0%}" for change in changes[:_LISTED]]
    return ", ".join(shown) + (f", ... ({len(changes):,} in all)" if len(changes) > _LISTED else "")


def _overlaps(comparison: Comparison, letters: dict[str, str]) -> Table:
    rows = [
        (" ".join(letters[label] for label in group.solved_by) or "none", _size(group.size))
        for group in comparison.overlaps
    ]
    return Table((Column(f"solved in {comparison.overlap_k:,} by exactly"), Column("expected problems")), tuple(rows))
