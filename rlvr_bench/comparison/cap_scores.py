"""The results of a run at several caps, as ``score --token-cap`` writes them to ``caps/scores.json`` in the run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlvr_bench.errors import RunError
from rlvr_bench.received import decode, read_regular
from rlvr_bench.records import Cap, Estimate
from rlvr_bench.storage import is_remote

__all__ = ["SCHEMA", "BestSplit", "CapScore", "CapScores", "cap_scores_file", "read_cap_scores"]

SCHEMA = 1


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


def cap_scores_file(run: Path) -> Path:
    """The file in a run folder."""
    return run / "caps" / "scores.json"


def read_cap_scores(run: Path) -> CapScores | None:
    """The results in a run folder; None without any. Raises RunError where the file is damaged or of another schema."""
    file = cap_scores_file(run)
    try:
        scores = decode(file.read_bytes() if is_remote(file) else read_regular(file), CapScores)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{file}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{file}: damaged ({error}). Delete it and run `rlvr-bench score --token-cap` again.") from error
    if scores.schema != SCHEMA:
        raise RunError(f"{file}: schema {scores.schema}, this version of rlvr-bench reads {SCHEMA}")
    return scores
