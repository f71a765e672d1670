"""The files of other programs. One file per program, with a row in ``FORMATS``."""

from __future__ import annotations

from rlvr_bench.importers.programs import (
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

__all__ = ["FORMATS"]

_PROGRAMS = (
    *(nemo_skills, lm_eval, lighteval, inspect_logs, evalplus, verl, verl_generation, qwen_math, nemo_gym, evalscope),
    *(verifiers_results, verifiers_v1, livecodebench, bigcode, counts),
)
FORMATS = tuple(program.FORMAT for program in _PROGRAMS)
