"""A conversation with one sample in the sandbox: its functions and objects are used as if they were in this process."""

from __future__ import annotations

import builtins
import collections
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox
from rlvr_bench.verifiers.values import decode, encode

__all__ = ["Remote", "Session", "proxy"]


class _SampleRaisedError(Exception):
    """The sample raised an exception that is not a built-in one."""


class Remote:
    """An object in the sandbox: attributes and calls are forwarded, and it equals only itself."""

    def __init__(self, session: Session, number: int) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # NumPy would read our memory at the address in ``__array_interface__``
            raise AttributeError(name)
        return self._session.attribute(self._number, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._session.set_attribute(self._number, name, value)

    def __call__(self, *arguments: object, **named: object) -> object:
        return self._session.call([], arguments, named, on=self._number)


class Session:
    """Requests to one sample, each within the time left for the whole sample (``wall_s`` in all)."""

    def __init__(self, sandbox: Sandbox, wall_s: float) -> None:
        self._sandbox, self._deadline = sandbox, time.monotonic() + wall_s

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request, within its ``wall_s`` if it has one.

        Raises the exception that the sample raised, or SampleFailure where it did not reply.
        """
        left = self._deadline - time.monotonic()
        reply = self._sandbox.request(message, min(left, message.get("wall_s", left)))
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]), None)
            known = (
                isinstance(kind, type)
                and issubclass(kind, Exception)
                and not issubclass(kind, (AssertionError, MemoryError))
            )
            if known and kind is not None:
                try:
                    raised = kind(str(reply.get("text", "")))
                except TypeError:  # UnicodeDecodeError and its like need more arguments
                    raised = _SampleRaisedError(reply["raised"])
                raise raised
            raise _SampleRaisedError(str(reply["raised"]))
        return reply

    def load(self, code: str, **more: object) -> set[str]:
        """Run code in the sample's namespace; returns the names of all callables in it."""
        names = self.ask({"op": "load", "code": code, **more}).get("names")
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    def call(
        self, path: list[str], arguments: Iterable[object], named: Mapping[str, object], **where: object
    ) -> object:
        given = list(arguments)
        message = {
            "op": "call",
            "path": path,
            "args": [self._encode(argument) for argument in given],
            "named": {name: self._encode(argument) for name, argument in named.items()},
            **where,
        }
        reply = self.ask(message)
        for ours, theirs in zip(given, reply.get("args", ()), strict=False):
            _write_back(ours, self._decode(theirs))
        return self._decode(reply.get("value"))

    def attribute(self, number: int, name: str) -> object:
        return self._decode(self.ask({"op": "attribute", "on": number, "name": name}).get("value"))

    def set_attribute(self, number: int, name: str, value: object) -> None:
        self.ask({"op": "attribute", "on": number, "name": name, "set": self._encode(value)})

    def _encode(self, value: object) -> object:
        return encode(value, _number_of)

    def _decode(self, data: object) -> object:
        try:
            return decode(data, lambda number: Remote(self, int(number)))
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise SampleFailure("protocol") from error


def _number_of(value: object) -> int:
    if isinstance(value, Remote):
        return int(object.__getattribute__(value, "_number"))
    raise VerifierError(f"a test passes a {type(value).__name__}, which cannot be sent to the sandbox")


def _write_back(ours: Any, theirs: Any) -> None:
    """Copy the sample's changes to a mutable argument (sorting in place and the like) to the caller's object."""
    if type(ours) is not type(theirs):
        return
    if isinstance(ours, list):
        ours[:] = theirs
    elif isinstance(ours, (dict, set)):
        ours.clear()
        ours.update(theirs)
    elif isinstance(ours, collections.deque):
        ours.clear()
        ours.extend(theirs)
    elif type(ours).__module__ == "numpy" and ours.shape == theirs.shape and ours.shape:
        ours[...] = theirs


def proxy(session: Session, name: str) -> Callable[..., object]:
    """A function that calls the sample's function of this name."""

    def candidate(*arguments: object, **named: object) -> object:
        return session.call([name], arguments, named)

    candidate.__name__ = name
    return candidate
