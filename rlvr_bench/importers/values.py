"""What a value of a mapped field means: text, name, whole number, yes or no. Each function raises Unreadable for another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from rlvr_bench.errors import in_one_line
from rlvr_bench.importers.field_paths import MISSING

__all__ = [
    "Unreadable",
    "as_answer",
    "as_cut",
    "as_gold",
    "as_index",
    "as_name",
    "as_prompt",
    "as_text",
    "as_tokens",
    "as_whole",
    "same_value",
    "shown",
]

Values = Mapping[str, object]

_WHOLE = re.compile(r"\d{1,9}(\.0*)?")
_CUT = ("length", "max_tokens", "max_length", "truncated", "true", "1", "1.0")
_ENDED = ("stop", "eos", "eos_token", "end_turn", "end", "stop_sequence", "false", "0", "0.0")
_LONGEST_INDEX = 200


class Unreadable(Exception):
    """A value that its field cannot have; the message begins with a verb."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def shown(value: object) -> str:
    """A value in a message: at most 40 characters, all printable."""
    if value is MISSING:
        return "absent"
    try:
        return in_one_line(repr(value), 40)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"


def as_text(field: str, values: Values, *, required: bool = False) -> str | None:
    """A text; None for null, or for an absent field that is not ``required``."""
    value = values.get(field, MISSING)
    if value is MISSING and required:
        raise Unreadable(field, "is absent")
    if value is None or value is MISSING:
        return None
    if not isinstance(value, str):
        raise Unreadable(field, f"is {_kind(value)}, not a text{_advice(value)}")
    return value


def as_name(field: str, values: Values) -> str:
    """A text, or a whole number as text; empty for null or an absent field."""
    value = _plain(values.get(field, MISSING))
    if value is None or value is MISSING:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable(field, f"is {_kind(value)}, not a text or a whole number{_advice(value)}")
    return value.strip() if isinstance(value, str) else _digits(field, value)


def as_gold(field: str, values: Values) -> str:
    """A gold answer as text; a list of one is that one, any other list or object is JSON."""
    value = values.get(field, MISSING)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _written(field, value) or ""


def as_answer(field: str, values: Values, marks: frozenset[str]) -> str | None:
    """The answer as text, without blanks around it; None where it is null, empty, or one of the ``marks`` for no answer."""
    text = _written(field, values.get(field, MISSING))
    answer = "" if text is None else text.strip()
    return None if not answer or answer in marks else answer


def as_whole(field: str, values: Values) -> int:
    """A whole number from 0, also written as 8.0 or as text."""
    value = _plain(values.get(field, MISSING))
    if isinstance(value, float) and value.is_integer():
        value = int(value) if 0 <= value < 10**9 else value
    if isinstance(value, str) and value.isascii() and _WHOLE.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
        raise Unreadable(field, f"is {shown(value)}, must be a whole number from 0")
    return value


def as_tokens(field: str, values: Values) -> int | None:
    """A number of tokens, or the length of a list of tokens; None for null, an empty cell or an absent field."""
    value = values.get(field, MISSING)
    if isinstance(value, list):
        return len(value)
    if value is None or value is MISSING or value == "" or value != value:
        return None
    return as_whole(field, values)


def as_index(field: str, values: Values) -> int | str | None:
    """The number or name of a rollout; None where the field is not mapped."""
    if field not in values:
        return None
    value = _plain(values[field])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
        value = int(value)
    usable = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62
    if usable or (isinstance(value, str) and 0 < len(value) <= _LONGEST_INDEX):
        return value  # type: ignore[return-value]
    raise Unreadable(field, f"is {shown(value)}, must be the number or the name of the rollout")


def as_cut(field: str, values: Values) -> bool | None:
    """Whether the response was cut: a bool, 0 or 1, or a finish reason; None for null and for a reason of another kind."""
    value = values.get(field, MISSING)
    if value is None or value is MISSING or value != value:
        return None
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().casefold()
        return True if word in _CUT else False if word in _ENDED else None
    raise Unreadable(field, f"is {shown(value)}, must be true, false, or a finish reason such as length or stop")


def as_prompt(field: str, values: Values) -> str | list[dict[str, str]] | None:
    """A prompt: a text, or messages with role and content; None for null or an absent field.

    Of a whole conversation, the response at its end is no part of the prompt.
    """
    value = values.get(field, MISSING)
    if value is None or value is MISSING or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_message(message) for message in value):
        is_whole = value[-1]["role"] == "assistant" and value[-1]["content"] == values.get("text")
        sent = value[:-1] if is_whole else value
        return [{"role": message["role"], "content": message["content"]} for message in sent] or None
    raise Unreadable(field, f"is {_kind(value)}, not a text or a list of messages with role and content")


def same_value(value: object, wanted: str) -> bool:
    """Whether a value is the one that the user wrote: numbers by value, anything else by its text."""
    value = _plain(value)
    if value is None or value is MISSING:
        return wanted in ("", "null", "None")
    if isinstance(value, bool):
        return wanted.casefold() == str(value).casefold()
    if isinstance(value, int | float):
        try:
            return float(value) == float(wanted)
        except (ValueError, OverflowError):
            return False
    return isinstance(value, str) and value.strip() == wanted


def _plain(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _written(field: str, value: object) -> str | None:
    value = _plain(value)
    if value is None or value is MISSING or value != value:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(field, value)
    try:
        return msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, UnicodeEncodeError):
        raise Unreadable(field, f"is {_kind(value)}, which has no text") from None


def _digits(field: str, value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise Unreadable(field, "is a number of thousands of digits") from None


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else shown(value)


def _advice(value: object) -> str:
    return " (unfold it with [], or take one with [0])" if isinstance(value, list) else ""
