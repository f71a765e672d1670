"""Warnings about facts of a run that change the meaning of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import ScoredRun
from rlvr_bench.scorers.copies import NAME as COPIED_RATE
from rlvr_bench.scorers.guessing import MEANINGLESS
from rlvr_bench.store.verdicts import MOST_ERRORS

__all__ = ["MOST_TRUNCATED", "warnings_of"]

MOST_TRUNCATED = 0.05  # share of responses truncated at max_tokens; more than this lowers pass@k
MOST_DOUBTFUL = 0.01  # share of the cut responses from which a doubt about their tokens is a warning


def warnings_of(run: ScoredRun, quality: Mapping[str, float | None], estimates: Sequence[Estimate] = ()) -> list[str]:
    """The warnings, one line each, from ``run``, ``quality`` and ``estimates`` of a scorecard of any version."""
    warnings = [text for session in run.sessions for text in session.warnings]
    truncated, errors = quality.get("truncation_rate"), quality.get("error_rate")
    if truncated is not None and truncated > MOST_TRUNCATED and run.cap is None:  # a cap cuts on purpose
        where = "" if run.sampling is None else f" at max_tokens ({run.sampling.max_tokens:,})"
        warnings.append(f"{truncated:.1%} of the responses were cut{where}: pass@k would be higher with more tokens")
    warnings += run.grading.warnings
    if errors is not None and errors >= MOST_ERRORS and not run.grading.warnings:
        warnings.append(f"{errors:.1%} of the rollouts have no verdict (verifier errors): they count as not correct")
    warnings += [
        text for text in (_restopped(run), _chosen(run), _copied(estimates), _doubtful(run), _lucky(estimates)) if text
    ]
    return list(dict.fromkeys(warnings))


def _restopped(run: ScoredRun) -> str:
    restopped = run.restopped
    if restopped is None or not restopped.longer + restopped.sooner:
        return ""
    where = f" ({restopped.stopped_on})" if restopped.stopped_on else ""
    moved = (
        f"the stopping rule looked at other verdicts{where} than those in force, by which it would have stopped "
        f"{restopped.sooner:,} problems sooner and drawn on at {restopped.longer:,}"
    )
    if restopped.used == "first rollouts":
        return f"{moved}: only the {run.n_min} rollouts that it always draws of each problem are used"
    if restopped.used == "up to the stop":
        return f"{moved}: each problem is cut at the rule's stop"
    return f"{moved}: pass@k is corrected for this, and has bounds where a problem stopped too soon for a value"


def _chosen(run: ScoredRun) -> str:
    if run.n_chosen is None:
        return ""
    return (
        f"the problems have {run.n_min:,} to {run.n_max:,} rollouts, more where fewer were right (p = {run.n_chosen:.1g}): "
        "a stopping rule seems to be at work. Plain estimates would be too high; only bounds that hold under any rule are given"
    )


def _doubtful(run: ScoredRun) -> str:
    cap = run.cap
    if cap is None or cap.doubtful < MOST_DOUBTFUL * cap.cut or not cap.doubtful:
        return ""
    return (
        f"{cap.doubtful:,} of {cap.cut:,} cut responses may be other tokens than were drawn: their text has another number of "
        "tokens. Token ids cut exactly (--token-stats full)"
    )


def _lucky(estimates: Sequence[Estimate]) -> str:
    reached = [
        item
        for item in estimates
        if item.name == "guess@k" and item.group == "uniform" and item.value is not None and item.value >= MEANINGLESS
    ]
    if not reached:
        return ""
    first = min(reached, key=lambda item: item.k or 0)
    return f"guessing alone reaches {first.value:.1%} at k = {first.k}: pass@k at this k and above says nothing about the model"


def _copied(estimates: Sequence[Estimate]) -> str:
    rate = next((item for item in estimates if item.name == COPIED_RATE), None)
    if rate is None or rate.value is None or not rate.low:
        return ""
    return (
        f"the rollouts are not independent draws: {rate.value:.1%} are copies of others ({rate.note}). Seeds may repeat, or "
        "a server may answer from a cache: intervals are too narrow and pass@k at large k is too low"
    )
