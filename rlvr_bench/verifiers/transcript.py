"""The form of a response whose code ran while it was written: fenced blocks, and what they printed.

A call is a block between a line ```` ```python ```` and a line ```` ``` ````. The block's output follows in a block of the
language ``output``. Backticks in the output are replaced, so that it cannot end its block.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.protocol import Extraction, Verifier

__all__ = ["STOP", "StatedAnswers", "Turn", "call_ends", "output_block", "read_turn", "statements"]

STOP = "\n```\n"
"""Where a model must stop: after a line that closes (or opens) a block."""

_PYTHON = frozenset({"python", "python3", "py"})
_NOT_STATED = _PYTHON | {"output"}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a model wants to do next: ``call`` a block, ``go_on`` writing, or nothing (``done``).

    ``text`` is the response so far, with its last block closed.
    """

    kind: Literal["call", "go_on", "done"]
    text: str
    code: str = ""


def read_turn(text: str) -> Turn:
    """What the response ``text`` wants, given that the model stopped here by itself or at ``STOP``.

    A server may have removed the closing line: a block that is still open ends here.
    """
    language: str | None = None
    code: list[str] = []
    closed: tuple[str, str] | None = None  # language and content of a block that only white space follows
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
    if language == "" and not "".join(code).strip():  # the model stopped at a line that opens a block, not at its end
        return Turn(kind="go_on" if text.endswith(STOP) else "done", text=text)
    if language is not None:
        text, closed = text.rstrip("\n") + STOP, (language, "\n".join(code))
    elif closed is not None and not text.endswith("\n"):
        text += "\n"
    if closed is not None and closed[0] in _PYTHON:
        return Turn(kind="call", text=text, code=closed[1])
    return Turn(kind="go_on" if language is not None or text.endswith(STOP) else "done", text=text)


def output_block(output: str) -> str:
    """The output of a call, as the model sees it and as it is stored."""
    body = re.sub("`{3,}", lambda ticks: "'" * len(ticks[0]), output).strip("\n")
    return f"```output\n{body}\n```\n"


def call_ends(text: str) -> list[int]:
    """Where the output of each call begins in a transcript: the offset of its block, which directly follows the code."""
    ends = []
    language: str | None = None
    is_code_closed = False  # by the last line that is not blank
    at = 0
    for line in text.split("\n"):
        if language is None:
            if line.startswith("```"):
                language = line[3:].strip().lower()
                if is_code_closed and language == "output":
                    ends.append(at)
            is_code_closed = is_code_closed and not line.strip()
        elif line.rstrip() == "```":
            is_code_closed = language in _PYTHON
            language = None
        at += len(line) + 1
    return ends


def statements(text: str) -> str:
    """The response without its ``python`` and ``output`` blocks, whoever wrote them: the text that the model stated.

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
    """A verifier that extracts from the model's statements only, without code and output; otherwise the inner verifier."""

    verifier: Verifier

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def version(self) -> str:
        return self.verifier.version

    @property
    def options(self) -> Mapping[str, object]:
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
