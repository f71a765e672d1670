"""When another program's verdict or reward means "correct"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Status

__all__ = ["CorrectRule", "as_number", "plain_status"]

Operator: TypeAlias = Literal[">=", ">", "=="]

_RULE = re.compile(r"\s*(>=|>|==|=)?(.*)", re.DOTALL)
_ABSENT = ("", "none", "null", "nan", "<na>")
_BOOLS = ("true", "false")
# Words that mean yes or no in every program that writes them. Letters (C, I, A) are not among them: they may be choices.
_WORDS: dict[str, Status] = {
    **dict.fromkeys(("true", "correct", "right", "pass", "passed", "yes", "1", "1.0"), "correct"),
    **dict.fromkeys(("false", "incorrect", "wrong", "fail", "failed", "no", "0", "0.0"), "wrong"),
}


@dataclass(frozen=True)
class CorrectRule:
    """A verdict is correct where ``value operator bound`` holds; ``number`` is the bound where it is a number."""

    operator: Operator
    bound: str
    number: float | None

    @classmethod
    def parse(cls, text: str) -> CorrectRule:
        """Read ``>=0.9``, ``>0``, ``==2`` or a value such as ``C``, ``true`` or ``pass``. Raises BadArgument."""
        match = _RULE.fullmatch(text)
        written, bound = (match[1] or "==", match[2].strip()) if match else ("==", "")
        number = None if bound.casefold() in _BOOLS else as_number(bound)
        if (
            not bound
            or bound.startswith("!")
            or re.search("[<>=]", bound)
            or (number is None and written in (">=", ">"))
        ):
            raise BadArgument("--correct", text, "must be a threshold ('>=0.9', '>0') or a value ('==1', 'C', 'true')")
        operator: Operator = ">=" if written == ">=" else ">" if written == ">" else "=="
        return cls(operator, bound, number)

    def __str__(self) -> str:
        return f"{self.operator} {self.bound}"

    def status(self, value: object) -> Status | None:
        """The status of a verdict's value; None for null. Raises ValueError, with a reason, where it does not compare."""
        if _is_absent(value) and str(value).casefold() != self.bound.casefold():
            return None
        if isinstance(value, list | dict):
            raise ValueError("is no single value")
        if self.number is not None:
            number = as_number(value)
            if number is None:
                raise ValueError(f"is not a number, which --correct '{self.operator}{self.bound}' needs")
            is_right = {">=": number >= self.number, ">": number > self.number, "==": number == self.number}[
                self.operator
            ]
        else:
            is_right = str(value).strip().casefold() == self.bound.casefold()
        return "correct" if is_right else "wrong"


def plain_status(value: object) -> Status | None:
    """The status of a verdict that needs no rule: a bool, 0 or 1, or a word such as "true", "passed" or "wrong".

    None for null and for its names. Raises ValueError, with a reason, for anything else.
    """
    if _is_absent(value):
        return None
    if isinstance(value, bool | int | float | Decimal) and value in (0, 1):
        return "correct" if value else "wrong"
    if isinstance(value, str) and (status := _WORDS.get(value.strip().casefold())) is not None:
        return status
    if isinstance(value, list | dict):
        raise ValueError("is no single value")
    raise ValueError("is neither yes nor no: say what is correct, such as --correct '>=1' or --correct WORD")


def _is_absent(value: object) -> bool:
    """Whether a verdict is not there: null, NaN, or what Python and pandas write for these."""
    return value is None or value != value or (isinstance(value, str) and value.strip().casefold() in _ABSENT)


def as_number(value: object) -> float | None:
    """The number that a value is or spells; None for others."""
    if isinstance(value, bool | int | float | Decimal):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        text = value.strip().casefold()
        if text in _BOOLS:
            return float(text == "true")
        if len(text) <= 40 and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text):
            return float(text)
    return None
