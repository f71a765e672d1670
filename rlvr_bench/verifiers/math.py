"""Mathematical answers: certain cheap comparisons first, math-verify for the rest (the only file that imports it)."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any, ClassVar

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.limits import breaks_limits

__all__ = ["MathVerifier"]


@functools.lru_cache(maxsize=4096)
def _parse(answer: str) -> list[Any]:
    from math_verify import parse

    parsed: list[Any] = parse("\\boxed{" + answer + "}", parsing_timeout=None, raise_on_error=True)
    return parsed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MathVerifier(PolicyVerifier):
    """math-verify with normalisation before it and guards around it."""

    name: ClassVar[str] = "math"

    def warm_up(self) -> None:
        logging.getLogger("math_verify").setLevel(logging.ERROR)
        for answer in ("\\frac{1}{2}", "(1, 2)", "x^2+1", "\\sqrt{2}"):
            _parse(answer)

    def key(self, answer: str) -> str:
        return answer.strip()

    def verify(self, answer: str, problem: Problem) -> Verdict:
        from math_verify import verify

        if self.key(answer) == self.key(problem.answer):
            return Verdict(status="correct", answer=answer)
        if breaks_limits(answer):
            return Verdict(status="error", answer=answer, kind="limit")
        right = verify(_parse(problem.answer), _parse(answer), timeout_seconds=None, raise_on_error=True)
        return Verdict(status="correct" if right else "wrong", answer=answer)
