"""Prints the states of runs: a table, or a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console

from rlvr_bench.cli.tables import show_blocks
from rlvr_bench.pipeline.progress import duration
from rlvr_bench.pipeline.status import RunState
from rlvr_bench.tables import Column, Format, Line, Table

__all__ = ["show_states"]

_QUIET_S = 600.0  # without a new shard for so long, the state says so
_TITLES = ("model", "task", "state")
_NUMBERS = ("drawn", "verified", "solved", "rollouts/s", "tokens/s", "left")


def show_states(console: Console, states: Sequence[RunState], form: Format, watched: bool) -> None:
    """Print a table. While watching it replaces the one before on a terminal, and elsewhere each run is a line."""
    if watched and form == "table":
        if not console.is_terminal:
            for state in states:
                show_blocks(console, [Line((_line(state),), is_whole=True)])
            return
        console.clear()
    if states:
        show_blocks(console, [_table(states)], form)


def _table(states: Sequence[RunState]) -> Table:
    columns = (*map(Column, _TITLES), *(Column(title, "right") for title in _NUMBERS))
    return Table(columns, tuple((state.model, state.task, _named(state), *_cells(state)) for state in states))


def _line(state: RunState) -> str:
    texts = zip(_NUMBERS, _cells(state), strict=True)
    figures = ", ".join(f"{name} {text}" for name, text in texts if text)
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {state.model} on {state.task}: {_named(state)}, {figures}"


def _cells(state: RunState) -> list[str]:
    """The texts of ``_NUMBERS``."""
    asked = "" if state.asked is None else f" of {state.asked:,} ({state.drawn / max(1, state.asked):.0%})"
    growing = f" + {state.growing:,} open" if state.growing else ""
    rollouts = "" if state.rollouts_per_second is None else f"{state.rollouts_per_second:,.2f}"
    tokens = "" if state.tokens_per_second is None else f"{state.tokens_per_second:,.0f}"
    left = "" if state.seconds_left is None else duration(state.seconds_left)
    return [
        f"{state.drawn:,}{asked}{growing}",
        f"{state.verified:,}",
        f"{state.solved:,} of {state.problems:,}",
        rollouts,
        tokens,
        left,
    ]


def _named(state: RunState) -> str:
    """The state, and for how long a run that is worked on has written nothing."""
    if not state.is_live or state.last_written is None:
        return state.state
    quiet = (datetime.now(UTC) - datetime.fromisoformat(state.last_written)).total_seconds()
    return f"{state.state}, nothing new for {duration(quiet)}" if quiet > _QUIET_S else state.state
