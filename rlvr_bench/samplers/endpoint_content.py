"""Reading replies of a server. A reply may be hostile, so its size, encoding and depth are limited."""

from __future__ import annotations

import email.utils
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

import msgspec

from rlvr_bench.errors import visible
from rlvr_bench.json_format import JSON
from rlvr_bench.samplers.endpoint_failures import Failed

__all__ = ["ENCODINGS", "most_bytes", "quotes", "read_object", "refusal_text", "retry_after", "unpacked"]

ENCODINGS = "gzip"  # the only one asked for: zlib can stop in the middle where a few bytes unpack to a huge reply
_GZIP = 31  # zlib's name for gzip with the largest window
_SMALL = 16 * 2**20
_LARGE = 2**30
_PER_TOKEN = 256  # bytes of JSON for a token's text and id
_PER_ENTRY = 160  # bytes of JSON for one listed log-probability, in the longest format
_MESSAGE = 300  # at most this many characters of a server's message are shown
_QUOTE = 24  # a message that shares this many characters in a row with the prompt quotes it


def most_bytes(tokens: int = 0, top: int = 0) -> int:
    """The most unpacked bytes in a reply of ``tokens`` tokens with ``top`` log-probabilities each; at most 1 GiB."""
    return min(_LARGE, _SMALL + tokens * (_PER_TOKEN + top * _PER_ENTRY))


async def unpacked(chunks: AsyncIterator[bytes], encoding: str, most: int) -> bytes:
    """The unpacked body of a reply. Raises Failed where it has more than ``most`` bytes, or another encoding."""
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Failed.malformed(f"answered in the encoding {visible(encoding[:40])!r}, which was not asked for")
    unpack = zlib.decompressobj(_GZIP) if "gzip" in encoding else None
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            part = chunk if unpack is None else unpack.decompress(chunk, most - size + 1)
            parts.append(part)
            size += len(part)
            if size > most:
                raise Failed.malformed(f"answered with more than {most / 2**20:,.0f} MiB")
            if unpack is not None and unpack.unused_data:
                break
    except zlib.error:
        unpack = zlib.decompressobj(_GZIP)  # a new one: its ``eof`` is False, so that the check below fails
    if unpack is not None and (not unpack.eof or unpack.unused_data):
        raise Failed.malformed("answered with bytes that are no gzip")
    return b"".join(parts)


def read_object(content: bytes, content_type: str) -> dict[str, JSON]:
    """The JSON object in a reply. Raises Failed where there is none."""
    decoded = None
    try:
        decoded = msgspec.json.decode(content)
        kind = "JSON of another shape"
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = visible(content_type.partition(";")[0][:80]) or "content of no type"
    except (RecursionError, MemoryError):
        kind = "JSON too deep or too long to be read"
    if not isinstance(decoded, dict):
        raise Failed.malformed(f"answered with {kind} where a JSON object was expected")
    return decoded


# ------------------------------------------------------------------------------------------- what a refusal says
def refusal_text(content: bytes, content_type: str, key: str | None) -> tuple[str, str]:
    """The message of a refusal: one line for the user, and its text with error codes, in lower case, for matching.

    ``key`` is replaced in both. The first has at most 300 characters, the second at most 3000.
    """
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError):
        body = content.decode(errors="replace") if content_type.startswith("text/plain") else ""
    message = " ".join(" ".join(_message(body)).split())
    codes = " ".join(_codes(body))
    if key:
        message, codes = message.replace(key, "[key]"), codes.replace(key, "[key]")
    return visible(message[:_MESSAGE]), visible(f"{message} {codes}"[: 10 * _MESSAGE]).lower()


def _message(body: JSON, depth: int = 4) -> Iterator[str]:
    """The texts of a server's message. Servers store it under different names; repeated request data is left out."""
    if isinstance(body, str):
        yield body
    elif depth and isinstance(body, list):
        for item in body[:8]:
            yield from _message(item, depth - 1)
    elif depth and isinstance(body, dict):
        if isinstance(where := body.get("loc"), list):
            yield ".".join(str(part) for part in where if isinstance(part, str)) + ":"
        for name in ("error", "message", "detail", "msg"):
            if body.get(name):
                yield from _message(body[name], depth - 1)
                return


def _codes(body: JSON) -> Iterator[str]:
    if isinstance(body, dict):
        levels = [level for level in (body, body.get("error")) if isinstance(level, dict)]
        for level in levels:
            yield from (word for name in ("code", "param", "type") if isinstance(word := level.get(name), str))


def quotes(message: str, body: Mapping[str, JSON] | None) -> bool:
    """Whether a message repeats the prompt of a request, or ``_QUOTE`` characters in a row of it."""
    if not body:
        return False
    turns = body.get("messages")
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    texts = [body.get("prompt"), *contents]
    for text in (visible(" ".join(text.split())) for text in texts if isinstance(text, str)):
        width = min(_QUOTE, len(text))
        if width and any(message[i : i + width] in text for i in range(len(message) - width + 1)):
            return True
    return False


def retry_after(header: str | None) -> float:
    """Seconds to wait by a ``Retry-After`` header, which is a number or a date (RFC 9110, 10.2.3); 0 for any other."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
