"""Prints the results of one run as lines and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from rlvr_bench.auditing import Audit
from rlvr_bench.cli.show_error import error_blocks
from rlvr_bench.cli.tables import show_blocks, show_table, text_table
from rlvr_bench.errors import visible
from rlvr_bench.grading import Flip
from rlvr_bench.pipeline.forecast import Forecast
from rlvr_bench.records import Cap
from rlvr_bench.scorecard import ErrorCount, Grading, Scorecard, ScoredRun
from rlvr_bench.scorecard_views import curve_notes, main_table, quality_line
from rlvr_bench.scorers.warnings import warnings_of
from rlvr_bench.tables import Format, Line, Table

__all__ = ["show_audit", "show_forecasts", "show_grading", "show_scorecard", "show_table"]


def show_scorecard(console: Console, scorecard: Scorecard, folder: Path, form: Format = "table") -> None:
    """Print a scorecard: pass@k, the boundary, entropy and branching, quality, and the files."""
    run = scorecard.run
    drawn = f": {run.n_problems_drawn} problems, {_span(run.n_min, run.n_max)} rollouts each, {_drawn_how(run)}"
    of_base = "" if run.base_model is None else f" (adapter of {run.base_model})"
    title = Line(((run.model, "bold"), of_base, " on ", (run.task, "bold"), drawn))
    blocks: list[Line | Table] = [title, main_table(scorecard)]
    for e in scorecard.extrapolated:
        limits = "" if e.low is None else f" [{e.low:.1%}, {e.high:.1%}]"
        blocks.append(Line((f"extrapolated, not measured: pass@{e.k} {e.value:.1%}{limits} ({e.method}; {e.note})",)))
    if scorecard.verifier_error is not None:
        blocks += error_blocks(scorecard.verifier_error, scorecard.estimates)
    blocks.append(Line((f"quality: {quality_line(scorecard.quality) or 'not known'}",)))
    blocks += _errors(warnings_of(run, scorecard.quality, scorecard.estimates), run.grading.errors)
    blocks += [
        Line((f"note: {', '.join(f'pass@{k}' for k in budgets)}: {note}",))
        for note, budgets in curve_notes(scorecard.estimates).items()
    ]
    blocks += [
        Line((f"never solved: {estimate.note}",))
        for estimate in scorecard.estimates
        if estimate.name == "never_solved" and estimate.value is not None
    ]
    caveats = dict.fromkeys(e.caveat for e in scorecard.estimates if e.caveat and e.value is not None)
    blocks += [Line((f"intervals: {caveat}",)) for caveat in caveats]
    held = "counts.csv" if (folder / "counts.csv").exists() else "rollouts/, verdicts/"
    blocks.append(Line((f"files: {folder}/scorecard.json, manifest.json, {held}",), is_whole=True))
    show_blocks(console, blocks, form)


def show_grading(console: Console, grading: Grading, flips: Sequence[Flip], form: Format = "table") -> None:
    """Print the counts by status, the verifier's errors, and the verdicts that changed."""
    counts = ", ".join(f"{name} {count:,}" for name, count in grading.statuses.items())
    by = f"{grading.rollouts:,} rollouts by {grading.verifier} {grading.version}"
    blocks: list[Line | Table] = [Line((f"{by}: {counts}; {grading.distinct:,} distinct answers",))]
    blocks += _errors(grading.warnings, grading.errors)
    if flips:
        rows = [[problem, str(index), before, now] for problem, index, before, now in flips[:50]]
        blocks += [Line((f"{len(flips)} verdicts changed",)), text_table(["problem", "rollout", "before", "now"], rows)]
    show_blocks(console, blocks, form)


def show_audit(console: Console, audit: Audit, form: Format = "table") -> None:
    """Print the rate of disagreement with the second comparison, and the cases that a person should check."""
    rate = "nothing could be compared" if audit.rate is None else f"disagrees on {audit.rate:.1%}"
    interval = "" if audit.low is None else f" [{audit.low:.1%}, {audit.high:.1%}]"
    text = (
        f"audit of {audit.sample:,} of {audit.pairs:,} distinct answers: a second comparison {rate}{interval} "
        f"({audit.disagree} of {audit.agree + audit.disagree}; {audit.unknown} it cannot read)"
    )
    blocks: list[Line | Table] = [Line((text,))]
    rows = [
        [item.problem_id, str(item.rollouts), item.gold[:40], item.answer[:40], item.verdict, item.second_opinion]
        for item in audit.disagreements
    ]
    if rows:
        columns = ["problem", "rollouts", "gold", "answer", "verdict", "second opinion"]
        blocks += [Line(("look at these",)), text_table(columns, rows)]
    show_blocks(console, blocks, form)


def show_forecasts(console: Console, forecasts: list[Forecast]) -> None:
    """Print the result of ``--dry-run``; tokens and disk are upper bounds."""
    for item in forecasts:
        console.print(
            f"{item.run}: {item.problems:,} problems, {item.rollouts:,} rollouts, of which {item.drawn:,} are drawn; "
            f"the rest is at most {item.tokens:,} tokens and {decimal(item.disk_bytes)} on disk",
            highlight=False,
            soft_wrap=True,
        )
    console.print("dry run: nothing loaded, nothing written")


def _errors(warnings: Sequence[str], errors: Sequence[ErrorCount]) -> Iterator[Line]:
    """A line for each warning, and a line for each error message of a verifier."""
    lines = [f"warning: {warning}" for warning in warnings]
    for error in errors:
        reason = ": ".join(filter(None, (error.kind, error.message)))
        lines.append(
            f"verifier errors: {error.verdicts:,} x {reason or 'no reason given'} (for one, on {error.problem_id})"
        )
    return (Line((visible(line)[:1000],), is_whole=True) for line in lines)


def _drawn_how(run: ScoredRun) -> str:
    if run.sampling is None:
        return f"imported from {run.imported}, sampling parameters unknown"
    drawn = f"{run.sampling.in_words()}, engine {run.engine}"
    return drawn if run.cap is None else f"{drawn}, {_cut_how(run.cap)}"


def _cut_how(cap: Cap) -> str:
    to = f"{cap.calls:,} calls" if cap.tokens is None else f"{cap.tokens:,} tokens"
    return f"cut to {to} by {cap.by} (drawn with {cap.drawn:,})"


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
