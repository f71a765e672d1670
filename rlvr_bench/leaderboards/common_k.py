"""Unsolved problems in tables: comparable numbers, at one budget that every row has."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_bench.leaderboards.columns import Row

__all__ = ["bounds_text", "common_k", "unsolved_at"]


def common_k(rows: Sequence[Row], ks: Sequence[int]) -> int | None:
    """The largest of the budgets at which every row has a pass@k; None where there is none."""
    return max((k for k in ks if all(row[f"pass@{k}"] is not None for row in rows)), default=None)


def unsolved_at(row: Row, k: int | None) -> str:
    """Expected number of problems that k rollouts leave unsolved, (1 - pass@k) times the problems; empty without k."""
    if k is None:
        return ""
    share = 1 - float(row[f"pass@{k}"] or 0)
    return f"{share * float(row['problems'] or 0):.1f}".removesuffix(".0")


def bounds_text(row: Row, k: int) -> str:
    """The bounds of a row's pass@k in percent, empty if it has none."""
    least, most = row[f"pass@{k}_at_least"], row[f"pass@{k}_at_most"]
    return "" if least is None or most is None else f"{100 * float(least):.1f} to {100 * float(most):.1f}"
