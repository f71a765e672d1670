"""The exceptions: every message says what is wrong, where, and how to mend it, in one line.

All of them are user errors: the command line prints the message without a traceback and exits with status 2.
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
    r"""``text`` with control characters and invisible characters as escapes (``\x1b``)."""
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
    """An argument with a value that is not allowed. The message names the argument, the value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} is {'missing' if value is None else repr(value)}: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class UnknownName(RlvrBenchError, LookupError):
    """An unknown name of a model, task, engine, prompt or verifier. The message has the known names and the nearest one."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        tail = f" {hint}" if hint else ""
        super().__init__(f"unknown {what} {name!r}.{guess} Known: {', '.join(choices) or 'none'}.{tail}")
        self.what, self.name, self.known = what, name, choices


class DataError(RlvrBenchError):
    """A data set or data file that cannot be used. The message names file, line and field, or the problem id."""


class TaskError(RlvrBenchError):
    """A task file that cannot be loaded, or whose content differs from the pinned one."""


class ModelError(RlvrBenchError):
    """A checkpoint that cannot be found, loaded, or used with the options given."""


class EngineError(RlvrBenchError):
    """An engine that is not installed, does not start, or fails while sampling."""


class VerifierError(RlvrBenchError):
    """A verifier that does not exist, has a bad option, or cannot run on this machine."""


class GoldError(VerifierError):
    """A gold answer that the verifier cannot use. Callers that know the problem add its id."""


class StorageError(RlvrBenchError):
    """A disk or storage that fails: full, read-only, not permitted, not reachable. What was written before stays."""


class RunError(RlvrBenchError):
    """A folder that is not a run, or a run that lacks what a stage needs."""


class NotInScorecard(RlvrBenchError, KeyError):
    """An estimate that a scorecard does not have, or has no value for: says why where that is known, and what there is."""

    __str__ = Exception.__str__  # a KeyError would show the message in quotes


class RunMismatch(RunError):
    """The run on disk was drawn with other settings. The message lists the fields that differ."""

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
    """The first line of any text, with at most ``characters`` characters, all printable."""
    first = text[:10_000].strip().partition("\n")[0][: characters + 1]
    line = visible(first)
    return line if len(line) <= characters else f"{line[: characters - 3]}..."
