"""What every importer reads other programs' files into, and what a format has to offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.records import Status

__all__ = ["Count", "Entry", "Format", "Glimpse", "Origin", "Response", "binary", "chosen_verdict"]

Kind = Literal["lines", "text", "zip", "parquet"]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout as another program wrote it; None where the file does not say.

    ``problem`` is the program's id for the problem, empty where it has none: the question then names it. ``status`` is the
    program's own verdict, ``verdict`` what the program calls it. ``key`` tells a response from a copy in another file.
    """

    where: str
    problem: str
    question: str
    gold: str
    text: str
    status: Status | None = None
    verdict: str = ""
    answer: str | None = None
    kind: str | None = None
    n_tokens: int | None = None
    truncated: bool | None = None
    key: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A problem of which only the number of rollouts ``n`` and of correct ones ``c``, by ``verdict``, is known.

    ``cluster`` groups problems that are not independent, as in ``Problem``.
    """

    where: str
    problem: str
    question: str = ""
    gold: str = ""
    verdict: str = ""
    cluster: str = ""
    n: int
    c: int


Entry = Response | Count


class Glimpse(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a file: ``names`` are the fields of its first line or row, ``head`` its first bytes."""

    file: Path
    kind: Kind
    names: frozenset[str] = frozenset()
    head: bytes = b""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say of themselves; empty where they do not. ``notes`` are for the user."""

    model: str = ""
    task: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """One program's files. ``fits`` tells them by content, ``survey`` chooses those to read and says where they come from.

    ``read`` yields what one file holds. Its second argument names the verdict to take, where a file has several; its third
    asks for the responses even where their verdicts are not told apart. All three raise DataError.
    """

    name: str
    fits: Callable[[Glimpse], bool]
    survey: Callable[[Sequence[Path]], tuple[Origin, list[Path]]]
    read: Callable[[Path, str | None, bool], Iterator[Entry]]


def binary(value: Any) -> Status | None:
    """A verdict of 0 or 1, as a number or a truth value; None for anything else, such as half a point."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return "correct" if value else "wrong"
    return None


def chosen_verdict(where: str, names: Sequence[str], asked: str | None) -> str | None:
    """Which of the verdicts found to take: the one asked for, or the only one; None where there is none.

    Raises DataError where there are several and none was asked for, or it is not among them.
    """
    listed = ", ".join(map(repr, names))
    if asked is not None:
        if asked not in names:
            raise DataError(f"{where}: no verdict {asked!r}. Here: {listed or 'none'}.")
        return asked
    if len(names) > 1:
        raise DataError(f"{where}: several verdicts ({listed}). Choose one: --verdict {names[0]!r}")
    return names[0] if names else None
