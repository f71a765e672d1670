"""What a response looks like that ran code while it was written: fenced blocks, and what they printed.

A call is a block between a line ```` ```python ```` and a line ```` ``` ````; what it printed follows in a block of the
language ``output``. Backticks in the output are replaced, so that it cannot end its own block.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.protocol import Extraction, Verifier

__all__ = ["STOP", "StatedAnswers", "Turn", "output_block", "read_turn", "statements"]

STOP = "\n```\n"
"""Where a model has to stop: behind a line that closes (or opens) a block."""

_PYTHON = frozenset({"python", "python3", "py"})
_NOT_STATED = _PYTHON | {"output"}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a model wants after its last words: ``call`` a block to run, ``go_on`` to write on, or nothing (it is done).

    ``text`` is the response up to here, its last block closed.
    """

    kind: Literal["call", "go_on", "done"]
    text: str
    code: str = ""


def read_turn(text: str) -> Turn:
    """What the response ``text`` wants, given that the model stopped here by itself or at ``STOP``.

    A server may have cut the closing line off: a block that is still open is taken to end here.
    """
    language: str | None = None
    code: list[str] = []
    closed: tuple[str, str] | None = None  # language and content of a block that nothing but space follows
    for line in text.split("\n"):
        if language is None:
            if line.startswith("```"):
                language, code, closed = line[3:].strip().lower(), [], None
            elif line.strip():
                closed = None
        elif line.rstrip() == "```":
            closed = (language, "\n".join(code))
            language = None
        else:
            code.append(line)
    if language == "" and not "".join(code).strip():  # a line that opens a block stopped the model, not one that closes
        return Turn(kind="go_on" if text.endswith(STOP) else "done", text=text)
    if language is not None:
        text, closed = text.rstrip("\n") + STOP, (language, "\n".join(code))
    elif closed is not None and not text.endswith("\n"):
        text += "\n"
    if closed is not None and closed[0] in _PYTHON:
        return Turn(kind="call", text=text, code=closed[1])
    return Turn(kind="go_on" if language is not None or text.endswith(STOP) else "done", text=text)


def output_block(output: str) -> str:
    """What a call gave back, as the model sees it and as it is stored."""
    body = re.sub("`{3,}", lambda ticks: "'" * len(ticks[0]), output).strip("\n")
    return f"```output\n{body}\n```\n"


def statements(text: str) -> str:
    """The response without its ``python`` and ``output`` blocks, whoever wrote them: what the model itself stated.

    A block that is never closed reaches to the end. Linear in the text.
    """
    stated: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside:
            inside = line.rstrip() != "```"
        elif line.startswith("```") and line[3:].strip().lower() in _NOT_STATED:
            inside = True
        else:
            stated.append(line)
    return "\n".join(stated)


@dataclasses.dataclass(frozen=True)
class StatedAnswers:
    """A verifier that reads what the model stated, and neither its code nor what that printed; otherwise the one within."""

    verifier: Verifier

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def version(self) -> str:
        return self.verifier.version

    @property
    def options(self) -> Mapping[str, Any]:
        return self.verifier.options

    @property
    def warm_before_fork(self) -> bool:
        return bool(getattr(self.verifier, "warm_before_fork", False))

    @property
    def wall_s(self) -> float:
        return float(getattr(self.verifier, "wall_s", 0.0))

    def warm_up(self) -> None:
        self.verifier.warm_up()

    def extract(self, response: str) -> Extraction:
        return self.verifier.extract(statements(response))

    def read_gold(self, answer: str) -> str:
        return self.verifier.read_gold(answer)

    def key(self, answer: str) -> str:
        return self.verifier.key(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        return self.verifier.verify(answer, problem)
