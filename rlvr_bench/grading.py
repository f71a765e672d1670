"""Grading a run: the verifier decides each distinct answer once, and every rollout gets a verdict, stored in the run.

Grading reads one shard at a time: memory holds one shard of texts and the distinct answers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa

from rlvr_bench.errors import GoldError, StorageError
from rlvr_bench.records import Problem
from rlvr_bench.storage import is_remote
from rlvr_bench.store.marks import Drawn, Marks
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import Schedule
from rlvr_bench.store.verdicts import Grading, VerdictRow, Verdicts
from rlvr_bench.text_rules import text_flags
from rlvr_bench.verifiers.deciding import Decider, require_golds
from rlvr_bench.verifiers.extraction import thought_of
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["Flip", "Grader", "Ungraded", "flips", "grade_run"]

Flip = tuple[str, int, str, str]  # (problem id, index, status before, status now)
_COLUMNS = ["problem_id", "index", "text_hash", "text"]


class Ungraded(msgspec.Struct, frozen=True):
    """A stored response to be verified."""

    problem_id: str
    index: int
    text_hash: int
    text: str


class Grader:
    """Gives the rollouts of one run the verdicts of one verifier, in worker processes; earlier decisions are reused."""

    def __init__(
        self,
        run: Run,
        verifier: Verifier,
        *,
        workers: int = 1,
        timeout_s: float = 5.0,
        known: Iterable[VerdictRow] = (),
    ) -> None:
        """Read the verdicts of earlier gradings by this verifier. ``known``: its verdicts in other runs of the problems.

        Raises StorageError, RunError, GoldError where the verifier cannot use a gold answer.
        """
        self._problems = _golds(run, verifier)
        self.verdicts = Verdicts(run, verifier.name, verifier.version, verifier.options)
        self.verdicts.shards.set_aside_damaged()
        self._run = run
        self._done: dict[str, Marks[np.int64]] = {}  # by problem and index: text hash of the graded rollout, 0 for none
        self._right: dict[str, Marks[np.bool_]] = {}
        self._began = time.monotonic()
        self._unwritten: list[VerdictRow] = []
        self._schedule = Schedule(sparing=is_remote(run.path))
        # Errors are kept while this grader is open: an answer that times out would time out again in every batch.
        self._decider = Decider(
            verifier, self._problems.__getitem__, workers=workers, timeout_s=timeout_s, keep_errors=True
        )
        for row in known:
            self._decider.remember(row.problem_id, row.verdict)
        for row in self.verdicts.rows():
            self._remember(row)

    def __enter__(self) -> Self:
        self._decider.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decider.__exit__(kind, error, trace)
        if not isinstance(error, StorageError):
            self.flush()

    def grade_missing(self, progress: Callable[[int], None] = lambda rollouts: None) -> None:
        """Grade the stored rollouts without a verdict; ``progress`` gets the number of rollouts after each shard."""
        lacking = []
        for file, table in self._run.rollouts.read_named(_COLUMNS[:3]):
            if self._lacks(table):
                lacking.append(file)
            else:
                progress(table.num_rows)
        for table in self._run.rollouts.read(_COLUMNS, lacking):
            self.grade([row for row in self._known(table) if not self._is_graded(row)])
            progress(table.num_rows)

    def rows_of(self, shard: Path) -> list[Ungraded]:
        """The rollouts of one shard, graded or not. Raises RunError where it is damaged, StorageError."""
        (table,) = self._run.rollouts.read(_COLUMNS, [shard])
        return list(self._known(table))

    def grade(self, rows: list[Ungraded]) -> list[VerdictRow]:
        """Verdicts of these responses. New ones are on disk within seconds, at the latest after ``flush``.

        A response can have a stored verdict already: a crash lost its rollout, which was drawn again.
        """
        decisions = self._decider.decide((row.problem_id, row.text) for row in rows)
        graded = [
            VerdictRow(
                *(row.problem_id, row.index, row.text_hash, verdict, extraction.candidates),
                flags=text_flags(row.text),
                thought=thought_of(row.text),
            )
            for row, (verdict, extraction) in zip(rows, decisions, strict=True)
        ]
        new = [after for before, after in zip(rows, graded, strict=True) if not self._is_graded(before)]
        for fresh in new:
            self._mark(fresh)
        self._unwritten += new
        self._schedule.add(len(new))
        if self._schedule.due_in() == 0:
            self.flush()
        return graded

    def flush(self) -> None:
        """Write the waiting verdicts as one shard. Raises StorageError."""
        rows, self._unwritten = self._unwritten, []
        self._schedule.written()
        self.verdicts.append(rows)

    def correct(self, drawn: Mapping[str, Drawn]) -> dict[str, int]:
        """Number of correct rollouts per problem, among the drawn ones."""
        return {name: have.common(self._right[name]) if name in self._right else 0 for name, have in drawn.items()}

    def publish(self) -> Grading:
        """Make these the run's current verdicts."""
        self.flush()
        return self.verdicts.publish(self._decider.distinct, time.monotonic() - self._began)

    def _remember(self, row: VerdictRow) -> None:
        """Note a stored verdict. The decider does not reuse errors for new rollouts."""
        self._mark(row)
        self._decider.remember(row.problem_id, row.verdict)

    def _mark(self, row: VerdictRow) -> None:
        if row.problem_id not in self._done:
            self._done[row.problem_id], self._right[row.problem_id] = Marks(np.int64), Marks(np.bool_)
        self._done[row.problem_id].put(row.index, np.int64(row.text_hash))
        self._right[row.problem_id].put(row.index, np.bool_(row.verdict.status == "correct"))

    def _known(self, table: pa.Table) -> Iterator[Ungraded]:
        rows = map(Ungraded, *(table[name].to_pylist() for name in _COLUMNS))
        return (row for row in rows if row.problem_id in self._problems)

    def _lacks(self, table: pa.Table) -> bool:
        """Whether a shard has rollouts without a verdict."""
        rows = map(Ungraded, *(table[name].to_pylist() for name in _COLUMNS[:3]), itertools.repeat(""))
        return any(row.problem_id in self._problems and not self._is_graded(row) for row in rows)

    def _is_graded(self, row: Ungraded) -> bool:
        have = self._done.get(row.problem_id)
        return have is not None and bool(have.at(row.index) == row.text_hash)


