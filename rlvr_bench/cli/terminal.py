"""The one way text reaches the terminal: as it is, with control characters shown and never obeyed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

__all__ = ["Terminal", "plain", "say", "styled", "write_json", "write_out"]

# What a terminal obeys: C0 and C1 controls with the escape character, and marks that turn the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal(Console):
    """A console for text that comes from models, servers, files and names: markup in it means nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes before rich takes some of the characters away."""
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed passes here, made of strings or not; the console's own controls are left alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def plain(text: str) -> str:
    """Text with control characters as escapes of Python; line ends and tabs stay."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(plain(message.replace("\n", "\\n")) + "\n")


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of strings and of (string, style) pairs."""
    return Text.assemble(*(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def write_json(content: bytes) -> None:
    """JSON on standard output; what a terminal would obey is written as JSON's own escapes."""
    sys.stdout.write(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", content.decode()))


def write_out(content: str) -> None:
    """A file's content on standard output: as it is into a pipe, with control characters shown on a terminal."""
    sys.stdout.write(plain(content) if sys.stdout.isatty() else content)
