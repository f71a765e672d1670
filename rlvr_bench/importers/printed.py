"""What a program itself reports of an evaluation, in a file beside the rollouts: its own pass@k, best@k or average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlvr_bench.errors import in_one_line
from rlvr_bench.importers.lines import MAX_LINE_BYTES

__all__ = ["Printed", "member", "printed", "summary", "worth_showing"]

_LONGEST_NAME = 80
_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """A number in [0, 1] that the program calls ``name``, in the file ``where``; it should be ``kind`` at ``k``.

    ``half``: how far rounding may have moved it. ``caveat``: why it is not the unbiased value, where that is known;
    ``doubt``: what may be the reason if it is another number.
    """

    where: str
    name: str
    value: float
    k: int
    kind: Literal["pass@k", "maj@k"] = "pass@k"
    half: float = 1e-6
    caveat: str = ""
    doubt: str = ""


def printed(
    where: str | Path, name: str, value: object, k: int, *, percent: bool = False, **more: Any
) -> list[Printed]:
    """A list of the number, which is empty where ``value`` is no number between 0 and 1 (or 0 and 100, in ``percent``)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or k < 1:
        return []
    share = value / 100 if percent else float(value)
    shown = in_one_line(name, _LONGEST_NAME)
    return [Printed(where=str(where), name=shown, value=share, k=k, **more)] if 0 <= share <= 1 else []


def summary(file: Path, largest: int = MAX_LINE_BYTES) -> Any:
    """The content of a program's summary; None where there is none, or none that can be read."""
    try:
        return _ANYTHING.decode(file.read_bytes()) if file.is_file() and file.stat().st_size <= largest else None
    except (OSError, ValueError, RecursionError):
        return None


def member(value: object, *names: str) -> Any:
    """The member of an object, and the member of that, and so on; None where one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def worth_showing(k: int, largest: int) -> bool:
    """Whether a budget is among those that are compared: powers of two and the largest."""
    return k == largest or k & (k - 1) == 0
