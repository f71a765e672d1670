"""Results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from rlvr_bench.auditing import Audit
from rlvr_bench.cli.terminal import styled
from rlvr_bench.errors import visible
from rlvr_bench.metrics import METRICS, find_metric
from rlvr_bench.pipeline.forecast import Forecast
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import ErrorCount, Grading, Scorecard, ScoredRun
from rlvr_bench.scorers.guessing import NEGLIGIBLE
from rlvr_bench.scorers.warnings import warnings_of

__all__ = ["show_audit", "show_forecasts", "show_grading", "show_scorecard", "show_table"]


def show_table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A plain table; the first column is never cut."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_scorecard(console: Console, scorecard: Scorecard, folder: Path) -> None:
    """What ``evaluate`` and ``score`` print: pass@k, the boundary, how the policy spreads, quality, and the files."""
    run = scorecard.run
    console.print(
        styled(
            *(
                (run.model, "bold"),
                " on ",
                (run.task, "bold"),
                f": {run.n_problems_drawn} problems, ",
            ),
            f"{_span(run.n_min, run.n_max)} rollouts each, {_drawn_how(run)}",
        )
    )
    guesses = _guesses(scorecard.estimates)
    rows = [_pass_row(e, guesses.get(e.k)) for e in _shown_curve(scorecard.estimates)]
    rows += [row for name in _SINGLE if (row := _named_row(scorecard, name)) is not None]
    show_table(console, "", ["", "value", "95% interval", ""], rows)
    console.print(f"quality: {_quality(scorecard.quality) or 'not known'}", highlight=False)
    _show_errors(console, warnings_of(run, scorecard.quality), run.grading.errors)
    for note, budgets in _curve_notes(scorecard.estimates).items():
        console.print(f"note: {', '.join(f'pass@{k}' for k in budgets)}: {note}", highlight=False)
    held = "counts.csv" if (folder / "counts.csv").exists() else "rollouts/, verdicts/"
    console.print(f"files: {folder}/scorecard.json, manifest.json, {held}", highlight=False, soft_wrap=True)


def show_grading(console: Console, grading: Grading, flips: list[Any]) -> None:
    """Statuses, what it took, what the verifier said where it failed, and the verdicts that changed."""
    counts = ", ".join(f"{name} {count:,}" for name, count in grading.statuses.items())
    console.print(
        f"{grading.rollouts:,} rollouts by {grading.verifier} {grading.version}: {counts}; "
        f"{grading.distinct:,} distinct answers",
        highlight=False,
    )
    _show_errors(console, grading.warnings, grading.errors)
    if flips:
        rows = [[problem, str(index), before, now] for problem, index, before, now in flips[:50]]
        show_table(console, f"{len(flips)} verdicts changed", ["problem", "rollout", "before", "now"], rows)


def show_audit(console: Console, audit: Audit) -> None:
    """The rate of disagreement with the second comparison, and each case for a person to look at."""
    rate = "nothing could be compared" if audit.rate is None else f"disagrees on {audit.rate:.1%}"
    interval = "" if audit.low is None else f" [{audit.low:.1%}, {audit.high:.1%}]"
    console.print(
        f"audit of {audit.sample:,} of {audit.pairs:,} distinct answers: a second comparison {rate}{interval} "
        f"({audit.disagree} of {audit.agree + audit.disagree}; {audit.unknown} it cannot read)",
        highlight=False,
    )
    rows = [
        [item.problem_id, str(item.rollouts), item.gold[:40], item.answer[:40], item.verdict, item.second_opinion]
        for item in audit.disagreements
    ]
    if rows:
        columns = ["problem", "rollouts", "gold", "answer", "verdict", "second opinion"]
        show_table(console, "look at these", columns, rows)


def show_forecasts(console: Console, forecasts: list[Forecast]) -> None:
    """What ``--dry-run`` prints; tokens and disk are upper bounds."""
    for item in forecasts:
        console.print(
            f"{item.run}: {item.problems:,} problems, {item.rollouts:,} rollouts, of which {item.drawn:,} are drawn; "
            f"the rest is at most {item.tokens:,} tokens and {decimal(item.disk_bytes)} on disk",
            highlight=False,
            soft_wrap=True,
        )
    console.print("dry run: nothing loaded, nothing written")


def _show_errors(console: Console, warnings: Sequence[str], errors: Sequence[ErrorCount]) -> None:
    """A line for each warning, and one for each thing that a verifier said when it failed."""
    lines = [f"warning: {warning}" for warning in warnings]
    for error in errors:
        said = ": ".join(filter(None, (error.kind, error.message)))
        lines.append(
            f"verifier errors: {error.verdicts:,} x {said or 'no reason given'} (for one, on {error.problem_id})"
        )
    for line in lines:
        console.print(visible(line)[:1000], highlight=False, markup=False, soft_wrap=True)


def _drawn_how(run: ScoredRun) -> str:
    if run.sampling is None:
        return f"imported from {run.imported}, sampling parameters unknown"
    return f"T={run.sampling.temperature:g} top-p={run.sampling.top_p:g}, engine {run.engine}"


_SINGLE = {metric.name: metric for metric in METRICS if metric.summary}


def _shown_curve(estimates: list[Estimate]) -> list[Estimate]:
    """Powers of four, the largest k, and the largest with a value: a curve at a glance; the scorecard has every power of 2."""
    known = [e for e in estimates if e.name == "pass@k" and e.k is not None]
    curve = [e for e in known if e.value is not None or e.at_least is not None]
    last = {max((e.k or 0 for e in found), default=0) for found in (curve, [e for e in curve if e.value is not None])}
    return [e for e in curve if e.k in last or math.log2(e.k or 1) % 2 == 0]


def _curve_notes(estimates: list[Estimate]) -> dict[str, list[int | None]]:
    """Each note on pass@k with the budgets it is on, of those that are shown and those that have no number at all."""
    shown = {e.k for e in _shown_curve(estimates)}
    found: dict[str, list[int | None]] = {}
    for e in estimates:
        if e.name == "pass@k" and e.note and (e.k in shown or e.at_least is None):
            found.setdefault(e.note, []).append(e.k)
    return found


def _guesses(estimates: list[Estimate]) -> dict[int | None, float]:
    """What the better of the two guessers would reach at each k, where that is worth a word."""
    found: dict[int | None, float] = {}
    for e in estimates:
        if e.name == "guess@k" and e.value is not None and e.value >= NEGLIGIBLE:
            found[e.k] = max(e.value, found.get(e.k, 0.0))
    return found


def _pass_row(estimate: Estimate, guess: float | None) -> list[str]:
    meaning = "solved by one rollout" if estimate.k == 1 else f"solved by one of {estimate.k:,}"
    lucky = "" if guess is None else f"; guessing {guess:.1%}"
    interval = "" if estimate.low is None else f"{estimate.low:.1%} to {estimate.high:.1%}"
    bounds = "" if estimate.at_least is None else f"{estimate.at_least:.1%} to {estimate.at_most:.1%}"
    if estimate.value is None:
        return [f"pass@{estimate.k}", bounds, interval, f"bounds: {meaning}{lucky}"]
    errors = f"; errors leave {bounds}" if bounds else ""
    return [f"pass@{estimate.k}", f"{estimate.value:.1%}", interval, meaning + errors + lucky]


def _named_row(scorecard: Scorecard, name: str) -> list[str] | None:
    for estimate in scorecard.estimates:
        if estimate.name != name or estimate.group is not None:
            continue
        if _SINGLE[name].unit == "problems":
            return _count_row(estimate, _SINGLE[name].summary)
        if estimate.value is not None:
            interval = "" if estimate.low is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
            return [name.replace("_", " "), f"{estimate.value:.3f}", interval, _SINGLE[name].summary]
    return None


def _count_row(estimate: Estimate, meaning: str) -> list[str]:
    """A number of problems; expected ones have decimals, and where rollouts or verdicts are missing it has bounds."""
    interval = "" if estimate.low is None else f"{estimate.low:.0f} to {estimate.high:.0f}"
    bounds = "" if estimate.at_least is None else f"{_few(estimate.at_least)} to {_few(estimate.at_most)}"
    if estimate.value is not None and bounds:
        meaning = f"{meaning}; errors leave {bounds}"
    value = bounds if estimate.value is None else _few(estimate.value)
    return [f"{estimate.name} in {estimate.k}", f"{value} of {estimate.n_problems}", interval, meaning]


def _few(value: float | None) -> str:
    """At most two decimals, none where the number is whole."""
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def _quality(rates: dict[str, float | None]) -> str:
    """Rates as percent, lengths as tokens."""
    parts = []
    for name, value in rates.items():
        if value is not None:
            row = find_metric(name)
            shown = f"{value:.1%}" if row is None or row.is_fraction else f"{value:.1f}"
            parts.append(f"{name.removesuffix('_rate').replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
