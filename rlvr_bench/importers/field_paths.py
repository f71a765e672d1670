r"""Paths to the fields of a row, such as ``rollouts[].text``.

Names are joined by dots. ``[]`` unfolds a list, ``[0]`` takes one element (``[-1]`` the last). A name with a dot, a bracket or
a comma is put in double quotes, or a backslash comes before the character. ``#row`` is the number of the row, from 0,
``#key`` its key in an object of rows, ``#file`` the name of the file without its ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from rlvr_bench.errors import DataError, visible
from rlvr_bench.importers.cell_values import cell_value

__all__ = ["MISSING", "UNFOLD", "FieldPath", "Step", "unfolded", "walk"]

Step: TypeAlias = "str | int | None"
UNFOLD: Final = None
Base: TypeAlias = Literal["value", "row", "key", "file"]


class _Missing:
    """The value of a field that a row lacks."""

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()

_BASES: dict[str, Base] = {"#row": "row", "#key": "key", "#file": "file"}
_TOKEN = re.compile(
    r'\.|\[(?P<index>-?\d{0,9})\]|"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<name>(?:\\.|[^.\[\]"\\])+)', re.DOTALL
)


@dataclass(frozen=True)
class FieldPath:
    """``text`` as the user wrote it; ``steps`` are names, element numbers, and UNFOLD."""

    text: str
    base: Base
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> FieldPath:
        """Raises ValueError, with a reason, where the text is no path."""
        written = text.strip()
        if written in _BASES:
            return cls(written, _BASES[written], ())
        return cls(written, "value", tuple(_steps(written)))

    @property
    def root(self) -> str | None:
        """The field of the row that the path begins with; None where it begins with an element or is no field."""
        return self.steps[0] if self.steps and isinstance(self.steps[0], str) else None

    @property
    def lists(self) -> int:
        """How many lists the path unfolds."""
        return self.steps.count(UNFOLD)

    def until(self, rest: int) -> str:
        """The path without its last ``rest`` steps, to name a part of it in a message."""
        return written(self.steps[: len(self.steps) - rest])


def written(steps: tuple[Step, ...]) -> str:
    """The text of these steps."""
    text = ""
    for step in steps:
        if isinstance(step, str):
            quoted = re.search(r'[.\[\]"\\,=#\s]', step) or not step
            name = '"' + re.sub(r'(["\\])', r"\\\1", step) + '"' if quoted else step
            text += f".{name}" if text else name
        else:
            text += "[]" if step is UNFOLD else f"[{step}]"
    return text


def _steps(text: str) -> Iterator[Step]:
    at, after_dot, first = 0, True, True
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"cannot be read from {text[at:][:20]!r} on")
        token = match.group()
        if token == ".":
            if after_dot:
                raise ValueError("has a dot without a name before it")
            after_dot = True
        elif (index := match["index"]) is not None:
            if after_dot and not first:
                raise ValueError("has a bracket after a dot")
            yield int(index) if index.strip("-") else UNFOLD
            after_dot = False
        else:
            if not after_dot:
                raise ValueError(f"has no dot before {token!r}")
            yield re.sub(r"\\(.)", r"\1", match["quoted"] if match["name"] is None else match["name"].strip())
            after_dot = False
        at, first = match.end(), False
    if after_dot:
        raise ValueError("ends with a dot" if text else "is empty")


def walk(value: object, path: FieldPath, begin: int, where: str) -> tuple[object, int]:
    """Follow a path from step ``begin`` to its end or its next UNFOLD: the value there, and the number of that step.

    A field that is absent, or below null or an empty text, is MISSING. Raises DataError where the path leads into a text or a
    number. A text that the path goes into is decoded where it holds an object or a list.
    """
    steps = path.steps
    for number in range(begin, len(steps)):
        step = steps[number]
        if type(value) is dict and type(step) is str:  # the common case, first
            value = value.get(step, MISSING)
            continue
        if value is None or value is MISSING or value == "":  # an empty cell
            return MISSING, number if step is UNFOLD else _next_unfold(path, number)
        if isinstance(value, str):
            value = _decoded(value, path, number, where)
        if step is UNFOLD:
            return value, number
        if isinstance(step, str):
            if not isinstance(value, Mapping):
                raise _no_container(value, path, number, where, "an object")
            value = value.get(step, MISSING)
        else:
            if not isinstance(value, list | tuple):
                raise _no_container(value, path, number, where, "a list")
            value = value[step] if -len(value) <= step < len(value) else MISSING
    return value, len(steps)


def unfolded(value: object, path: FieldPath, number: int, where: str) -> list[object] | None:
    """The elements of the list, or the values of the object, at the UNFOLD that is step ``number``; None where it is missing.

    Raises DataError for another value.
    """
    if value is None or value is MISSING:
        return None
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    raise _no_container(value, path, number, where, "a list")


def _next_unfold(path: FieldPath, begin: int) -> int:
    return next((i for i in range(begin, len(path.steps)) if path.steps[i] is UNFOLD), len(path.steps))


def _decoded(text: str, path: FieldPath, number: int, where: str) -> object:
    """The object or list that a text holds, as cells of a table do."""
    try:
        return cell_value(text)
    except ValueError:
        name = path.until(len(path.steps) - number)
        raise DataError(
            f"{where}: {visible(name)} is a text, and the path {visible(path.text)!r} goes on below it"
        ) from None


def _no_container(value: object, path: FieldPath, number: int, where: str, wanted: str) -> DataError:
    kind = "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else "a single value"
    name = path.until(len(path.steps) - number) or "the row"
    advice = " ([] unfolds a list, [0] takes an element)" if kind == "a list" else ""
    return DataError(f"{where}: {visible(name)} is {kind}, not {wanted}, as {visible(path.text)!r} needs{advice}")
