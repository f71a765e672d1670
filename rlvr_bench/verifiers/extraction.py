"""Taking the answer out of a response: once, by one explicit policy per task.

A policy is a string: ``boxed``, ``gsm8k``, ``choice``, ``code``, ``tagged:NAME``, ``regex:PATTERN``, ``auto`` or ``whole``.
All but ``regex:`` (whose pattern is the user's) take time linear in the text, whatever a model wrote, because they run in the
driver over every rollout. Every policy reads only what follows the last ``</think>``; a thought that was opened and not
closed is no answer, however many boxes it holds (math-verify accepts those).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers.choices import take_choice
from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["POLICIES", "after_thought", "open_policy"]

Policy = Callable[[str], Extraction]

_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_BOXES = ("\\boxed", "\\fbox")
# A backslash pair is one token: \{ and \} are printed braces, not grouping ones.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACES = re.compile(r"\s*")


def after_thought(response: str) -> str | None:
    """The part of a response that answers: after the last ``</think>``; None while a thought is still open."""
    close = response.rfind(_THINK_CLOSE)
    if response.find(_THINK_OPEN, close + 1) >= 0:
        return None
    return response if close < 0 else response[close + len(_THINK_CLOSE) :]


def _closing_brace(text: str, start: int, end: int) -> int:
    """The index of the brace that closes the one at ``start``, or -1 if it is not closed before ``end``."""
    first = text.find("}", start, end)
    if first >= 0 and text.find("{", start + 1, first) < 0 and text.find("\\", start, first) < 0:
        return first  # the common case, several times faster
    depth = 0
    for token in _BRACE.finditer(text, start, end):
        symbol = token.group()
        if symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return -1


def last_boxed(text: str) -> str | None:
    r"""The content of the last balanced, non-empty ``\boxed{}`` (or ``\fbox{}``), or None.

    Scans from the end. A box that is not closed before the end also keeps every earlier box from closing after it, so each
    stretch of text is read once: linear even on a flood of unclosed boxes. An empty box is a quoted instruction ("put
    your answer in \boxed{}"), not an answer.
    """
    limit = len(text)
    nearest = {name: text.rfind(name) for name in _BOXES}  # each kind is looked for only past the one last used
    while True:
        name = max(nearest, key=nearest.__getitem__)
        at = nearest[name]
        if at < 0:
            return None
        spaces = _SPACES.match(text, at + len(name), limit)
        brace = spaces.end() if spaces else at + len(name)
        if brace < limit and text[brace] == "{":
            close = _closing_brace(text, brace, limit)
            content = text[brace + 1 : close].strip() if close >= 0 else ""
            if content:
                return content
            if close < 0:
                limit = at
        nearest[name] = text.rfind(name, 0, at)


def _boxed(text: str) -> Extraction:
    candidates = text.count(_BOXES[0]) + text.count(_BOXES[1])
    return Extraction(answer=last_boxed(text) if candidates else None, candidates=candidates)


def _gsm8k(text: str) -> Extraction:
    """What follows the last ``####``, up to the end of its line: GSM8K's own answer mark."""
    at = text.rfind("####")
    if at < 0:
        return Extraction(answer=None)
    lines = text[at + 4 : at + 4 + 1000].strip().splitlines()
    answer = lines[0].strip().removesuffix(".").strip() if lines else ""
    return Extraction(answer=answer or None, candidates=text.count("####"))


def _tagged(tag: str) -> Policy:
    """The content of the last ``<tag>...</tag>``."""
    start, stop = f"<{tag}>", f"</{tag}>"

    def extract(text: str) -> Extraction:
        close = text.rfind(stop)
        open_ = text.rfind(start, 0, close) if close >= 0 else -1
        if open_ < 0:
            return Extraction(answer=None)
        return Extraction(answer=text[open_ + len(start) : close].strip() or None, candidates=text.count(stop))

    return extract


def _matched(pattern: str) -> Policy:
    """The last match of a regular expression: its group ``answer``, else its first group, else all of it."""
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise VerifierError(f"extraction policy 'regex:{pattern}' is not a regular expression: {error}") from error
    group: int | str = "answer" if "answer" in compiled.groupindex else min(compiled.groups, 1)

    def extract(text: str) -> Extraction:
        last, count = None, 0
        for last in compiled.finditer(text):  # noqa: B007  the last one is used below
            count += 1
        answer = last.group(group) if last else None
        return Extraction(answer=(answer or "").strip() or None, candidates=count)

    return extract


# A stated final answer ends at its line; the amount read is bounded, so a flood of "answer is" stays linear.
_STATED = re.compile(r"(?i)(?:final\s+answer|answer|result|solution)(?:\s+is|\s*:)[ \t]*:?[ \t]*([^\n]{1,300})")
_MATH_SPAN = re.compile(r"\$\$([^$]{1,500})\$\$|\$([^$\n]{1,500})\$|\\\(([^\n]{1,500}?)\\\)|\\\[([^$]{1,500}?)\\\]")
_LAST_NUMBER = re.compile(r"-?(?:\d[\d,]*\.?\d*|\.\d+)(?:/\d+|%|\s*\\?%)?")
_TAIL_CHARS = 4000


# "18. She started with 16 eggs": the answer is the first sentence. A decimal point has a digit behind it, not a blank.
_SENTENCE_END = re.compile(r"(?<=[\w)}\]$%*])[.!?](?=\s+[A-Z\"'(*])")


def _clean_statement(statement: str) -> str:
    """The mathematics of a stated answer: its only math span if there is one, else its first sentence, without emphasis."""
    statement = _SENTENCE_END.split(statement, maxsplit=1)[0]
    spans = [next(filter(None, groups), "") for groups in _MATH_SPAN.findall(statement)]
    if len(spans) == 1:
        return spans[0].strip()
    return statement.strip().strip("*_ ").removesuffix(".").strip("*_ ").strip()


def _auto(text: str) -> Extraction:
    """Boxed, else the last stated final answer, else the last expression, else the whole string."""
    boxed = _boxed(text)
    if boxed.answer is not None:
        return boxed
    tail = text[-_TAIL_CHARS:]
    stated = _STATED.findall(tail)
    if stated and _clean_statement(stated[-1]):
        return Extraction(answer=_clean_statement(stated[-1]), candidates=len(stated))
    whole = text.strip()
    spans = [next(filter(None, groups), "").strip() for groups in _MATH_SPAN.findall(tail)]
    if spans:
        return Extraction(answer=spans[-1] or None, candidates=len(spans))
    numbers = _LAST_NUMBER.findall(tail) if len(whole.split(None, 8)) > 8 else []
    if numbers:
        return Extraction(answer=numbers[-1].rstrip(",."), candidates=len(numbers))
    return Extraction(answer=whole or None, candidates=1 if whole else 0)


def _whole(text: str) -> Extraction:
    stripped = text.strip()
    return Extraction(answer=stripped or None, candidates=1 if stripped else 0)


_FENCE = re.compile(r"^[ \t]*```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n", re.MULTILINE)


def _code(text: str) -> Extraction:
    """The last fenced block marked python (else the last block of no language), else all of a response without fences.

    A block that is not closed was cut off; it counts, and will fail its tests if anything is missing.
    """
    fences = list(_FENCE.finditer(text + "\n"))
    if not fences:
        stripped = text.strip("\n").rstrip()
        return Extraction(answer=stripped if stripped.strip() else None, candidates=1 if stripped.strip() else 0)
    opening: re.Match[str] | None = None
    blocks: list[tuple[str, str]] = []
    for fence in fences:
        if opening is None:
            opening = fence
        elif not fence[1]:
            blocks.append((opening[1].lower(), text[opening.end() : fence.start()]))
            opening = None
    if opening is not None:
        blocks.append((opening[1].lower(), text[opening.end() :]))
    for wanted in (("python", "python3", "py"), ("",)):
        for language, block in reversed(blocks):
            if language in wanted and block.strip():
                return Extraction(answer=block.rstrip(), candidates=len(blocks))
    return Extraction(answer=None, candidates=len(blocks))


POLICIES: dict[str, Policy] = {
    "auto": _auto,
    "boxed": _boxed,
    "choice": functools.partial(take_choice, last_boxed=last_boxed),
    "code": _code,
    "gsm8k": _gsm8k,
    "whole": _whole,
}
_PARAMETRIC: dict[str, Callable[[str], Policy]] = {"regex": _matched, "tagged": _tagged}


def open_policy(spec: str) -> Policy:
    """The extraction a policy string names; ``regex:PATTERN`` and ``tagged:NAME`` take a parameter.

    Raises VerifierError, listing the policies there are, for any other name.
    """
    name, colon, parameter = spec.partition(":")
    if colon and parameter and name in _PARAMETRIC:
        take = _PARAMETRIC[name](parameter)
    elif spec in POLICIES:
        take = POLICIES[spec]
    else:
        known = ", ".join([*sorted(POLICIES), "regex:PATTERN", "tagged:NAME"])
        raise VerifierError(f"unknown extraction policy {spec!r}. Known: {known}.")

    def extract(response: str) -> Extraction:
        text = after_thought(response)
        return Extraction(answer=None, unfinished_thought=True) if text is None else take(text)

    return extract
