"""The format in which this package writes JSON, and the type of a JSON value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

__all__ = ["JSON", "format_json"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def format_json(value: object, *, indent: int = 1, enc_hook: Callable[[object], object] | None = None) -> bytes:
    """A record as indented JSON that ends with a newline; ``enc_hook`` converts values that msgspec cannot encode."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=enc_hook), indent=indent) + b"\n"
