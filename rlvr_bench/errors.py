"""The exception tree: every error says what is wrong, where, and how to mend it, in one line.

All of them are user errors: the command line prints the message and exits with status 2, never a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BadArgument",
    "DataError",
    "EngineError",
    "GoldError",
    "ModelError",
    "NotInScorecard",
    "RlvrBenchError",
    "RunError",
    "RunLocked",
    "RunMismatch",
    "StorageError",
    "TaskError",
    "UnknownName",
    "VerifierError",
    "in_one_line",
    "visible",
]


def visible(text: str) -> str:
    """``text`` with control characters, escape sequences and invisible characters as escapes (backslash x1b)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class RlvrBenchError(Exception):
    """Base of every error a user can cause and mend. It can travel between processes, whatever made its message."""

    def __reduce__(self) -> tuple[object, ...]:
        return _as_raised, (type(self), self.args, vars(self))


def _as_raised(kind: type[RlvrBenchError], args: tuple[object, ...], fields: dict[str, object]) -> RlvrBenchError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(fields)
    return error


class BadArgument(RlvrBenchError, ValueError):
    """An argument has a value that is not allowed; the message names argument, value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} is {value!r}: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class UnknownName(RlvrBenchError, LookupError):
    """A model, task, engine, prompt or verifier that does not exist; the message lists those that do and the nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        tail = f" {hint}" if hint else ""
        super().__init__(f"unknown {what} {name!r}.{guess} Known: {', '.join(choices) or 'none'}.{tail}")
        self.what, self.name, self.known = what, name, choices


class DataError(RlvrBenchError):
    """A data set or data file that cannot be used: names the file, the line and the field, or the problem id."""


class TaskError(RlvrBenchError):
    """A task file that cannot be loaded or whose content is not what it pins."""


class ModelError(RlvrBenchError):
    """A checkpoint that cannot be found, loaded, or used with what was asked."""


class EngineError(RlvrBenchError):
    """An engine that is not installed, does not start, or fails while sampling."""


class VerifierError(RlvrBenchError):
    """A verifier that does not exist, has a bad option, or cannot run on this machine."""


class GoldError(VerifierError):
    """A gold answer that the verifier cannot compare with anything; whoever knows the problem adds its id."""


class StorageError(RlvrBenchError):
    """The disk said no: full, read-only, or not permitted. What was written before stays."""


class RunError(RlvrBenchError):
    """A folder that is not a run, or a run that lacks what a stage needs."""


class NotInScorecard(RlvrBenchError, KeyError):
    """An estimate that a scorecard does not have, or has no value for: says why where that is known, and what there is."""

    __str__ = Exception.__str__  # a KeyError would show the message in quotes


class RunMismatch(RunError):
    """The run on disk was drawn differently from what is asked now; lists the fields that differ."""

    def __init__(self, where: str, differing: dict[str, tuple[object, object]]) -> None:
        fields = "; ".join(f"{name}: run has {old!r}, asked {new!r}" for name, (old, new) in differing.items())
        super().__init__(f"{where} holds another run ({fields}). Ask for the same, or choose another --out folder.")
        self.differing = differing


class RunLocked(RunError):
    """Another process is writing to this run."""

    def __init__(self, where: str, pid: int, host: str = "") -> None:
        on = f" on {host}" if host else ""
        super().__init__(f"{where} is being written by process {pid}{on}. Wait for it to end, or stop it.")
        self.pid = pid


def in_one_line(text: str, characters: int = 200) -> str:
    """The first line of a text that may come from anywhere: at most so many characters, all of them printable."""
    first = text[:10_000].strip().partition("\n")[0][: characters + 1]
    line = visible(first)
    return line if len(line) <= characters else f"{line[: characters - 3]}..."
