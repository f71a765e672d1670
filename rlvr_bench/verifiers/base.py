"""What the built-in verifiers share: options as dataclass fields, and extraction by a named policy."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rlvr_bench.errors import GoldError, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.extraction import last_boxed, open_policy
from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["PolicyVerifier", "check_option", "worked_answer"]

_open_policy = functools.lru_cache(maxsize=64)(open_policy)


def check_option(verifier: str, option: str, value: object, allowed: Sequence[object]) -> None:
    """Raise VerifierError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        listed = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(repr, allowed))
        raise VerifierError(f"verifier {verifier!r}: option {option}={value!r} is not one of {listed}")


_BOX = re.compile(r"\\(?:boxed|[fb]ox)")


def worked_answer(gold: str) -> str | None:
    """The answer of a worked solution, if it is certain: what follows the last ``####``, else the only box."""
    _, mark, last = gold.rpartition("####")
    if mark and "\n" not in last.strip():
        return last.strip() or None
    return last_boxed(gold) if len(_BOX.findall(gold)) == 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyVerifier:
    """A verifier whose options are its dataclass fields; ``policy`` names how it extracts answers (see `extraction`).

    Raises VerifierError when ``policy`` names no extraction policy.
    """

    policy: str = "boxed"

    name: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    warm_before_fork: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _open_policy(self.policy)

    @property
    def options(self) -> Mapping[str, object]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def warm_up(self) -> None:
        """Import and warm what `verify` needs; called once in the process that the workers are forked from."""

    def read_gold(self, answer: str) -> str:
        """The gold answer without outer white space. Raises GoldError where it is empty."""
        gold = answer.strip()
        if not gold:
            raise GoldError("the gold answer is empty")
        return gold

    def extract(self, response: str) -> Extraction:
        return _open_policy(self.policy)(response)

    def key(self, answer: str) -> str:
        return answer

    def gold_of(self, problem: Problem) -> str:
        """`read_gold` of a problem's answer; the GoldError that it raises names the problem."""
        try:
            return self.read_gold(problem.answer)
        except GoldError as error:
            raise GoldError(f"problem {problem.id!r}: {error}") from error

    def verify(self, answer: str, problem: Problem) -> Verdict:
        raise NotImplementedError
