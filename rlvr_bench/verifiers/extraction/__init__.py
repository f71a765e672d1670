"""Extraction: the part of a response that is its answer, by one explicit policy per task."""

from __future__ import annotations

from rlvr_bench.verifiers.extraction.boxes import last_boxed
from rlvr_bench.verifiers.extraction.policies import POLICIES, open_policy
from rlvr_bench.verifiers.extraction.thoughts import THOUGHTS, after_thought, ends_in_thought, thought_of

__all__ = ["POLICIES", "THOUGHTS", "after_thought", "ends_in_thought", "last_boxed", "open_policy", "thought_of"]
