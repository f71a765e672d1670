"""The audit of a run's verdicts: an independent comparison decides a random sample again, for a person to look at."""

from __future__ import annotations

import collections
import hashlib
import heapq
from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument, RunError, VerifierError
from rlvr_bench.stats.intervals import normal_quantile, score_interval
from rlvr_bench.store.record_files import read_record, write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading, VerdictRow, Verdicts, current_grading
from rlvr_bench.verifiers import open_verifier
from rlvr_bench.verifiers.audit import Opinion, audit_many
from rlvr_bench.verifiers.deciding import read_golds

__all__ = ["AUDITED_VERIFIERS", "Audit", "Disagreement", "audit_run", "read_audit"]

# Verifiers that decide whether two answers are equal: the second comparison can decide nothing else.
AUDITED_VERIFIERS = ("exact", "integer", "math")


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that the second comparison contradicts; ``rollouts`` have this answer, the first of them at ``index``."""

    problem_id: str
    index: int
    rollouts: int
    gold: str
    answer: str
    verdict: str
    second_opinion: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit: counts of distinct (problem, answer) pairs, and every disagreement.

    ``pairs``: number of all pairs; ``sample``: number of drawn pairs, which is ``agree + disagree + unknown``. ``rate`` is
    disagree / (agree + disagree), with Wilson's interval [``low``, ``high``]; all three are None where the second
    comparison could read no pair. ``verdicts`` and ``graded``: folder and size of the audited grading.
    """

    schema: Literal[1] = 1
    verifier: str
    version: str
    options: dict[str, object]
    verdicts: str
    graded: int
    seed: int
    asked: int
    pairs: int
    sample: int
    agree: int
    disagree: int
    unknown: int
    rate: float | None
    low: float | None
    high: float | None
    level: float = stats.LEVEL
    method: str = "Wilson, over distinct (problem, answer) pairs that the second comparison reads"
    disagreements: list[Disagreement]


def audit_run(run: Run, sample: int = 200, seed: int = 0, *, workers: int = 1, timeout_s: float = 2.0) -> Audit:
    """Compare a random sample of a run's answers with their gold answers again, and write ``audit.json``.

    The sample is drawn without replacement from the distinct (problem, answer) pairs whose current verdict is correct or
    wrong. It depends on the seed and not on the order of grading. Memory holds a number per distinct pair, and the sample.
    Raises BadArgument for a sample below 1, RunError where the run is not graded, VerifierError where its verifier has no
    second comparison, StorageError.
    """
    if sample < 1:
        raise BadArgument("sample", sample, "it must be at least 1")
    grading = current_grading(run)
    if grading is None:
        raise RunError(f"{run.path}: not graded yet. Run `rlvr-bench grade {run.path}` first.")
    if grading.verifier not in AUDITED_VERIFIERS:
        raise VerifierError(
            f"{run.path}: verdicts of the verifier {grading.verifier!r} cannot be audited; a second comparison exists "
            f"for {', '.join(AUDITED_VERIFIERS)}"
        )
    rollouts: collections.Counter[int] = collections.Counter()
    drawn = heapq.nsmallest(sample, _distinct(run, grading, seed, rollouts), key=lambda pair: pair[0])
    rows = [row for _, row in drawn]
    problems = run.problems()
    read, _ = read_golds(open_verifier(grading.verifier), problems)
    golds = {problem.id: read.get(problem.id, problem).answer for problem in problems}
    opinions = audit_many([(golds[row.problem_id], row.verdict) for row in rows], workers, timeout_s)
    disagreements = [
        _disagreement(row, golds[row.problem_id], rollouts[key])
        for (key, row), opinion in zip(drawn, opinions, strict=True)
        if opinion == "disagree"
    ]
    audit = _audit(grading, (seed, sample, len(rollouts)), opinions, disagreements)
    write_record(run.path / "audit.json", audit, indent=1)
    return audit


def read_audit(run: Run) -> Audit | None:
    """The audit of the current verdicts; None where there is none, or it is of other verdicts.

    Raises RunError where the file is damaged.
    """
    file, grading = run.path / "audit.json", current_grading(run)
    if grading is None or not file.exists():
        return None
    audit = read_record(file, Audit, "Run the audit again.")
    return audit if (audit.verdicts, audit.graded) == (grading.folder, grading.rollouts) else None


def _distinct(
    run: Run, grading: Grading, seed: int, rollouts: collections.Counter[int]
) -> Iterator[tuple[int, VerdictRow]]:
    """Each decided (problem, answer) pair once, with a random key that depends on seed and pair; counts its rollouts.

    The pairs with the smallest keys are a sample without replacement.
    """
    for row in Verdicts(run, grading.verifier, grading.version, grading.options).rows():
        if row.verdict.answer is None or row.verdict.status not in ("correct", "wrong"):
            continue
        content = f"{seed}\0{row.problem_id}\0{row.verdict.answer}".encode()
        key = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        rollouts[key] += 1
        if rollouts[key] == 1:
            yield key, row


def _disagreement(row: VerdictRow, gold: str, rollouts: int) -> Disagreement:
    return Disagreement(
        problem_id=row.problem_id,
        index=row.index,
        rollouts=rollouts,
        gold=gold,
        answer=row.verdict.answer or "",
        verdict=row.verdict.status,
        second_opinion="wrong" if row.verdict.status == "correct" else "correct",
    )


def _audit(
    grading: Grading, drawn: tuple[int, int, int], opinions: list[Opinion], disagreements: list[Disagreement]
) -> Audit:
    counts = collections.Counter(opinions)
    rate, low, high = _rate(counts["disagree"], counts["agree"] + counts["disagree"])
    seed, asked, pairs = drawn
    return Audit(
        verifier=grading.verifier,
        version=grading.version,
        options=grading.options,
        verdicts=grading.folder,
        graded=grading.rollouts,
        seed=seed,
        asked=asked,
        pairs=pairs,
        sample=len(opinions),
        agree=counts["agree"],
        disagree=counts["disagree"],
        unknown=counts["unknown"],
        rate=rate,
        low=low,
        high=high,
        disagreements=disagreements,
    )


def _rate(count: int, n: int) -> tuple[float | None, float | None, float | None]:
    """The share ``count / n`` with Wilson's (1927) interval."""
    if n == 0:
        return None, None, None
    z = np.array([normal_quantile(stats.LEVEL)])
    low, high = score_interval(np.array([count / n]), np.array([1 / n]), (-z, z))
    return count / n, float(low[0]), float(high[0])
