"""Runs a task's verifier over a run's rollouts: extraction on each, a decision once per distinct answer, verdicts beside.

Grading streams shard by shard: memory holds one shard of texts and the distinct answers seen, whatever the run's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading, VerdictRow, Verdicts, current_grading
from rlvr_bench.verifiers import VerifierPool
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["Flip", "flips", "grade_run"]

Key = tuple[str, str]  # (problem id, the answer's lossless normal form)
Flip = tuple[str, int, str, str]  # (problem id, index, status before, status now)
_COLUMNS = ["problem_id", "index", "text_hash", "text"]


def grade_run(
    run: Run,
    verifier: Verifier,
    *,
    workers: int = 1,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] = lambda rollouts: None,
) -> Grading:
    """Give every rollout of ``run`` that has none a verdict, and put the verdicts in force.

    ``progress`` is called with the number of rollouts graded since the last call. Raises StorageError, VerifierError.
    """
    began = time.monotonic()
    verdicts = Verdicts(run, verifier.name, verifier.version, verifier.options)
    verdicts.shards.set_aside_damaged()
    done, decided = _known(verdicts, verifier)
    before = len(decided)
    problems = {problem.id: problem for problem in run.problems()}
    pool: VerifierPool[Key] = VerifierPool(verifier, workers=workers, timeout_s=timeout_s)
    with pool:
        for table in run.rollouts.read(_COLUMNS):
            rows = list(_ungraded(table, done, problems))
            verdicts.append(_decide(rows, verifier, pool, decided, problems))
            progress(table.num_rows)
    previous = current_grading(run)
    distinct = len(decided) - before
    if previous and previous.folder == verdicts.folder:
        distinct += previous.distinct
    return verdicts.publish(distinct, time.monotonic() - began)


def flips(run: Run, before: Grading, now: Grading) -> Iterator[Flip]:
    """Rollouts whose status differs between two gradings of a run."""
    old = Verdicts(run, before.verifier, before.version, before.options)
    new = Verdicts(run, now.verifier, now.version, now.options)
    statuses = {(row.problem_id, row.index, row.text_hash): row.verdict.status for row in old.rows()}
    for row in new.rows():
        was = statuses.get((row.problem_id, row.index, row.text_hash))
        if was is not None and was != row.verdict.status:
            yield row.problem_id, row.index, was, row.verdict.status


def _known(verdicts: Verdicts, verifier: Verifier) -> tuple[dict[str, npt.NDArray[np.int64]], dict[Key, Verdict]]:
    """What earlier gradings left: the text hash graded at each index, and the decisions to reuse.

    A decision that ended in an error is not reused for new rollouts: it is tried again.
    """
    done: dict[str, npt.NDArray[np.int64]] = {}
    decided: dict[Key, Verdict] = {}
    for row in verdicts.rows():
        have = done.get(row.problem_id)
        if have is None or len(have) <= row.index:
            grown = np.zeros(max(64, 2 * row.index + 1), dtype=np.int64)
            if have is not None:
                grown[: len(have)] = have
            have = done[row.problem_id] = grown
        have[row.index] = row.text_hash
        if row.verdict.answer is not None and row.verdict.status != "error":
            decided[row.problem_id, verifier.key(row.verdict.answer)] = row.verdict
    return done, decided


def _ungraded(
    table: pa.Table, done: dict[str, npt.NDArray[np.int64]], problems: dict[str, Problem]
) -> Iterator[tuple[str, int, int, str]]:
    columns = [table[name].to_pylist() for name in _COLUMNS]
    for problem_id, index, text_hash, text in zip(*columns, strict=True):
        have = done.get(problem_id)
        graded = have is not None and index < len(have) and have[index] == text_hash
        if problem_id in problems and not graded:
            yield problem_id, index, text_hash, text


def _decide(
    rows: list[tuple[str, int, int, str]],
    verifier: Verifier,
    pool: VerifierPool[Key],
    decided: dict[Key, Verdict],
    problems: dict[str, Problem],
) -> list[VerdictRow]:
    extracted = [verifier.extract(text) for *_, text in rows]
    keys: list[Key | None] = []
    wanted: dict[Key, str] = {}
    for (problem_id, *_), extraction in zip(rows, extracted, strict=True):
        key = None if extraction.answer is None else (problem_id, verifier.key(extraction.answer))
        keys.append(key)
        if key is not None and extraction.answer is not None and key not in decided:
            wanted.setdefault(key, extraction.answer)
    decided.update(pool.verify((key, answer, problems[key[0]]) for key, answer in wanted.items()))
    found = []
    for (problem_id, index, text_hash, _), key, extraction in zip(rows, keys, extracted, strict=True):
        verdict = decided[key] if key is not None else _no_answer(extraction.unfinished_thought)
        found.append(VerdictRow(problem_id, index, text_hash, verdict, extraction.candidates))
    return found


def _no_answer(unfinished: bool) -> Verdict:
    return Verdict(status="no_answer", kind="unfinished thought" if unfinished else None)
