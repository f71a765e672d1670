"""Taking the answer out of a response, by one explicit policy per task.

A policy is a string: ``boxed``, ``gsm8k``, ``choice``, ``code``, ``tagged:NAME``, ``regex:PATTERN``, ``auto`` or ``whole``.
All but ``regex:`` (a user's pattern) take time linear in the text, whatever a model wrote, because they run in the main process
over every rollout. Every policy reads only the text after the last ``</think>``. A thought that was opened and not closed
gives no answer, whatever boxes it holds (math-verify accepts those).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers.choices import take_choice
from rlvr_bench.verifiers.extraction.boxes import last_boxed, read_boxes
from rlvr_bench.verifiers.extraction.runs import is_same_number
from rlvr_bench.verifiers.extraction.statements import answer_of_line, conclude
from rlvr_bench.verifiers.extraction.thoughts import after_thought
from rlvr_bench.verifiers.programs import take_program
from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["POLICIES", "open_policy"]

Policy = Callable[[str], Extraction]


def _boxed(text: str) -> Extraction:
    contents, written = read_boxes(text)
    if len(contents) == 1 or (contents and all(is_same_number(contents[0], other) for other in contents[1:])):
        return Extraction(answer=contents[0], candidates=written)
    return Extraction(answer=", ".join(contents) or None, candidates=written, joined=bool(contents))


_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*\n?([^\n]{0,1000})")


def _gsm8k(text: str) -> Extraction:
    """The value after ``####``, GSM8K's answer mark: the last one that is a value, without the rest of the line."""
    tail = text[-20_000:] if "####" in text[-20_000:] else text
    lines = [match[1].strip() for match in _HASHES.finditer(tail)][-20:]
    for line in reversed(lines):
        answer = answer_of_line(line)
        if answer:
            return Extraction(answer=answer, candidates=text.count("####"))
    plain = next((line.removesuffix(".").strip() for line in reversed(lines) if line), None)
    return Extraction(answer=plain or None, candidates=text.count("####"))


_STATED_START = re.compile(r"(?i)\W*(?:so |therefore,? |thus,? )?(?:the |my )?(?:final |correct )?answer\b")


def _plain(answer: str) -> str | None:
    """The answer in a tag or a group, without unmatched emphasis; of a sentence that states an answer, that answer."""
    if _STATED_START.match(answer):
        answer = last_boxed(answer) or answer_of_line(answer) or answer
    text = answer.strip()
    for mark in ("**", "__", "`"):
        if text.count(mark) == 1 and (text.startswith(mark) or text.endswith(mark)):
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text or None


def _tagged(tag: str) -> Policy:
    """The content of the last ``<tag>...</tag>``."""
    start, stop = f"<{tag}>", f"</{tag}>"

    def extract(text: str) -> Extraction:
        close = text.rfind(stop)
        open_ = text.rfind(start, 0, close) if close >= 0 else -1
        if open_ < 0:
            return Extraction(answer=None)
        return Extraction(answer=_plain(text[open_ + len(start) : close]), candidates=text.count(stop))

    return extract


def _matched(pattern: str) -> Policy:
    """The last match of a regular expression: its group ``answer``, else its first group."""
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise VerifierError(f"extraction policy 'regex:{pattern}' is not a regular expression: {error}") from error
    if not compiled.groups:
        raise VerifierError(
            f"extraction policy 'regex:{pattern}' has no group: put the part that is the answer in parentheses, "
            f"e.g. 'regex:Answer: (.+)', or all of it: 'regex:({pattern})'"
        )
    group: int | str = "answer" if "answer" in compiled.groupindex else 1

    def extract(text: str) -> Extraction:
        last, count = None, 0
        for match in compiled.finditer(text):
            last, count = match, count + 1
        answer = last.group(group) if last else None
        return Extraction(answer=_plain(answer or ""), candidates=count)

    return extract


def _auto(text: str) -> Extraction:
    """The last box or boxes; else the last conclusion; else the last complete expression; else a short reply."""
    boxed = _boxed(text)
    if boxed.answer is not None:
        return boxed
    answer, candidates = conclude(text)
    return Extraction(answer=answer, candidates=candidates)


def _whole(text: str) -> Extraction:
    stripped = text.strip()
    return Extraction(answer=stripped or None, candidates=1 if stripped else 0)


POLICIES: dict[str, Policy] = {
    "auto": _auto,
    "boxed": _boxed,
    "choice": functools.partial(take_choice, last_boxed=last_boxed),
    "code": take_program,
    "gsm8k": _gsm8k,
    "whole": _whole,
}
_PARAMETRIC: dict[str, Callable[[str], Policy]] = {"regex": _matched, "tagged": _tagged}


def _known() -> str:
    return ", ".join([*sorted(POLICIES), "regex:PATTERN", "tagged:NAME"])


def open_policy(spec: str) -> Policy:
    """The extraction function of a policy; ``regex:PATTERN`` and ``tagged:NAME`` have a parameter.

    Raises VerifierError, which lists the policies, for any other name.
    """
    if not isinstance(spec, str):
        raise VerifierError(f"extraction policy {spec!r} is not a text. Known: {_known()}.")
    name, colon, parameter = spec.partition(":")
    if colon and parameter and name in _PARAMETRIC:
        take = _PARAMETRIC[name](parameter)
    elif spec in POLICIES:
        take = POLICIES[spec]
    else:
        raise VerifierError(f"unknown extraction policy {spec!r}. Known: {_known()}.")

    def extract(response: str) -> Extraction:
        text = after_thought(response)
        return Extraction(answer=None, unfinished_thought=True) if text is None else take(text)

    return extract
