"""The results of a run at several caps, as ``score --token-cap`` writes them to ``caps/scores.json`` in the run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlvr_bench.errors import RunError
from rlvr_bench.records import Cap, Estimate
from rlvr_bench.store.paths import inside
from rlvr_bench.store.record_files import record_if_there, write_record

__all__ = ["BestSplit", "CapScore", "CapScores", "read_cap_scores", "write_cap_scores"]

SCHEMA = 1
_NAMES = ("caps", "scores.json")
_REMEDY = "Delete it and run `rlvr-bench score --token-cap` again."


class CapScore(msgspec.Struct, frozen=True, kw_only=True):
    """pass@k at one cap. ``cap`` is None for the responses as they were drawn.

    ``scorecard``: file of the whole scorecard. ``cost``: tokens used per response, or calls of the tool, mean over
    problems; None where it is not known.
    """

    cap: Cap | None
    scorecard: str
    cost: float | None
    truncation_rate: float | None
    pass_at_k: tuple[Estimate, ...]


class BestSplit(msgspec.Struct, frozen=True, kw_only=True):
    """The best way to spend ``tokens`` per problem, which buy ``uncut_k`` rollouts as they were drawn.

    ``token_cap`` and ``k``: the best cap and how many rollouts of it the tokens buy; ``naive`` is its value on the
    rollouts that chose it. ``value``: on rollouts that did not choose it, ``uncut`` as drawn on the same rollouts, and
    ``gain`` their paired difference. ``chosen``: how often half of the rollouts chooses each cap.
    """

    tokens: float
    uncut_k: int
    token_cap: int
    k: float
    naive: float
    value: Estimate
    uncut: Estimate
    gain: Estimate
    chosen: dict[int, float]


class CapScores(msgspec.Struct, frozen=True, kw_only=True):
    """A run at several caps, the smallest first and the responses as drawn last, and the best splits of tokens.

    ``unit``: of the caps. ``grading``: folder of the verdicts, ``n``: rollouts per problem: those of the run's scorecard
    unless the run has changed. ``splits`` is empty where a note says why.
    """

    schema: int
    task: str
    model: str
    unit: str
    drawn: int
    n: int
    grading: str
    caps: tuple[CapScore, ...]
    splits: tuple[BestSplit, ...] = ()
    notes: tuple[str, ...] = ()


def write_cap_scores(run: Path, scores: CapScores) -> None:
    """Store the results in the run folder. Raises StorageError."""
    write_record(inside(run, *_NAMES[:1]) / _NAMES[1], scores)


def read_cap_scores(run: Path) -> CapScores | None:
    """The results in a run folder; None without any. Raises RunError where the file is damaged or of another schema."""
    file = inside(run, *_NAMES[:1]) / _NAMES[1]
    scores = record_if_there(file, CapScores, _REMEDY)
    if scores is not None and scores.schema != SCHEMA:
        raise RunError(f"{file}: schema {scores.schema}, this version of rlvr-bench reads {SCHEMA}")
    return scores
