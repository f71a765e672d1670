"""Prints a run at several caps: pass@k at each, and the best ways to spend a number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rlvr_bench.comparison.cap_scores import BestSplit, CapScore, CapScores
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard_views import figure_of
from rlvr_bench.tables import Cell, Column, Figure, Line, Table

if TYPE_CHECKING:
    from rlvr_bench.pipeline.several import Done

__all__ = ["blocks_of_caps", "blocks_of_runs", "splits_table"]

_MOST_BUDGETS = 4


def blocks_of_runs(done: Sequence[Done[CapScores]]) -> list[Line | Table]:
    """The blocks of each run that has a result."""
    return [block for item in done if item.result is not None for block in blocks_of_caps(item.result, item.run)]


def blocks_of_caps(scores: CapScores, run: Path) -> list[Line | Table]:
    """The blocks of one run: a row for each cap, the best splits, and notes."""
    return list(_blocks(scores, run))


def _blocks(scores: CapScores, run: Path) -> Iterator[Line | Table]:
    title = f" on {scores.task}: responses drawn with {scores.drawn:,} {scores.unit}, cut afterwards"
    yield Line(((scores.model, "bold"), title))
    ks = _budgets(scores.caps[-1].pass_at_k)
    columns = [Column("cap", "right"), Column("cut", "right"), Column(f"{scores.unit} used", "right")]
    columns += [Column(f"pass@{k}", "right") for k in ks]
    yield Table(tuple(columns), tuple(_row(score, ks) for score in scores.caps))
    yield from (Line((line,)) for line in _how_cut(scores))
    if scores.splits:
        yield Line(("",))
        yield splits_table(scores.splits)
        yield Line(("best cap and value: on rollouts that did not choose it; gain: over uncut responses, paired",))
    yield from (Line((f"note: {note}",)) for note in scores.notes)
    yield Line((f"scorecards: {run}/caps/{scores.unit}-*/scorecard.json",), is_whole=True)


def _budgets(estimates: Sequence[Estimate]) -> list[int]:
    """At most four of the budgets, the smallest and the largest among them."""
    ks = sorted(estimate.k for estimate in estimates if estimate.k is not None)
    last = len(ks) - 1
    chosen = {ks[round(i * last / (_MOST_BUDGETS - 1))] for i in range(_MOST_BUDGETS)} if ks else set[int]()
    return sorted(chosen)


def _row(score: CapScore, ks: Sequence[int]) -> tuple[Cell, ...]:
    cap = score.cap
    by_k = {estimate.k: estimate for estimate in score.pass_at_k}
    figures = [figure_of(by_k[k]) if k in by_k else None for k in ks]
    name = "uncut" if cap is None else f"{cap.calls if cap.tokens is None else cap.tokens:,}"
    return (name, "" if cap is None else f"{cap.cut:,}", "" if score.cost is None else f"{score.cost:,.1f}", *figures)


def _how_cut(scores: CapScores) -> Iterator[str]:
    ways = [score.cap.by for score in scores.caps if score.cap is not None and score.cap.cut]
    if ways:
        yield f"cut by {', '.join(dict.fromkeys(ways))}"
    for score in scores.caps:
        if score.cap is not None and score.cap.doubtful:
            yield (
                f"cap {score.cap.tokens:,}: {score.cap.doubtful:,} of {score.cap.cut:,} cut responses may be other tokens than "
                "were drawn (their text has another number of tokens)"
            )


def splits_table(splits: Sequence[BestSplit]) -> Table:
    """The best splits, a row for each number of tokens."""
    columns = (
        Column("tokens per problem", "right"),
        Column("uncut", "right"),
        Column("best cap", "right"),
        Column("k", "right"),
        Column("solved", "right", "95% interval"),
        Column("gain", "right", "95% interval"),
        Column("chosen", "right"),
    )
    return Table(columns, tuple(_split_row(split) for split in splits))


def _split_row(split: BestSplit) -> tuple[Cell, ...]:
    return (
        f"{split.tokens:,.0f}",
        f"k = {split.uncut_k:,}",
        f"{split.token_cap:,}",
        f"{split.k:,.1f}",
        _figure(split.value),
        _figure(split.gain, is_change=True),
        f"{split.chosen.get(split.token_cap, 0.0):.0%}",
    )


def _figure(estimate: Estimate, *, is_change: bool = False) -> Figure | None:
    if estimate.value is None:
        return None
    figure = Figure.of(estimate.value, estimate.low, estimate.high, percent=True)
    return msgspec.structs.replace(figure, unit="pts", has_sign=True) if is_change else figure
