"""Warnings about a run: everything that changes the meaning of its numbers."""

from __future__ import annotations

from collections.abc import Mapping

from rlvr_bench.scorecard import ScoredRun
from rlvr_bench.store.verdicts import MOST_ERRORS

__all__ = ["MOST_TRUNCATED", "warnings_of"]

MOST_TRUNCATED = 0.05  # share of responses cut at max_tokens, above which the limit lowers pass@k


def warnings_of(run: ScoredRun, quality: Mapping[str, float | None]) -> list[str]:
    """The warnings, one line each, from ``run`` and ``quality`` of a scorecard of any version."""
    warnings = [text for session in run.sessions for text in session.warnings]
    truncated, errors = quality.get("truncation_rate"), quality.get("error_rate")
    if truncated is not None and truncated > MOST_TRUNCATED:
        where = "" if run.sampling is None else f" at max_tokens ({run.sampling.max_tokens:,})"
        warnings.append(f"{truncated:.1%} of the responses were cut{where}: pass@k would be higher with more tokens")
    warnings += run.grading.warnings
    if errors is not None and errors >= MOST_ERRORS and not run.grading.warnings:
        warnings.append(f"{errors:.1%} of the rollouts have no verdict (verifier errors): they count as not correct")
    return list(dict.fromkeys(warnings))
