"""Lists and objects in the cells of a table: JSON, or as Python prints them, which is what pandas writes to CSV."""

from __future__ import annotations

import json
import re

import msgspec

__all__ = ["cell_value"]

_LARGEST = 64 * 2**20
_ANYTHING: msgspec.json.Decoder[object] = msgspec.json.Decoder()
_STRING = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_TOKEN = re.compile(rf"(?P<string>{_STRING})|(?P<word>[A-Za-z_]+)|[^A-Za-z_'\"]+", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:[xuU](?P<code>(?<=x)[0-9a-fA-F]{2}|(?<=u)[0-9a-fA-F]{4}|(?<=U)[0-9a-fA-F]{8})"
    r"|(?P<letter>.))",
    re.DOTALL,
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_WORDS = {
    "True": "true",
    "False": "false",
    "true": "true",
    "false": "false",
    **dict.fromkeys(("None", "null", "nan", "NaN"), "null"),
}


def cell_value(text: str) -> list[object] | dict[str, object]:
    """The list or object that a text holds; NaN is null. Raises ValueError where it holds none."""
    if text.lstrip()[:1] not in ("{", "[") or len(text) > _LARGEST:
        raise ValueError("neither a list nor an object")
    try:
        value = _ANYTHING.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        value = _printed(text)
    if not isinstance(value, list | dict):
        raise ValueError("neither a list nor an object")
    return value


def _printed(text: str) -> object:
    """The value that Python printed, rewritten as JSON: Python's own parser is not safe against deep nesting."""
    pieces = []
    at = 0
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            break
        at, piece = match.end(), match.group()
        if match["string"] is not None:
            piece = json.dumps(_ESCAPE.sub(_character, piece[1:-1]), ensure_ascii=False)
        elif match["word"] is not None and piece not in ("e", "E"):  # the exponent of a number
            piece = _WORDS.get(piece, piece)
        pieces.append(piece)
    try:
        if at == len(text):
            return _ANYTHING.decode("".join(pieces))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        pass
    raise ValueError("neither JSON nor a list that Python printed")


def _character(escape: re.Match[str]) -> str:
    """The character that Python's escape means; an unknown escape is kept as it is."""
    if escape["code"] is not None:
        code = int(escape["code"], 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "?"
    return _ESCAPED.get(escape["letter"], escape[0])
