"""From entries to a run: identify and check problems, number rollouts, write shards.

Memory holds the problems and one shard of responses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from rlvr_bench.datasets import content_digest
from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Count, ImportedEntry, Response
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.store.run import ROLLOUT_SCHEMA, Run, stored_text, text_hash
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.text_rules import text_flags
from rlvr_bench.verifiers.extraction import thought_of

__all__ = ["MAX_ROLLOUTS", "NO_VERDICT", "Collected", "Collector"]

NO_VERDICT = "no_verdict"  # the kind of an error where the other program gave none
MAX_ROLLOUTS = 50_000_000
_SHARD_ROLLOUTS = 4096
_SHARD_CHARACTERS = 16 * 2**20


@dataclass
class _Tally:
    """A problem as first read, and its counts so far: n rollouts, c correct."""

    problem: Problem
    where: str
    n: int = 0
    c: int = 0


@dataclass
class Collected:
    """The problems of all entries, sorted by id, with n and c; ``unjudged`` counts the responses without a verdict."""

    problems: list[Problem]
    n: list[int]
    c: list[int]
    unjudged: int
    copies: int

    @property
    def digest(self) -> str:
        """SHA-256 over ids, questions and gold answers: the same for two imports of the same problems."""
        return content_digest(self.problems)


@dataclass
class Collector:
    """Takes entries one at a time. Stores responses in ``run``, with verdicts where ``verifier`` is given."""

    run: Run
    verifier: str | None
    version: str
    _tallies: dict[str, _Tally] = field(default_factory=dict)
    _keys: set[bytes] = field(default_factory=set)
    _rollouts: list[dict[str, object]] = field(default_factory=list)
    _rows: list[VerdictRow] = field(default_factory=list)
    _characters: int = 0
    _total: int = 0
    _unjudged: int = 0
    _copies: int = 0
    _counted: bool | None = None
    _verdict: str = ""

    def take(self, entries: Iterable[ImportedEntry]) -> None:
        """Store these entries.

        Raises DataError for two texts under one id, counts given twice, responses mixed with counts, several kinds of
        verdicts, and too many rollouts.
        """
        for entry in entries:
            if self._counted is not None and self._counted != isinstance(entry, Count):
                raise DataError(
                    f"{entry.where}: responses and bare counts in one import. Import them in separate runs."
                )
            self._counted = isinstance(entry, Count)
            if isinstance(entry, Response) and self._is_copy(entry):
                continue
            self._check_verdict(entry)
            tally = self._tally(entry)
            if isinstance(entry, Count):
                self._count(tally, entry)
            else:
                self._store(tally, entry)
            self._total = self._total + (entry.n if isinstance(entry, Count) else 1)
            if self._total > MAX_ROLLOUTS:
                raise DataError(f"{entry.where}: more than {MAX_ROLLOUTS:,} rollouts")

    def finish(self) -> Collected:
        """Write the last shard. Raises DataError where there were no rollouts."""
        if not self._total:
            raise DataError("no rollouts in these files")
        self._flush()
        tallies = [self._tallies[name] for name in sorted(self._tallies)]
        return Collected(
            problems=[tally.problem for tally in tallies],
            n=[tally.n for tally in tallies],
            c=[tally.c for tally in tallies],
            unjudged=self._unjudged,
            copies=self._copies,
        )

    @property
    def counts_only(self) -> bool:
        """Whether the files held counts rather than responses."""
        return bool(self._counted)

    @property
    def verdicts(self) -> Verdicts:
        """The verdicts stored in the run. Call only where ``verifier`` was given."""
        options = {"verdict": self._verdict} if self._verdict else {}
        return Verdicts(self.run, str(self.verifier), self.version, options)

    def _check_verdict(self, entry: ImportedEntry) -> None:
        if entry.verdict and entry.verdict != self._verdict:
            if self._verdict:
                listed = f"{self._verdict}, {entry.verdict}"
                raise DataError(
                    f"{entry.where}: verdicts of several kinds ({listed}). Choose one: --verdict {entry.verdict!r}"
                )
            self._verdict = entry.verdict

    def _is_copy(self, entry: Response) -> bool:
        if entry.key is None:
            return False
        key = hashlib.blake2b(entry.key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self._keys:
            self._copies += 1
            return True
        self._keys.add(key)
        return False

    def _tally(self, entry: ImportedEntry) -> _Tally:
        question, gold = stored_text(entry.question), stored_text(entry.gold)
        name = stored_text(entry.problem) or _named_by(question)
        if not name:
            raise DataError(f"{entry.where}: neither an id nor a question identifies the problem")
        tally = self._tallies.get(name)
        if tally is None:
            cluster = stored_text(entry.cluster) if isinstance(entry, Count) else ""
            tally = _Tally(Problem(id=name, question=question, answer=gold, cluster=cluster), entry.where)
            self._tallies[name] = tally
        for field_name, first, second in (
            ("question", tally.problem.question, question),
            ("gold answer", tally.problem.answer, gold),
        ):
            if first != second:
                raise DataError(
                    f"problem {name!r} has two {field_name}s: {_short(first)} in {tally.where}; "
                    f"{_short(second)} in {entry.where}. Import the runs of each problem set separately."
                )
        return tally

    def _count(self, tally: _Tally, entry: Count) -> None:
        if tally.where != entry.where:
            raise DataError(f"{entry.where}: problem {tally.problem.id!r} again, first in {tally.where}")
        tally.n, tally.c = entry.n, entry.c

    def _store(self, tally: _Tally, entry: Response) -> None:
        text = stored_text(entry.text)
        digest = text_hash(text)
        finish = {True: "length", False: "stop", None: None}[entry.truncated]
        self._rollouts.append(
            {
                "problem_id": tally.problem.id,
                "index": tally.n,
                "text": text,
                "text_hash": digest,
                "n_tokens": entry.n_tokens,
                "finish_reason": finish,
            }
        )
        self._unjudged += entry.status is None
        if self.verifier is not None:
            verdict = Verdict(status="error", kind=NO_VERDICT)
            if entry.status is not None:
                verdict = Verdict(status=entry.status, answer=entry.answer, kind=entry.kind)
            self._rows.append(
                VerdictRow(tally.problem.id, tally.n, digest, verdict, None, text_flags(text), thought_of(text))
            )
        tally.n += 1
        tally.c += entry.status == "correct"
        self._characters += len(text)
        if len(self._rollouts) >= _SHARD_ROLLOUTS or self._characters >= _SHARD_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._rollouts:
            self.run.rollouts.append(pa.Table.from_pylist(self._rollouts, schema=ROLLOUT_SCHEMA))
            if self.verifier is not None:
                self.verdicts.append(self._rows)
        self._rollouts, self._rows, self._characters = [], [], 0


def _named_by(question: str) -> str:
    """An id for a problem that has none, computed from its question."""
    return f"q-{hashlib.sha256(question.encode()).hexdigest()[:16]}" if question.strip() else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