def grade_run(
    run: Run,
    verifier: Verifier,
    *,
    workers: int = 1,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] = lambda rollouts: None,
    known: Iterable[VerdictRow] = (),
) -> Grading:
    """Give every rollout of ``run`` a verdict, and make these the run's current verdicts.

    ``known``: verdicts of this verifier in other runs of the same problems; their answers are not decided again.
    ``progress`` gets the number of rollouts graded since its last call. Raises StorageError, VerifierError, GoldError.
    """
    with Grader(run, verifier, workers=workers, timeout_s=timeout_s, known=known) as grader:
        grader.grade_missing(progress)
        return grader.publish()


def flips(run: Run, before: Grading, now: Grading) -> Iterator[Flip]:
    """Rollouts whose status differs between two gradings of a run."""
    old = Verdicts(run, before.verifier, before.version, before.options)
    new = Verdicts(run, now.verifier, now.version, now.options)
    statuses = {(row.problem_id, row.index, row.text_hash): row.verdict.status for row in old.rows()}
    for row in new.rows():
        was = statuses.get((row.problem_id, row.index, row.text_hash))
        if was is not None and was != row.verdict.status:
            yield row.problem_id, row.index, was, row.verdict.status


def _golds(run: Run, verifier: Verifier) -> dict[str, Problem]:
    try:
        return require_golds(verifier, run.problems())
    except GoldError as error:
        raise GoldError(f"{run.path}: {error}") from error
