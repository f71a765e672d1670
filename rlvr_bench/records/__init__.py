"""Frozen records that the stages pass on. Each stage reads the record of the stage before it and writes another.

A prompt carries no answer; a verifier sees neither model nor k; a scorer sees arrays, never text.
"""

from __future__ import annotations

from rlvr_bench.records.problems import Problem, Prompt
from rlvr_bench.records.results import ERROR_KINDS, STATUSES, Estimate, Outcomes, ProfileSums, Status, Verdict
from rlvr_bench.records.rollouts import (
    LARGEST_INDEX,
    CacheUse,
    Draw,
    DrawRequest,
    EngineInfo,
    Rollout,
    SavedRollout,
    SavedTurns,
    TokenArrays,
)
from rlvr_bench.records.sampling import NEUTRAL, Cap, CutBy, Restopped, SamplingParameters, StoppingRule, Tools

__all__ = [
    "ERROR_KINDS",
    "LARGEST_INDEX",
    "NEUTRAL",
    "STATUSES",
    "CacheUse",
    "Cap",
    "CutBy",
    "Draw",
    "DrawRequest",
    "EngineInfo",
    "Estimate",
    "Outcomes",
    "Problem",
    "ProfileSums",
    "Prompt",
    "Restopped",
    "Rollout",
    "SamplingParameters",
    "SavedRollout",
    "SavedTurns",
    "Status",
    "StoppingRule",
    "TokenArrays",
    "Tools",
    "Verdict",
]
