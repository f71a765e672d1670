"""reasoning-gym's data sets by name: their scores, turned into right or wrong by a threshold.

The scorers are another project's code and read a model's text with Python's ``eval`` and the like. So they run in a sandbox,
and without ``eval`` (`scoring`, `safe_eval`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import signal
from collections.abc import Mapping
from typing import ClassVar

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.scoring import Scored, open_scorers

__all__ = ["ReasoningGymVerifier"]

_CPU_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningGymVerifier(PolicyVerifier):
    """Right if reasoning-gym's score reaches ``threshold`` (scores are in [0, 1]; wrong but well-formed answers get some).

    ``dataset`` names the data set; where it is empty, the problem's ``metadata["source_dataset"]`` does. A problem's data
    holds the entry's ``metadata``. A wrong answer with a score above 0 has kind ``partial``; one that would run something if
    evaluated, ``unsafe``. Raises VerifierError for a threshold outside (0, 1], a problem without metadata, and where there
    is no sandbox and ``allow_unsafe`` is False; UnknownName for a data set that does not exist.
    """

    name: ClassVar[str] = "reasoning_gym"
    version: ClassVar[str] = "2"
    warm_before_fork: ClassVar[bool] = False  # each worker starts its sandbox after the fork
    policy: str = "tagged:answer"
    dataset: str = ""
    threshold: float = 1.0
    allow_unsafe: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise VerifierError(f"verifier {self.name!r}: option threshold={self.threshold!r} is not in (0, 1]")

    @property
    def wall_s(self) -> float:
        """Seconds that a pool adds to its wall limit: time to start a sandbox after one was lost."""
        return 60.0

    def warm_up(self) -> None:
        _check_installed()
        open_scorers(allow_unsafe=self.allow_unsafe).start()

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: the entry's metadata decides, and some data sets have no answers."""
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        metadata = problem.data.get("metadata")
        if not isinstance(metadata, dict):
            raise VerifierError(f"problem {problem.id!r} has no metadata in its data, which reasoning-gym scores by")
        dataset = self.dataset or str(metadata.get("source_dataset", ""))
        entry = {"question": problem.question, "answer": problem.answer, "metadata": metadata}
        scored = _score(dataset, answer, entry, allow_unsafe=self.allow_unsafe)
        if scored.failed:
            return Verdict(status="error", answer=answer, kind=scored.failed, message=scored.message)
        if scored.score >= self.threshold:
            return Verdict(status="correct", answer=answer)
        kind = "unsafe" if scored.refused else "partial" if scored.score > 0 else None
        return Verdict(status="wrong", answer=answer, kind=kind)


def _score(dataset: str, answer: str, entry: Mapping[str, object], *, allow_unsafe: bool) -> Scored:
    _check_installed()
    # In a worker, the CPU time left to this answer: the pool counts only the worker's time, not the sandbox's.
    cpu_s = signal.getitimer(signal.ITIMER_PROF)[0] or _CPU_S
    return open_scorers(allow_unsafe=allow_unsafe).score(dataset, answer, entry, cpu_s)


def _check_installed() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise VerifierError("the verifier 'reasoning_gym' needs the package: pip install reasoning-gym")
