"""Compares what another program reports of an evaluation with the unbiased values of the same rollouts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rlvr_bench.importers.printed import Printed
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.stats import mean_pass_at_k

__all__ = ["printed_notes"]

_MOST = 6  # numbers of one kind that are listed


def printed_notes(numbers: Sequence[Printed], card: Scorecard) -> Iterator[str]:
    """For each file of the program: which of its numbers are the unbiased values, and which are not, and why."""
    for where in dict.fromkeys(number.where for number in numbers):
        here = [(number, _ours(number, card)) for number in numbers if number.where == where]
        same = [number for number, value in here if _is_same(number, value) and not number.caveat]
        if same:
            listed = ", ".join(f"{number.name} {number.value:.2%}" for number in same[:_MOST])
            more = f" and {len(same) - _MOST} more" if len(same) > _MOST else ""
            yield f"{where}: {listed}{more}: {'the unbiased value' if len(same) == 1 else 'unbiased values'}, as here"
        others = [(number, value) for number, value in here if not math.isnan(value) and number not in same]
        yield from (_difference(number, value) for number, value in others[:_MOST])


def _ours(number: Printed, card: Scorecard) -> float:
    """Our value of the same quantity; NaN where there is none."""
    if number.kind == "maj@k":
        values = [known.value for known in card.estimates if known.name == "maj@k" and known.k == number.k]
        return math.nan if not values or values[0] is None else values[0]
    n, c = (np.array([getattr(problem, name) for problem in card.problems], dtype=np.int64) for name in ("n", "c"))
    if not len(n) or n.min() < number.k:
        return math.nan
    return float(mean_pass_at_k(c, n, [number.k])[0])


def _is_same(number: Printed, ours: float) -> bool:
    return abs(number.value - ours) <= number.half + 1e-9


def _difference(number: Printed, ours: float) -> str:
    name = number.kind.replace("k", str(number.k))
    reason = number.caveat or "not the unbiased value" + (f" ({number.doubt})" if number.doubt else "")
    return f"{number.where}: {number.name} {number.value:.2%}, the unbiased {name} is {ours:.2%}: {reason}"
