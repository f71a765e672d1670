"""Tiny real checkpoints trained on the double-countdown puzzle, and the recipes that train them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["unpack"]


def unpack(file: Path, start: Path) -> bytes:
    """The weights file of a packed checkpoint, as ``rlvr_bench.zoo.delta.unpack`` gives it; torch is loaded here only."""
    from rlvr_bench.zoo import delta

    return delta.unpack(file, start)
