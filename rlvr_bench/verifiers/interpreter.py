"""A Python interpreter for a model to use while it reasons: one sandbox per response; variables stay between calls.

The sandbox is the one that judges programs (`sandbox`), and it can read the packages installed here. A call that takes too
long, or ends its process, loses the interpreter and all its variables. Its output says so, and the next call starts a fresh
interpreter.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

import msgspec

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits

__all__ = ["Interpreter", "Printed"]

_START_S = 60.0
_PATIENCE = 5  # elapsed time a call may take, in multiples of its CPU time
_LOST = {
    "timeout": "TimeoutError: the call took longer than {seconds:g} s and was stopped. All variables are lost.",
    "crashed": "The interpreter ended. All variables are lost.",
    "protocol": "The interpreter was damaged and was stopped. All variables are lost.",
}


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a call: ``text`` as the model sees it, whether it failed, and whether all variables are lost."""

    text: str
    failed: bool
    lost: bool = False


class Interpreter:
    """A context manager; ``run`` may be called any number of times, from one thread at a time.

    ``seconds`` is the CPU time per call (a fifth of the elapsed time), ``calls`` the largest number of calls, ``most`` the
    number of characters of output that are returned, ``seed`` the seed of Python's ``random``.
    """

    def __init__(self, *, seconds: float, calls: int, most: int, seed: int) -> None:
        self._seconds, self._most, self._seed = seconds, most, seed
        self._limits = SandboxLimits(cpu_s=(seconds + 2) * calls)
        self._open = contextlib.ExitStack()
        self._sandbox: Sandbox | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and everything in it."""
        self._sandbox = None
        self._open.close()

    def run(self, code: str) -> Printed:
        """Run a block as a notebook would: returns what it prints, then the value of a last line that is an expression.

        The code's errors are part of the result; raises VerifierError only where there is no sandbox.
        """
        self._number += 1
        message = {"op": "interact", "code": code, "cpu_s": self._seconds, "most": self._most, "call": self._number}
        try:
            reply = (self._sandbox or self._start()).request(message, _PATIENCE * self._seconds + 1.0)
            output = reply.get("output")
            if reply.get("call") != self._number or not isinstance(output, str):
                raise SampleFailure("protocol")
        except SampleFailure as failure:
            self.close()
            text = _LOST.get(failure.kind, _LOST["crashed"]).format(seconds=self._seconds)
            return Printed(text=text, failed=True, lost=True)
        text = output[: 2 * self._most].encode("utf-8", "replace").decode("utf-8")
        return Printed(text=text, failed=bool(reply.get("failed")))

    def _start(self) -> Sandbox:
        try:
            sandbox = self._open.enter_context(Sandbox(self._limits, packages=True))
        except OSError as error:
            raise VerifierError(f"cannot start a sandbox for model code: {error.strerror or error}") from error
        sandbox.request({"op": "load", "code": f"import random\nrandom.seed({self._seed})\ndel random"}, _START_S)
        self._sandbox = sandbox
        return sandbox
