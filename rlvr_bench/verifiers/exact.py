"""Verifiers without mathematics: equal strings, equal integers, equal letters, a pattern."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import ClassVar

from rlvr_bench.errors import GoldError, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier, worked_answer
from rlvr_bench.verifiers.choices import read_choice
from rlvr_bench.verifiers.integers import read_integer

__all__ = ["ChoiceVerifier", "ExactVerifier", "IntegerVerifier", "RegexVerifier"]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:40]} ... {text[-30:]}")


def _judge(right: bool, answer: str, kind: str | None = None) -> Verdict:
    return Verdict(status="correct" if right else "wrong", answer=answer, kind=None if right else kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactVerifier(PolicyVerifier):
    """Right if the strings are equal after Unicode NFKC and collapsing white space; ``ignore_case`` also folds case."""

    name: ClassVar[str] = "exact"
    ignore_case: bool = False

    def key(self, answer: str) -> str:
        folded = " ".join(unicodedata.normalize("NFKC", answer).split())
        return folded.casefold() if self.ignore_case else folded

    def read_gold(self, answer: str) -> str:
        if not self.key(answer):
            raise GoldError("the gold answer is empty")
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        return _judge(self.key(answer) == self.key(self.gold_of(problem)), answer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerVerifier(PolicyVerifier):
    """Right if both are the same integer (AIME, GSM8K). An answer that is no integer is wrong, of kind ``not_an_integer``."""

    name: ClassVar[str] = "integer"
    version: ClassVar[str] = "2"

    def key(self, answer: str) -> str:
        value = read_integer(answer)
        return answer if value is None else str(value)

    def read_gold(self, answer: str) -> str:
        """The answer if it is an integer, else the integer that a worked solution ends with. Raises GoldError."""
        for text in (answer, worked_answer(answer)):
            if text is not None and read_integer(text) is not None:
                return text.strip()
        raise GoldError(f"the gold answer {_shown(answer)} is not an integer")

    def verify(self, answer: str, problem: Problem) -> Verdict:
        gold, value = read_integer(self.gold_of(problem)), read_integer(answer)
        return _judge(value == gold, answer, kind="not_an_integer" if value is None else None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceVerifier(PolicyVerifier):
    r"""Right if both name the same letter: ``C``, ``(C)``, ``C.``, ``C) 42``, ``\\text{(C)}``. A list or a hedge names none."""

    name: ClassVar[str] = "choice"
    version: ClassVar[str] = "2"
    policy: str = "choice"

    def key(self, answer: str) -> str:
        return read_choice(answer) or answer.strip()

    def read_gold(self, answer: str) -> str:
        """The letter, or the letter that a worked solution ends with. Raises GoldError for an index, a word, two letters."""
        for text in (answer, worked_answer(answer)):
            letter = None if text is None else read_choice(text)
            if letter is not None:
                return letter
        raise GoldError(f"the gold answer {_shown(answer)} is not the letter of a choice")

    def verify(self, answer: str, problem: Problem) -> Verdict:
        return _judge(read_choice(answer) == self.gold_of(problem), answer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegexVerifier(PolicyVerifier):
    """Right if the whole answer matches ``pattern``; where that is empty, the problem's answer is the pattern."""

    name: ClassVar[str] = "regex"
    pattern: str = ""
    ignore_case: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self._compile(self.pattern)
        except GoldError as error:
            raise VerifierError(f"verifier 'regex': option pattern: {error}") from error

    def read_gold(self, answer: str) -> str:
        """The answer unchanged; with an option ``pattern`` every gold answer is accepted. Raises GoldError."""
        if not self.pattern and not answer:
            raise GoldError("the gold answer, which is the pattern, is empty")
        self._compile(self.pattern or answer)
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        return _judge(self._compile(self.pattern or self.gold_of(problem)).fullmatch(answer) is not None, answer)

    def _compile(self, pattern: str) -> re.Pattern[str]:
        try:
            return re.compile(pattern, re.IGNORECASE if self.ignore_case else 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise GoldError(f"{_shown(pattern)} is not a regular expression: {error}") from error
