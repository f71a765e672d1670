"""A comparison as tables for a terminal."""

from __future__ import annotations

import math
from string import ascii_uppercase

from rich.console import Console
from rich.table import Table

from rlvr_bench.cli.terminal import styled
from rlvr_bench.comparison import BoundaryChange, Comparison, Difference, NullSize, PairComparison

__all__ = ["show_comparison"]

_LISTED = 8


def show_comparison(console: Console, found: Comparison, *, every_k: bool = False) -> None:
    """What ``compare`` prints: the runs by letter, then each run against the first. ``every_k``: no budget is left out."""
    letters = _letters(found)
    console.print(styled((found.task, "bold"), f": {found.n_problems:,} problems"))
    for run in found.runs:
        rollouts = f"{run.n_min:,}" if run.n_min == run.n_max else f"{run.n_min:,} to {run.n_max:,}"
        line = f"{letters[run.label]}  {run.label}  ({rollouts} rollouts each)"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for pair in found.pairs:
        console.print()
        _show_pair(console, pair, letters, every_k=every_k)
    if len(found.runs) > 2:
        console.print()
        _show_overlaps(console, found, letters)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _letters(found: Comparison) -> dict[str, str]:
    names = [run.label for run in found.runs]
    return {name: ascii_uppercase[i] if len(names) <= 26 else f"R{i + 1}" for i, name in enumerate(names)}


def _show_pair(console: Console, pair: PairComparison, letters: dict[str, str], *, every_k: bool) -> None:
    first, second = letters[pair.first], letters[pair.second]
    curve = [item for item in pair.pass_at_k if every_k or _is_shown(item, pair)]
    rows = [_row(item) for item in (*curve, *pair.policy)]
    _print_table(console, ["", first, second, f"{second} - {first}", "95% interval", "p (Holm)"], rows)
    leader = pair.crossover.leader
    ahead = f"{letters[leader]} leads at small k, " if leader is not None else ""
    console.print(f"crossover: {ahead}{pair.crossover.text}", highlight=False, markup=False)
    _show_boundary(console, pair.boundary, first, second)
    if pair.gained_bounds is not None and pair.lost_bounds is not None:
        gained, lost = (f"{least:.1f} to {most:.1f}" for least, most in (pair.gained_bounds, pair.lost_bounds))
        line = f"expected sizes over what the rollouts without a verdict could be: gained {gained}, lost {lost}"
        console.print(line, highlight=False, markup=False)


def _is_shown(item: Difference, pair: PairComparison) -> bool:
    """Powers of four and the largest k: a curve one can take in at a glance."""
    return item.k == pair.pass_at_k[-1].k or math.log2(item.k or 1) % 2 == 0


def _row(item: Difference) -> list[str]:
    if item.name == "pass@k":
        numbers = [_rate(item.first), _rate(item.second), _change(item)]
        interval = f"{100 * (item.low or 0):+.1f} to {100 * (item.high or 0):+.1f}"
        return [f"pass@{item.k}", *numbers, interval, _p(item.p_holm)]
    name = item.name.replace("@k", f"@{item.k}").replace("_", " ")
    numbers = [f"{item.first:.3f}", f"{item.second:.3f}", f"{item.value:+.3f}"]
    return [name, *numbers, f"{item.low:+.3f} to {item.high:+.3f}", _p(item.p_holm)]


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _change(item: Difference) -> str:
    """In points; with its bounds where rollouts or verdicts are missing, these alone where it has no value."""
    value = "" if item.value is None else f"{100 * item.value:+.1f} pts"
    if item.at_least is None or item.at_most is None:
        return value
    bounds = f"{100 * item.at_least:+.1f} to {100 * item.at_most:+.1f} pts"
    return f"{value} ({bounds})" if value else bounds


def _show_boundary(console: Console, found: BoundaryChange, first: str, second: str) -> None:
    both, neither = len(found.both), len(found.neither)
    console.print(f"boundary at k = {found.k:,}: {both:,} solved by both, {neither:,} by neither", highlight=False)
    rows = [
        _set_row(f"gained (only {second})", found.gained, found.gains),
        _set_row(f"lost (only {first})", found.lost, found.losses),
    ]
    _print_table(console, ["", "problems", "same policy twice", "p (Holm)", "ids"], rows)


def _set_row(name: str, ids: tuple[str, ...], size: NullSize | None) -> list[str]:
    shown = " ".join(ids[:_LISTED]) + (" ..." if len(ids) > _LISTED else "")
    if size is None:
        return [name, str(len(ids)), "not known", "", shown]
    chance = f"{size.expected:.1f} ({size.low:.0f} to {size.high:.0f})"
    return [name, str(len(ids)), chance, _p(size.p_holm), shown]


def _show_overlaps(console: Console, found: Comparison, letters: dict[str, str]) -> None:
    rows = [
        [" ".join(letters[label] for label in group.solved_by) or "none", str(len(group.ids))]
        for group in found.overlaps
    ]
    _print_table(console, [f"solved in {found.overlap_k:,} by exactly", "problems"], rows)


def _print_table(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, justify="left" if number in (0, len(columns) - 1) else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
