r"""The end of a response's thoughts, where its answer starts: the marks that models put around thoughts.

A mark counts where a model would write it: at the start of a line, or right after a finished piece of text. A mark that a
sentence mentions ("use <think> tags", `` `<think>` ``) is an ordinary word.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["THOUGHTS", "Thought", "after_thought", "ends_in_thought", "thought_of"]

Thought = Literal["none", "open", "closed", "closed only"]
THOUGHTS: tuple[Thought, ...] = ("none", "open", "closed", "closed only")

_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
)
_CHANNEL, _FINAL = "<|channel|>analysis", "<|channel|>final<|message|>"
_FINISHED = ".!?}>)]*$。"
# Special tokens that a sampler left at the end of a response.
_END_TOKENS = re.compile(r"(?:\s*(?:<[|｜][\w▁]{1,40}[|｜]>|</s>|<eos>|<end_of_turn>))+\s*\Z")


def _opens(text: str, at: int, length: int) -> bool:
    """Whether the mark at ``at`` opens a thought: it starts a line, or follows a finished piece of text."""
    line = text.rfind("\n", max(0, at - 40), at) + 1 or max(0, at - 40)
    before = text[line:at]
    if line > at - 40 and not before.strip():
        return True
    return before[-1:] in _FINISHED and text[at + length : at + length + 1] not in ("`", '"', "'", "”", "’")


def _is_open(text: str, mark: str, start: int) -> bool:
    at = text.find(mark, start)
    while at >= 0:
        if _opens(text, at, len(mark)):
            return True
        at = text.find(mark, at + 1)
    return False


def after_thought(response: str) -> str | None:
    """The text after the last closed thought; None while a thought is still open."""
    if "<" not in response and "[THINK]" not in response and "◁" not in response:
        return response  # the quick way for almost every response without marks
    end = _END_TOKENS.search(response, max(0, len(response) - 200))
    text = response[: end.start()] if end else response
    final = text.rfind(_FINAL)
    start = final + len(_FINAL) if final >= 0 else 0
    for _, close in _PAIRS:
        at = text.rfind(close, start)
        start = at + len(close) if at >= 0 else start
    if final < 0 and text.startswith(_CHANNEL):
        return None
    if any(_is_open(text, mark, start) for mark, _ in _PAIRS):
        return None
    return text[start:]


def thought_of(response: str) -> Thought:
    """What a response does with its thought: "open" where the last one is not closed, "none" where it has no marks.

    "closed only": it closes a thought that it did not open, so its prompt had opened one.
    """
    if after_thought(response) is None:
        return "open"
    if _FINAL in response:
        return "closed"
    ends = [(response.find(close), mark) for mark, close in _PAIRS if close in response]
    if not ends:
        return "none"
    at, mark = min(ends)
    return "closed" if mark in response[:at] else "closed only"


def ends_in_thought(prompt: str) -> bool:
    """Whether a prompt, as the model sees it, ends with a thought that it opens."""
    return prompt.rstrip().endswith(tuple(mark for mark, _ in _PAIRS))
