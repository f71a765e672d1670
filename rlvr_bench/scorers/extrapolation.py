"""pass@k beyond the rollouts drawn: a separate section of a scorecard, never a row of the curve."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard

__all__ = ["extrapolated"]

OPTION = "--extrapolate"
CAVEAT = (
    "an interval by fitted curves holds as often as its level only where solve rates follow them (docs/statistics.md)"
)


def extrapolated(card: Scorecard, k: int) -> Estimate:
    """``extrapolated_pass@k`` from a fitted curve (``stats.pass_beyond``); the note gives n and the never solved share.

    Rollouts without a verdict count as wrong in the value; the interval includes the case that all are correct. Raises
    BadArgument, which names ``--extrapolate``, where the run stopped early, has unequal n, or where its counts do not
    support an extrapolation.
    """
    drawn = [problem for problem in card.problems if problem.n]
    n, c = (np.array([getattr(problem, name) for problem in drawn], dtype=np.int64) for name in "nc")
    if card.run.stopping is not None:
        raise BadArgument(
            OPTION, k, "needs a run with a fixed number of rollouts; this one stopped early on solved problems"
        )
    if not n.size or n.min() != n.max():
        raise BadArgument(
            OPTION, k, "needs equally many rollouts of every problem: run the same evaluate again to finish"
        )
    in_error = np.array([problem.error or 0 for problem in drawn], dtype=np.int64)
    as_wrong = _beyond(c, int(n[0]), k)
    if not in_error.any():
        return as_wrong
    as_correct = _beyond(c + in_error, int(n[0]), k)
    return msgspec.structs.replace(
        as_wrong,
        low=min(as_wrong.low or 0.0, as_correct.low or 0.0),
        high=max(as_wrong.high or 0.0, as_correct.high or 0.0),
        note=f"{as_wrong.note}; {int(in_error.sum()):,} rollouts without a verdict may be wrong or correct",
    )


def _beyond(c: npt.NDArray[np.int64], n: int, k: int) -> Estimate:
    try:
        interval = stats.pass_beyond(c, n, k, rng=stats.fresh_rng())
    except BadArgument as error:
        raise BadArgument(OPTION, k, error.allowed) from None
    most = float(stats.never_solved(c, n).high[0])
    return Estimate(
        name="extrapolated_pass@k",
        k=k,
        value=float(interval.value[0]),
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        level=interval.level,
        method=interval.method,
        n_problems=c.size,
        n_samples=n,
        note=f"nothing was drawn beyond n = {n:,}; up to {most:.0%} of the problems may never be solved",
        caveat=CAVEAT,
    )
