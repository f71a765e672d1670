"""Readers of other programs' rollouts and counts, which become runs in our format. One file per program."""

from __future__ import annotations

from rlvr_bench.importers import (
    bigcode,
    counts,
    evalplus,
    evalscope,
    inspect_logs,
    lighteval,
    livecodebench,
    lm_eval,
    nemo_gym,
    nemo_skills,
    qwen_math,
    verifiers_results,
    verifiers_v1,
    verl,
    verl_generation,
)
from rlvr_bench.importers.entries import Count, Format, ImportedEntry, Origin, Response

__all__ = ["FORMATS", "Count", "Format", "ImportedEntry", "Origin", "Response"]

_IMPORTERS = (
    *(nemo_skills, lm_eval, lighteval, inspect_logs, evalplus, verl, verl_generation, qwen_math, nemo_gym, evalscope),
    *(verifiers_results, verifiers_v1, livecodebench, bigcode, counts),
)
FORMATS = tuple(importer.FORMAT for importer in _IMPORTERS)
