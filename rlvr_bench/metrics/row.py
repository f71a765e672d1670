"""The fields of a row of the table of metrics."""

from __future__ import annotations

import functools
import math
from typing import Literal

import msgspec

__all__ = ["OVER_ROLLOUTS", "BoardColumn", "Metric", "Unit", "first_column"]

OVER_ROLLOUTS = "over a problem's rollouts, then problems"

Unit = Literal["fraction", "nats", "tokens", "problems", "answers", "responses", "calls", "perplexity"]


class BoardColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the leaderboard: the estimate at ``k`` and ``group``. Two more columns have its interval.

    ``meaning``: where it differs from the metric's. ``in_first``: whether the first version of leaderboards had it; a file
    may lack the other columns, whose cells are then empty. ``short``: its title in the tables for people, ``tables``.
    """

    name: str
    meaning: str = ""
    k: int | None = None
    group: str | None = None
    in_first: bool = False
    short: str = ""
    tables: tuple[Literal["markdown", "terminal"], ...] = ()


first_column = functools.partial(BoardColumn, in_first=True)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric by the name of its estimates.

    ``low`` to ``high``: its range in ``unit``. ``better``: whether more or less of it is better. ``averaged``: over what, in
    which order. ``column``: its per-problem column in the scorecard; ``counts``: that column counts rollouts, and the metric
    is its share of n; ``of_first_batch``: under a stopping rule the column is of the first draw batch, so it is unbiased.
    ``across_n``: the condition for a comparison of runs with different n. ``equal_n``: runs of different n are not shown
    together in it; ``by_k``: the column kept by k from which ``check`` takes it at a common number of rollouts instead.
    ``gate``: how ``check`` tests it, over new "rollouts" of the same problems or over new "problems"; None where it does
    not, and ``no_gate`` is the reason.
    ``compared``: ``compare`` and the report test its difference. ``followed``: ``series`` has it at each step; ``stages``:
    the groups that are split into stages; ``series_titles``: its columns in the table of ``series``, by group.
    ``summary``: its note in the table that ``evaluate`` prints; empty where the table lacks it.
    ``chart``: id of its chart in the report, or "summary" for the first table; None where it has no chart.
    ``rate``: its word in the report's chart of rates.
    """

    name: str
    meaning: str
    unit: Unit
    low: float = 0.0
    better: Literal["more", "less", "neither"] = "neither"
    averaged: str = "over problems"
    column: str | None = None
    counts: bool = False
    of_first_batch: bool = False
    across_n: str = "any n"
    equal_n: bool = False
    by_k: str | None = None
    board: tuple[BoardColumn, ...] = ()
    gate: Literal["rollouts", "problems"] | None = None
    no_gate: str = "a scorecard keeps no value of each problem"
    compared: bool = False
    followed: bool = False
    stages: tuple[str | None, ...] = ()
    series_titles: tuple[tuple[str | None, str], ...] = ()
    summary: str = ""
    chart: str | None = None
    rate: str = ""

    @property
    def base(self) -> str:
        """The name without ``@k``."""
        return self.name.removesuffix("@k")

    @property
    def has_budget(self) -> bool:
        """Whether it is a metric of a budget k."""
        return self.name.endswith("@k")

    @property
    def high(self) -> float:
        """The largest value it can have."""
        return 1.0 if self.is_fraction else math.inf

    @property
    def is_fraction(self) -> bool:
        """Whether it is read as percent."""
        return self.unit == "fraction"
