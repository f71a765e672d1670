"""The records of ``reach``, which are stored in ``reach/<name>.json`` of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rlvr_bench.analysis.shift_results import Checkpoint
from rlvr_bench.records import Estimate
from rlvr_bench.store.names import model_name
from rlvr_bench.store.paths import inside

__all__ = ["REACH_SCHEMA", "Drawer", "ProblemRate", "Reach", "SolvedByOthers", "result_file"]

REACH_SCHEMA = 1
_LONGEST_NAME = 100


class Drawer(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose rollouts are used: ``rollouts`` of it, ``correct`` of these; ``is_own``: drawn from the target's law."""

    run: str
    model: str
    weights: str
    law: str
    rollouts: int
    correct: int
    is_own: bool


class ProblemRate(msgspec.Struct, frozen=True, kw_only=True):
    """The target's solve rate of one problem.

    ``n`` and ``c``: rollouts and correct ones of each run, the target's first. ``distinct``: different correct responses in
    hand, as sequences of tokens; ``impossible``: those of them that the target's law gives probability 0. ``bound``: the sum
    of the target's probabilities of the distinct ones, which the rate certainly reaches. ``rate``, ``low``, ``high``: the
    estimate and its interval (``stats.borrowed_rate``); the rate is None where nothing was drawn, and ``high`` is 1 without
    rollouts of the target. ``error``: relative standard error of the rate. ``effective``: effective correct rollouts,
    ``largest``: largest share of the estimate in one of them; ``is_sound``: these are good enough to believe the rate.
    """

    id: str
    n: tuple[int, ...]
    c: tuple[int, ...]
    distinct: int
    impossible: int
    bound: float
    rate: float | None
    low: float
    high: float
    error: float | None
    effective: float
    largest: float | None
    is_sound: bool

    @property
    def tries(self) -> float | None:
        """Expected rollouts until the first correct one, 1 / rate; None where the rate is not sound."""
        return 1 / self.rate if self.rate and self.is_sound else None


class SolvedByOthers(msgspec.Struct, frozen=True, kw_only=True):
    """Problems that ``by`` solved (a run, or "any") and the target's rollouts did not, split by the target's reach at ``k``.

    ``within``: the low end of the rate gives pass@k of 1/2 or more; ``beyond``: the high end gives less. Of the others, the
    estimate gives 1/2 or more (``probably``) or less (``unlikely``). ``expected``: the sum of pass@k at the estimates.
    """

    by: str
    k: int
    problems: int
    within: int
    probably: int
    unlikely: int
    beyond: int
    expected: float


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What one checkpoint can solve, from rollouts of any checkpoints.

    ``pass_at_k``: mean over all problems. ``scored`` of ``responses`` distinct ones were scored in this call, which took
    ``scoring_s`` seconds of ``seconds``.
    """

    schema: int
    run: str
    task: str
    target: Checkpoint
    law: str
    level: float
    drawers: tuple[Drawer, ...]
    problems: tuple[ProblemRate, ...]
    pass_at_k: tuple[Estimate, ...]
    solved_by_others: tuple[SolvedByOthers, ...]
    responses: int
    scored: int
    scoring_s: float
    seconds: float
    notes: tuple[str, ...]


def result_file(run: Path, others: Sequence[str]) -> Path:
    """Where the result with the rollouts of these other models is stored in a run."""
    name = "+".join(map(model_name, others)) or "alone"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return inside(run, "reach", f"{name}.json")
