"""What a verifier provides: a cheap extraction for every rollout, and a decision for each distinct answer.

Extraction runs in the main process and must be linear in the text. The decision runs in a worker that can be killed; it may
hang or crash there. It is cached by (verifier, version, options, gold answer, key), so it must depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from rlvr_bench.records import Problem, Verdict

__all__ = ["Extraction", "Verifier"]


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that a policy took from a response, or None; ``candidates`` counts the answers that the response states.

    ``joined``: the answer is a list made of several boxes. ``unfinished_thought``: the response never stopped thinking.
    """

    answer: str | None
    candidates: int = 0
    joined: bool = False
    unfinished_thought: bool = False


class Verifier(Protocol):
    """``name``, ``version`` and ``options`` identify the verdicts: change the version whenever a verdict could change."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def options(self) -> Mapping[str, object]: ...

    def warm_up(self) -> None:
        """Import what ``verify`` needs; called once in the process that the workers are forked from."""
        ...

    def read_gold(self, answer: str) -> str:
        """The gold answer as ``verify`` compares it; taken from a worked solution where that is certain.

        Raises GoldError for a gold answer that no answer could equal. Its message does not name the problem.
        """
        ...

    def extract(self, response: str) -> Extraction: ...

    def key(self, answer: str) -> str:
        """A lossless normal form: answers with equal keys get equal verdicts, and each key is verified once."""
        ...

    def verify(self, answer: str, problem: Problem) -> Verdict:
        """Decide one extracted answer; called in a worker."""
        ...
