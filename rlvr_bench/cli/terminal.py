"""All text for the terminal goes through this module, which prints control characters as visible escapes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

__all__ = ["Terminal", "plain", "say", "styled", "write_json", "write_out"]

# What a terminal would act on: C0 and C1 controls with the escape character, and marks that change text direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal(Console):
    """A console for text from models, servers, files and names: markup in it is printed as it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape first, because rich removes some of the characters."""
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape everything that is printed, strings or not; control codes of the console itself are not changed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def plain(text: str) -> str:
    """Text with control characters as Python escapes; line ends and tabs are kept."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(plain(message.replace("\n", "\\n")) + "\n")


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line made of strings and (string, style) pairs, escaped."""
    return Text.assemble(*(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def write_json(content: bytes) -> None:
    """Write JSON to standard output; characters that a terminal would act on become JSON escapes."""
    sys.stdout.write(_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", content.decode()))


def write_out(content: str) -> None:
    """Write a file's content to standard output: unchanged to a pipe, with control characters escaped on a terminal."""
    sys.stdout.write(plain(content) if sys.stdout.isatty() else content)
