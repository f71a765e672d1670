"""reasoning-gym's data sets by name: their own scoring, with partial credit turned into right or wrong by a threshold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier

__all__ = ["ReasoningGymVerifier"]


@functools.lru_cache(maxsize=128)
def _scorer(dataset: str) -> Callable[[str, dict[str, Any]], float]:
    try:
        from reasoning_gym.factory import DATASETS, get_score_answer_fn
    except ImportError as error:
        raise VerifierError("the verifier 'reasoning_gym' needs the package: pip install reasoning-gym") from error
    if dataset not in DATASETS:
        raise UnknownName("reasoning-gym data set", dataset, DATASETS)
    score: Callable[[str, dict[str, Any]], float] = get_score_answer_fn(dataset)
    return score


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningGymVerifier(PolicyVerifier):
    """Right if reasoning-gym's score reaches ``threshold`` (its scores lie in [0, 1]; wrong but well-formed answers get some).

    ``dataset`` names the data set; empty, the problem's ``metadata["source_dataset"]`` does. A problem's data holds the entry's
    ``metadata``. A wrong answer with credit has kind ``partial``. Raises VerifierError for a threshold outside (0, 1] or a
    problem without metadata, UnknownName for a data set that does not exist.
    """

    name: ClassVar[str] = "reasoning_gym"
    policy: str = "tagged:answer"
    dataset: str = ""
    threshold: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise VerifierError(f"verifier {self.name!r}: option threshold={self.threshold!r} is not in (0, 1]")

    def warm_up(self) -> None:
        if self.dataset:
            _scorer(self.dataset)

    def read_gold(self, answer: str) -> str:
        """The answer as it is: the entry's metadata decides, and some data sets have no answers."""
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        metadata = problem.data.get("metadata")
        if not isinstance(metadata, dict):
            raise VerifierError(f"problem {problem.id!r} has no metadata in its data, which reasoning-gym scores by")
        dataset = self.dataset or str(metadata.get("source_dataset", ""))
        entry = {"question": problem.question, "answer": problem.answer, "metadata": metadata}
        score = float(_scorer(dataset)(answer, entry))
        if score >= self.threshold:
            return Verdict(status="correct", answer=answer)
        return Verdict(status="wrong", answer=answer, kind="partial" if score > 0 else None)
