"""Double countdown as a verifier: steps of arithmetic over given numbers that must reach two targets."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from rlvr_bench.countdown import check
from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier

__all__ = ["CountdownVerifier"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountdownVerifier(PolicyVerifier):
    """Checks a whole response with `rlvr_bench.countdown`; a wrong one carries the reason as its kind.

    Needs ``numbers`` and ``targets`` (lists of integers) in a problem's data; raises VerifierError without them.
    """

    name: ClassVar[str] = "countdown"
    policy: str = "whole"

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: the numbers and targets decide, not the answer."""
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        missing = [name for name in ("numbers", "targets") if name not in problem.data]
        if missing:
            raise VerifierError(f"problem {problem.id!r} has no {' and no '.join(missing)} in its data")
        reason = check(problem.data["numbers"], problem.data["targets"], answer)
        right = reason == "ok"
        return Verdict(status="correct" if right else "wrong", answer=answer, kind=None if right else reason)
