"""The records that every importer yields, and the functions that a format provides."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.printed import Printed
from rlvr_bench.records import Status
from rlvr_bench.store.run import stored_text

__all__ = [
    "Count",
    "Format",
    "Glimpse",
    "ImportedEntry",
    "Origin",
    "Response",
    "binary",
    "chosen_verdict",
    "number",
    "only_one",
    "problem_name",
]

Kind = Literal["lines", "text", "zip", "parquet"]


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout as another program wrote it; a field is None where the file does not give it.

    ``problem`` is the program's id for the problem; where it is empty, the question identifies the problem. ``status`` is
    the program's verdict, ``verdict`` the name the program gives to it. ``key`` identifies copies of one response in
    several files. ``reward`` is the number that the verdict was, where it was one: --correct compares it. ``index`` is the
    program's number or name of the rollout within its problem. ``prompt``: what the model was sent, a text or messages.
    ``cluster`` and ``tier`` as in ``Problem``.
    """

    where: str
    problem: str
    question: str
    gold: str
    text: str
    status: Status | None = None
    verdict: str = ""
    reward: float | None = None
    answer: str | None = None
    kind: str | None = None
    n_tokens: int | None = None
    truncated: bool | None = None
    key: str | None = None
    index: int | str | None = None
    prompt: str | list[dict[str, str]] | None = None
    cluster: str = ""
    tier: str = ""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A problem with its number of rollouts ``n`` and of correct ones ``c``, by ``verdict``, without responses.

    ``cluster`` groups problems that are not independent, as in ``Problem``. ``partial``: further counts of the same problem
    are added to these.
    """

    where: str
    problem: str
    question: str = ""
    gold: str = ""
    verdict: str = ""
    cluster: str = ""
    tier: str = ""
    prompt: str | list[dict[str, str]] | None = None
    n: int
    c: int
    partial: bool = False


ImportedEntry = Response | Count


class Glimpse(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a file: ``names`` are the fields of its first line or row, ``head`` its first bytes."""

    file: Path
    kind: Kind
    names: frozenset[str] = frozenset()
    head: bytes = b""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The model, task and version that the files name; empty where they name none. ``notes`` are for the user."""

    model: str = ""
    task: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """One program's files. ``fits`` recognises them by content, ``survey`` chooses the files to read and gives their origin.

    ``read(file, verdict, responses_only)`` yields the entries of one file. ``verdict`` names the verdict to take where a
    file has several. With ``responses_only`` it yields responses without verdicts. All three raise DataError.

    ``mapping`` is that of a format made from one. ``remarks`` gives notes for the user after the files were read;
    ``restart`` is called before each time that they are read.

    ``holds_verdicts``: False where files of this format never say which responses are correct; a task of ours grades them.
    ``no_answer``: what the program writes in place of an answer where it found none. ``says_no_answer``: whether it
    distinguishes a response without an answer from a wrong one; if not, their rate is not known.

    ``printed(files, verdict)`` finds what the program itself reports by that verdict, in files beside these. It never raises.
    """

    name: str
    fits: Callable[[Glimpse], bool]
    survey: Callable[[Sequence[Path]], tuple[Origin, list[Path]]]
    read: Callable[[Path, str | None, bool], Iterator[ImportedEntry]]
    mapping: FieldMapping | None = None
    restart: Callable[[], object] = tuple
    remarks: Callable[[], Iterable[str]] = tuple
    holds_verdicts: bool = True
    no_answer: frozenset[str] = frozenset(("",))
    says_no_answer: bool = True
    printed: Callable[[Sequence[Path], str], Sequence[Printed]] = lambda files, verdict: ()


def problem_name(entry: ImportedEntry) -> str:
    """The id of the entry's problem as stored: the program's, else one computed from the question; empty without both."""
    name, question = stored_text(entry.problem), stored_text(entry.question)
    if name or not question.strip():
        return name
    return f"q-{hashlib.sha256(question.encode()).hexdigest()[:16]}"


def binary(value: object) -> Status | None:
    """The status of a verdict of 0 or 1 (a number or a bool); None for anything else, such as half a point."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return "correct" if value else "wrong"
    return None


def number(value: object) -> float | None:
    """The reward or score as a float; None for anything else, NaN and the infinities too."""
    return float(value) if isinstance(value, bool | int | float) and math.isfinite(value) else None


def only_one(file: Path, what: str, names: Iterable[str]) -> str:
    """The name that is not empty; empty where all are. Raises DataError where there are several, as in ``several models``."""
    listed = sorted({name for name in names if name})
    if len(listed) > 1:
        raise DataError(f"{file.parent}: {what} ({in_one_line(', '.join(listed))}). Name the files of one.")
    return "".join(listed)


def chosen_verdict(where: str, names: Sequence[str], asked: str | None) -> str | None:
    """The name of the verdict to take: the one asked for, or the only one; None where the file has none.

    Raises DataError where there are several and none was asked for, or where the file lacks the one asked for.
    """
    listed = ", ".join(map(repr, names))
    if asked is not None:
        if asked not in names:
            raise DataError(f"{where}: no verdict {asked!r}. Here: {listed or 'none'}.")
        return asked
    if len(names) > 1:
        raise DataError(f"{where}: several verdicts ({listed}). Choose one: --verdict {names[0]!r}")
    return names[0] if names else None
