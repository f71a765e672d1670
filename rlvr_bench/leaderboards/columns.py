"""The columns of a leaderboard, in fixed order, with types and meanings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from rlvr_bench.metrics import METRICS
from rlvr_bench.records import Estimate

__all__ = [
    "ADDED",
    "BOARD",
    "DEFAULT_KS",
    "KEY",
    "Cell",
    "Column",
    "Row",
    "caveats_cell",
    "caveats_of",
    "columns",
    "is_added",
]

Cell = str | int | float | None
Row = dict[str, Cell]

_BETWEEN = " | "  # between the caveats of a cell
DEFAULT_KS = (1, 4, 16, 64, 256, 1024)
# Runs that are equal in these columns have the same row: the newer one replaces the older.
KEY = ("task", "setting", "model", "step", "temperature", "top_p", "max_tokens", "tools", "other_parameters")


class Column(msgspec.Struct, frozen=True):
    """Name, cell type and meaning of a column. Any cell may be empty: not known, or not defined."""

    name: str
    kind: Literal["text", "whole", "number"]
    meaning: str


# The columns that show an estimate of the scorecard.
BOARD = tuple((metric, column) for metric in METRICS for column in metric.board)
_FIRST = (
    Column("task", "text", "task"),
    Column("task_version", "text", "version of the task"),
    Column("setting", "text", "hash of problems, prompt and verifier: rows that share it are ranked together"),
    Column("model", "text", "checkpoint, as it was named for evaluation"),
    Column("method", "text", "how it was trained"),
    Column("base_model", "text", "what it was trained from"),
    Column("step", "whole", "training step"),
    Column("temperature", "number", "sampling temperature"),
    Column("top_p", "number", "nucleus of sampling"),
    Column("max_tokens", "whole", "most tokens of a response"),
    Column("tools", "text", "what the model could run while it answered; empty: nothing"),
    Column(
        "other_parameters", "text", "other sampling parameters that change what is drawn, and chat-template arguments"
    ),
    Column("problems", "whole", "number of problems"),
    Column("n", "whole", "rollouts per problem, of the problem that has fewest"),
)
_BOUNDARY = (
    Column("boundary_k", "whole", "budget of the boundary"),
    Column("unsolved", "number", "boundary size: expected number of problems that boundary_k rollouts leave unsolved"),
    Column("unsolved_low", "number", "its 95 % interval, for other problems of the same kind"),
    Column("unsolved_high", "number", ""),
    Column("unsolved_at_least", "number", "bounds of it where rollouts or verdicts are missing"),
    Column("unsolved_at_most", "number", ""),
    Column("compared_to", "text", "base that gained and lost refer to: --base, else base_model"),
    Column("compared_k", "whole", "budget at which they were compared"),
    Column(
        "gained", "number", "expected problems that compared_k rollouts of this checkpoint solve and of its base do not"
    ),
    Column(
        "lost", "number", "expected problems that compared_k rollouts of its base solve and of this checkpoint do not"
    ),
    Column("by_chance", "number", "how large either set would be between two runs of one policy"),
)
_BESIDE = (
    Column("tool_calls", "number", "calls of a tool per response"),
    Column("tool_errors", "number", "calls that failed, per response"),
    Column("kl_to", "text", "checkpoint under which the run was rescored"),
    Column("caveats", "text", "columns whose interval may hold more or less often than 95 %, and why"),
)
_SHIFTS = {
    "kl": "KL divergence of the checkpoint from kl_to, nats per token",
    "moved_share": "share of tokens whose probability differs by more than 0.1 under kl_to",
}
_LAST = (
    Column("engine", "text", "engine and its version"),
    Column("date", "text", "day of the last session of sampling, UTC"),
    Column("scorecard", "text", "first 16 digits of the SHA-256 of the scorecard file"),
)


def columns(ks: Sequence[int] = DEFAULT_KS) -> tuple[Column, ...]:
    """All columns for the budgets ``ks``, in the order of the file."""
    all_columns = list(_FIRST)
    for k in ks:
        all_columns += _with_interval(f"pass@{k}", "number", _meaning(k))
        all_columns += _bounds(f"pass@{k}")
        all_columns += _with_interval(
            f"rank@{k}", "whole", f"rank by pass@{k} within its task and setting; equals share one"
        )
    all_columns += _BOUNDARY
    for metric, column in BOARD:
        all_columns += _with_interval(column.name, "number", column.meaning or metric.meaning)
    all_columns += _BESIDE
    for name, meaning in _SHIFTS.items():
        all_columns += _with_interval(name, "number", meaning)
    return (*all_columns, *_LAST)


def _meaning(k: int) -> str:
    return "chance that a rollout is correct" if k == 1 else f"chance that at least one of {k} rollouts is correct"


def _with_interval(name: str, kind: Literal["whole", "number"], meaning: str) -> list[Column]:
    return [
        Column(name, kind, meaning),
        Column(f"{name}_low", kind, "its 95 % interval"),
        Column(f"{name}_high", kind, ""),
    ]


def _bounds(name: str) -> list[Column]:
    return [
        Column(f"{name}{_BOUNDS[0]}", "number", "bounds of it where rollouts or verdicts are missing"),
        Column(f"{name}{_BOUNDS[1]}", "number", ""),
    ]


def caveats_cell(shown: Mapping[str, Estimate | None]) -> str | None:
    """For each caveat the columns that it holds for, such as "pass@1, pass@4: fewer than 30 problems ..."."""
    names: dict[str, list[str]] = {}
    for name, estimate in shown.items():
        if estimate is not None and estimate.caveat and estimate.low is not None:
            names.setdefault(estimate.caveat, []).append(name)
    return _BETWEEN.join(f"{', '.join(columns)}: {caveat}" for caveat, columns in names.items()) or None


def caveats_of(row: Row) -> list[str]:
    """The caveats of a row's intervals, without their columns."""
    return [part.partition(": ")[2] for part in str(row["caveats"] or "").split(_BETWEEN) if part]


def is_added(name: str) -> bool:
    """Whether leaderboard files of earlier versions may lack this column; its cells are then empty."""
    return name in ADDED or name.endswith(_BOUNDS)


_BOUNDS = ("_at_least", "_at_most")
ADDED = frozenset(
    [
        *("tools", "other_parameters", *(column.name for column in _BESIDE)),
        *(
            column.name
            for name in (*(column.name for _, column in BOARD if not column.in_first), *_SHIFTS)
            for column in _with_interval(name, "number", "")
        ),
    ]
)
