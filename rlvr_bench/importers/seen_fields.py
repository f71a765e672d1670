"""The fields of the first rows of a table with their values, as a proposal of a mapping needs them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlvr_bench.importers.cell_values import cell_value
from rlvr_bench.importers.field_paths import UNFOLD, Step
from rlvr_bench.importers.tables import Row

__all__ = ["SeenField", "seen_fields"]

_DEEPEST = 5
_WIDEST = 200  # fields that are looked at
_ELEMENTS = 8
_LAST_MESSAGE: tuple[Step, ...] = (-1, "content")
_Kind: TypeAlias = Literal["value", "list", "sent", "written"]
_Walked: TypeAlias = tuple[tuple[Step, ...], object, _Kind]


@dataclass(frozen=True)
class SeenField:
    """A field, with its values in the first rows; ``sizes`` are the lengths of its lists, row by row.

    ``kind``: a single value; a list of single values as a whole (its elements are another field); the last of a list of
    messages, which was sent to the model or written by it.
    """

    steps: tuple[Step, ...]
    values: tuple[object, ...]
    sizes: tuple[int, ...]
    kind: _Kind = "value"

    @property
    def name(self) -> str:
        """The last name of the path, without case and punctuation."""
        if self.steps[-2:] == _LAST_MESSAGE:
            return "response" if self.kind == "written" else "prompt"
        last = next((step for step in reversed(self.steps) if isinstance(step, str)), "")
        return re.sub(r"[^a-z0-9]", "", last.casefold())

    @property
    def depth(self) -> int:
        """How many names lead to the field."""
        return sum(isinstance(step, str) for step in self.steps)

    @property
    def in_list(self) -> tuple[Step, ...]:
        """The path up to the list that the field is in; empty for none."""
        last = max((number for number, step in enumerate(self.steps) if step is UNFOLD), default=-1)
        return self.steps[: last + 1]

    @property
    def lists(self) -> int:
        """How many lists the path unfolds."""
        return self.steps.count(UNFOLD)

    @property
    def by_row(self) -> list[tuple[object, ...]]:
        """The values, row by row, for the rows that have the field."""
        values = iter(self.values)
        return [tuple(itertools.islice(values, size)) for size in self.sizes]


def seen_fields(rows: Sequence[Row]) -> list[SeenField]:
    """The fields of these rows: at most 200, and of a list the first 8 elements."""
    values: dict[tuple[Step, ...], list[object]] = {}
    sizes: dict[tuple[Step, ...], list[int]] = {}
    kinds: dict[tuple[Step, ...], _Kind] = {}
    for row in rows:
        counted: dict[tuple[Step, ...], int] = {}
        for steps, value, kind in _walked((), row.value, 0):
            if kind != "value":
                kinds[steps] = kind
            if steps in values or len(values) < _WIDEST:
                values.setdefault(steps, []).append(value)
                counted[steps] = counted.get(steps, 0) + 1
        for steps, size in counted.items():
            sizes.setdefault(steps, []).append(size)
    return [
        SeenField(steps, tuple(listed), tuple(sizes[steps]), kinds.get(steps, "value"))
        for steps, listed in values.items()
    ]


def _walked(steps: tuple[Step, ...], value: object, depth: int) -> Iterator[_Walked]:
    """The fields in a value. A text that holds a list or an object is walked into too."""
    inside = _held(value)
    if isinstance(value, str) and isinstance(inside, Mapping):
        yield steps, value, "value"  # a model may answer in JSON
    if depth >= _DEEPEST or not isinstance(inside, Mapping | list):
        yield steps, value, "value"
    elif isinstance(inside, Mapping) and not _numbered(inside):
        for name, inner in itertools.islice(inside.items(), _WIDEST):
            yield from _walked((*steps, str(name)), inner, depth + 1)
    elif isinstance(inside, list) and inside and _is_message(inside[-1]):
        kind: _Kind = "written" if inside[-1]["role"] == "assistant" else "sent"
        yield (*steps, *_LAST_MESSAGE), inside[-1]["content"], kind
    else:
        elements = inside if isinstance(inside, list) else list(inside.values())
        if not any(isinstance(element, Mapping | list) for element in elements):
            yield steps, value, "list"
        for element in elements[:_ELEMENTS]:
            yield from _walked((*steps, UNFOLD), element, depth + 1)


def _held(value: object) -> object:
    """What a text holds where it is a list or an object, as in a cell of a table; any other value itself."""
    try:
        return cell_value(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _numbered(value: Mapping[object, object]) -> bool:
    """Whether the keys count, as in a column that pandas wrote as JSON, or ``sample_0``, ``sample_1``: values are elements."""
    matches = [re.fullmatch(r"(\D*)\d+", str(name)) for name in value]
    return len(matches) > 1 and all(matches) and len({match[1] for match in matches if match}) == 1


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and {"role", "content"} <= value.keys()
