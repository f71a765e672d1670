"""Splits one JSON value of any size into its elements, without reading it whole: it follows quotes and brackets only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.lines import MAX_LINE_BYTES, decode

__all__ = ["JsonScanner"]

_CHUNK = 2**20
_BACKSLASH = ord("\\")
_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"[ \t\r\n]*+")
_MARK = re.compile(rb'["{}\[\]]')
_SCALAR_END = re.compile(rb"[ \t\r\n,\]}]")
_STEPS = {b'"': 0, b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_KEY: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)


class JsonScanner:
    """Reads a stream from its first byte that is not blank. Memory holds one element, of at most 64 MB, and one chunk.

    Every method raises DataError, with file and line, where the brackets do not fit or the stream ends too early.
    """

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file = file
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._line, self._counted = 1, 0  # lines before _counted, which is an offset in the buffer

    @property
    def where(self) -> str:
        """The file and the line of the next byte."""
        self._line += self._buffer.count(b"\n", self._counted, self._at)
        self._counted = self._at
        return f"{self.file}, line {self._line}"

    def peek(self) -> bytes:
        """The next byte that is not blank; empty at the end of the stream."""
        while True:
            match = _BLANK.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._more(self._at):
                return b""

    def skip_mark(self) -> None:
        """Pass over a byte order mark, which some programs write at the start of a file."""
        self.peek()
        if self._buffer.startswith(_BOM):
            self._at = len(_BOM)

    def elements(self) -> Iterator[tuple[str, bytes]]:
        """The elements of the array that begins here, each with its address."""
        self._take(b"[")
        number = 0
        while self.peek() != b"]":
            if number:
                self._take(b",")
            number += 1
            self.peek()
            where = f"{self.where}, element {number}"
            yield where, self.value()
        self._take(b"]")

    def members(self) -> Iterator[tuple[str, str]]:
        """The keys of the object that begins here, each with its address. The caller reads or skips the value of each."""
        self._take(b"{")
        first = True
        while self.peek() != b"}":
            if not first:
                self._take(b",")
            first = False
            self.peek()
            where = self.where
            if self.peek() != b'"':
                raise self._broken("a key is expected")
            key = decode(where, self.value(), _KEY)
            self._take(b":")
            self.peek()
            yield where, key
        self._take(b"}")

    def value(self) -> bytes:
        """The bytes of the value that begins here."""
        self.peek()
        return self._scan(keep=True)

    def skip(self) -> None:
        """Pass over the value that begins here, of whatever size."""
        self.peek()
        self._scan(keep=False)

    def end(self) -> None:
        """Raises DataError where something comes after the value."""
        if self.peek():
            raise self._broken("something comes after the end of the first value; write one value a line")

    def _take(self, expected: bytes) -> None:
        if self.peek() != expected:
            raise self._broken(f"{expected.decode()!r} is expected")
        self._at += 1

    def _scan(self, *, keep: bool) -> bytes:
        """Move past the value at ``_at``; its bytes, or an empty string."""
        start = at = self._at
        is_scalar = self._buffer[at : at + 1] not in _STEPS
        depth, in_text, ended = 0, False, False
        while not ended:
            if is_scalar:
                match = _SCALAR_END.search(self._buffer, at)
                at, ended = (match.start(), True) if match else (len(self._buffer), False)
            else:
                at, depth, in_text, ended = self._follow(at, depth, in_text)
            if keep and at - start > MAX_LINE_BYTES:
                raise DataError(f"{self.where}: one value of more than {MAX_LINE_BYTES // 2**20} MB")
            if not ended:
                dropped = start if keep else at
                start, at = start - dropped, at - dropped
                if not self._more(dropped):
                    ended = is_scalar
                    if not ended:
                        raise self._broken("it ends within a value")
        self._at = at
        return self._buffer[start:at] if keep else b""

    def _follow(self, at: int, depth: int, in_text: bool) -> tuple[int, int, bool, bool]:
        """Go on in the buffer: offset, depth of brackets, whether a text is open, and whether the value has ended."""
        while at < len(self._buffer):
            if in_text:
                quote = self._buffer.find(b'"', at)
                slashes = self._slashes_before(len(self._buffer) if quote < 0 else quote)
                if quote < 0:  # the backslashes at the end decide what the next character means
                    at = max(at, len(self._buffer) - slashes)
                    break
                in_text, at = slashes % 2 == 1, quote + 1
            elif match := _MARK.search(self._buffer, at):
                at, depth = match.end(), depth + _STEPS[match.group()]
                in_text = match.group() == b'"'
            else:
                at = len(self._buffer)
                break
            if depth <= 0 and not in_text:
                return at, depth, in_text, True
        return at, depth, in_text, False

    def _slashes_before(self, end: int) -> int:
        """How many backslashes come directly before an offset. An odd number of them escapes what is there."""
        at = end
        while at > 0 and self._buffer[at - 1] == _BACKSLASH:
            at -= 1
        return end - at

    def _more(self, dropped: int) -> bool:
        """Read on, and forget what is before the offset ``dropped``; False at the end of the stream."""
        self._line += self._buffer.count(b"\n", self._counted, dropped)
        self._counted = max(0, self._counted - dropped)
        self._at = max(0, self._at - dropped)
        chunk = self._stream.read(max(_CHUNK, len(self._buffer) - dropped))
        self._buffer = self._buffer[dropped:] + chunk
        return bool(chunk)

    def _broken(self, reason: str) -> DataError:
        return DataError(f"{self.where}: broken JSON ({reason})")
