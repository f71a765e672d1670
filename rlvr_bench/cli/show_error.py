"""Prints the verifier's error on a run: its rates, pass@k with it, and what false positives alone would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard_views import shown_curve
from rlvr_bench.tables import Cell, Column, Figure, Line, Table

__all__ = ["error_blocks"]

_LISTED = 8


def error_blocks(error: MeasuredError, estimates: Sequence[Estimate]) -> Iterator[Line | Table]:
    """A line with the rates, a table by k, and lines on what the error explains. ``estimates``: those of the scorecard."""
    positives, negatives = error.false_positives[0], error.false_negatives[0]
    source = "given" if error.source == "rates" else f"{positives.n_samples:,} labels"
    yield Line(
        (f"verifier's error ({source}): false positives {_rate(positives)}, false negatives {_rate(negatives)}",)
    )
    plain = {e.k: e for e in estimates if e.name == "pass@k"}
    columns = (
        Column(""),
        Column("by its verdicts", "right", "95% interval"),
        Column("with its error", "right", "95% interval"),
        Column("false positives alone", "right"),
    )
    rows: list[tuple[Cell, ...]] = [
        (f"pass@{e.k}", _figure(plain.get(e.k)), _figure(e), f"up to {error.floor[e.k or 0]:.1%}")
        for e in shown_curve(error.pass_at_k)
    ]
    yield Table(columns, tuple(rows))
    if error.floor_k is not None:
        yield Line((f"from k = {error.floor_k:,} on, false positives alone could give half of pass@k or more",))
    if error.explained:
        names = " ".join(error.explained[:_LISTED]) + (" ..." if len(error.explained) > _LISTED else "")
        count = len(error.explained)
        text = f"{count:,} solved problem{'' if count == 1 else 's'}: no more correct rollouts than false positives explain"
        yield Line((f"{text}: {names}",))
    if error.undecided:
        yield Line((f"{sum(error.undecided.values()):,} rollouts without a verdict are wrong in the value",))
    if error.left_out:
        yield Line((f"note: pass@k with the verifier's error: {error.left_out}",))


def _rate(estimate: Estimate) -> str:
    value = f"{estimate.value or 0.0:.2%}"
    if estimate.method == "given":
        return value
    return f"{value} [{estimate.low or 0.0:.2%}, {estimate.high or 0.0:.2%}]"


def _figure(estimate: Estimate | None) -> Figure | None:
    if estimate is None or estimate.value is None:
        return None
    return Figure.of(estimate.value, estimate.low, estimate.high, percent=True)
