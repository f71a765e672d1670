"""Signs of low-quality text in a response: broken format, loops, a second language. The rules are our own.

The papers that count such responses (arXiv 2508.02260; 2508.07534) publish no rules. ``RULES_VERSION`` names these:
rates of different versions do not compare. Every rule takes time linear in the text.
"""

from __future__ import annotations

import re
import zlib

import msgspec
import numpy as np

__all__ = ["FLAGS", "RULES_VERSION", "TextFlags", "text_flags"]

RULES_VERSION = "1"

_MANY_BOXES = 5
_LONG_RUN = 500
_LOOP_LEAST_BYTES = 1000
_LOOP_RATIO = 0.1  # prose and worked mathematics compress to 0.25-0.5 of their size, a loop to less than 0.05
_LATIN_SHARE = 0.5
_TEMPLATE_TOKENS = re.compile(r"<\|(?:im_start|im_end|endoftext|begin_of_text|start_header_id|eot_id)\|>")
_NEXT_TURN = re.compile(r"\n(?:Human|User|Assistant|Question) ?:")
_LATIN = re.compile(r"[A-Za-z\u00C0-\u024F]")
# Cyrillic, Hebrew, Arabic, Devanagari, Thai, kana, CJK ideographs, Hangul. Not Greek: mathematics uses it.
_OTHER_SCRIPT = re.compile(
    r"[\u0400-\u04FF\u0590-\u05FF\u0600-\u06FF\u0900-\u097F\u0E00-\u0E7F\u3040-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uAC00-\uD7AF]"
)


class TextFlags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of one response."""

    format_violation: bool
    repetition: bool
    language_mixing: bool


FLAGS = TextFlags.__struct_fields__


def text_flags(text: str) -> TextFlags:
    """Apply every rule to one response.

    ``format_violation``: five or more boxes; a thought that is opened and not closed, or closed twice; a token of a chat
    template; or a new turn of the dialogue ("Question:" at the start of a line after the first). ``repetition``: one
    character 500 times in a row, or a text of at least 1,000 bytes that compresses (zlib) to less than a tenth: a loop.
    ``language_mixing``: a text mostly in Latin letters that has a letter of another script. Greek letters do not count
    (mathematics uses them), and answers that are not in a Latin script are never flagged.
    """
    return TextFlags(
        format_violation=_breaks_format(text), repetition=_loops(text), language_mixing=_mixes_languages(text)
    )


def _breaks_format(text: str) -> bool:
    opened, closed = text.count("<think>"), text.count("</think>")
    return (
        text.count("boxed{") >= _MANY_BOXES
        or opened > closed
        or closed > 1
        or _TEMPLATE_TOKENS.search(text) is not None
        or _NEXT_TURN.search(text) is not None
    )


def _loops(text: str) -> bool:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) < _LONG_RUN:
        return False
    if _has_long_run(text):
        return True
    return len(raw) >= _LOOP_LEAST_BYTES and len(zlib.compress(raw, 1)) < _LOOP_RATIO * len(raw)


def _has_long_run(text: str) -> bool:
    """Whether one character comes 500 times in a row. Such a run fills one of the blocks of half that length."""
    size = _LONG_RUN // 2
    blocks = (text[start : start + size] for start in range(0, len(text) - size + 1, size))
    if not any(block == block[0] * size for block in blocks):
        return False
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    changes = np.flatnonzero(np.diff(letters, prepend=letters[0] + 1, append=letters[-1] + 1))
    return int(np.diff(changes).max()) >= _LONG_RUN


def _mixes_languages(text: str) -> bool:
    if text.isascii() or _OTHER_SCRIPT.search(text) is None:
        return False
    latin, other = len(_LATIN.findall(text)), len(_OTHER_SCRIPT.findall(text))
    return latin > _LATIN_SHARE * (latin + other)
