"""From entries to a run: identify and check problems, number rollouts, write shards.

Memory holds the problems and one shard of responses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from rlvr_bench.datasets import content_digest
from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Count, ImportedEntry, Response, problem_name
from rlvr_bench.importers.matching import Matching
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.store.run import ROLLOUT_SCHEMA, Run, stored_text, text_hash
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.text_rules import text_flags
from rlvr_bench.verifiers.extraction import thought_of

__all__ = ["MAX_ROLLOUTS", "NO_VERDICT", "Collected", "Collector"]

NO_VERDICT = "no_verdict"  # the kind of an error where the other program gave none
MAX_ROLLOUTS = 50_000_000
_LONGEST_BARE = 100  # characters of a response that may be an answer and nothing else
_MOST_REWARDS = 4  # that a message names
_SHARD_ROLLOUTS = 4096
_SHARD_CHARACTERS = 16 * 2**20


@dataclass
class _Tally:
    """A problem, its name, question and gold answer as first read, and its counts so far: n rollouts, c correct."""

    problem: Problem
    where: str
    name: str
    question: str
    gold: str
    prompt: str | list[dict[str, str]] | None = None
    prompts_differ: bool = False
    n: int = 0
    c: int = 0


@dataclass
class Collected:
    """The problems of all entries with n and c, sorted by id, or in the order of the task they were matched to.

    ``unjudged`` counts the responses without a verdict, ``copies`` those left out. ``prompts``: what the model was sent, by
    problem, where the files hold it; ``prompts_differ`` counts the problems whose rollouts have several. ``rewards``: the
    first few of the rewards that are no verdicts, as text.
    """

    problems: list[Problem]
    n: list[int]
    c: list[int]
    unjudged: int
    copies: int
    prompts: dict[str, str | list[dict[str, str]]]
    prompts_differ: int
    rewards: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """How to say which rewards are correct; empty where every reward is a verdict."""
        if not self.rewards:
            return ""
        best = max(self.rewards, key=float)
        return f"rewards such as {', '.join(self.rewards)} are no verdicts: say which are correct, --correct '>={best}'"

    @property
    def digest(self) -> str:
        """SHA-256 over ids, questions and gold answers: the same for two imports of the same problems."""
        return content_digest(self.problems)


@dataclass
class Collector:
    """Takes entries one at a time. Stores responses in ``run``, with their verdicts under the name ``verifier``.

    ``rule``: which values of the verdict are correct, where the user said so. With ``matching`` the problems are those of
    a task, and a run holds these in place of the files' own.
    """

    run: Run
    verifier: str
    version: str
    rule: str = ""
    matching: Matching | None = None
    _tallies: dict[str, _Tally] = field(default_factory=dict)
    _keys: set[bytes] = field(default_factory=set)
    _rollouts: list[dict[str, object]] = field(default_factory=list)
    _rows: list[VerdictRow] = field(default_factory=list)
    _characters: int = 0
    _total: int = 0
    _unjudged: int = 0
    _rewards: dict[str, None] = field(default_factory=dict)
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
            if tally is not None and isinstance(entry, Count):
                self._count(tally, entry)
            elif tally is not None and isinstance(entry, Response):
                self._store(tally, entry)
            self._total = self._total + (entry.n if isinstance(entry, Count) else 1)
            if self._total > MAX_ROLLOUTS:
                raise DataError(f"{entry.where}: more than {MAX_ROLLOUTS:,} rollouts")

    def finish(self) -> Collected:
        """Write the last shard; at least one entry was taken. Raises DataError for problems that the task does not have."""
        if self.matching is not None:
            self.matching.check()
        self._flush()
        ids = sorted(self._tallies) if self.matching is None else self.matching.in_order(self._tallies)
        tallies = [self._tallies[name] for name in ids]
        return Collected(
            problems=[tally.problem for tally in tallies],
            n=[tally.n for tally in tallies],
            c=[tally.c for tally in tallies],
            unjudged=self._unjudged,
            copies=self._copies,
            prompts={tally.problem.id: tally.prompt for tally in tallies if tally.prompt is not None},
            prompts_differ=sum(tally.prompts_differ for tally in tallies),
            rewards=tuple(self._rewards),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there were no rollouts."""
        return not self._total

    @property
    def counts_only(self) -> bool:
        """Whether the files held counts rather than responses."""
        return bool(self._counted)

    @property
    def verdict(self) -> str:
        """The name of the verdict that was taken; empty where the files have none."""
        return self._verdict

    @property
    def verdicts(self) -> Verdicts:
        """The other program's verdicts stored in the run."""
        named = (("verdict", self._verdict), ("correct", self.rule))
        options = {name: value for name, value in named if value}
        return Verdicts(self.run, self.verifier, self.version, options)

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

    def _tally(self, entry: ImportedEntry) -> _Tally | None:
        """The tally of the entry's problem; None where the task does not have the problem."""
        question, gold, name = stored_text(entry.question), stored_text(entry.gold), problem_name(entry)
        problem = self._problem(entry, name) if self.matching is None else self.matching.resolve(entry)
        if problem is None:
            return None
        tally = self._tallies.get(problem.id)
        if tally is None:
            tally = _Tally(problem, entry.where, name, question, gold, prompt=entry.prompt)
            self._tallies[problem.id] = tally
        tally.prompts_differ |= entry.prompt != tally.prompt
        for field_name, first, second in (
            ("question", tally.question, question if self.matching is None else tally.question),
            ("gold answer", tally.gold, gold),
        ):
            if first != second:
                raise DataError(
                    f"problem {problem.id!r} has two {field_name}s: {_short(first)} in {tally.where}; "
                    f"{_short(second)} in {entry.where}. Import the runs of each problem set separately."
                )
        if tally.name != name and isinstance(entry, Response) and isinstance(entry.index, int):
            raise DataError(
                f"{entry.where}: {_short(name)} and {_short(tally.name)} are both problem {problem.id!r}, so that the numbers "
                "of their rollouts are taken twice. Import them without index="
            )
        return tally

    @staticmethod
    def _problem(entry: ImportedEntry, name: str) -> Problem:
        """The problem as the files have it."""
        if not name:
            raise DataError(f"{entry.where}: neither an id nor a question identifies the problem")
        return Problem(
            id=name,
            question=stored_text(entry.question),
            answer=stored_text(entry.gold),
            cluster=stored_text(entry.cluster),
            tier=stored_text(entry.tier),
        )

    def _count(self, tally: _Tally, entry: Count) -> None:
        if tally.where != entry.where and not entry.partial:
            raise DataError(f"{entry.where}: problem {tally.problem.id!r} again, first in {tally.where}")
        tally.n, tally.c = tally.n + entry.n, tally.c + entry.c

    def _store(self, tally: _Tally, entry: Response) -> None:
        text = stored_text(entry.text)
        digest = text_hash(text)
        index = entry.index if isinstance(entry.index, int) else tally.n
        finish = {True: "length", False: "stop", None: None}[entry.truncated]
        self._rollouts.append(
            {
                "problem_id": tally.problem.id,
                "index": index,
                "text": text,
                "text_hash": digest,
                "n_tokens": entry.n_tokens,
                "finish_reason": finish,
            }
        )
        self._unjudged += entry.status is None
        self._rows.append(
            VerdictRow(tally.problem.id, index, digest, self._judged(entry), None, text_flags(text), thought_of(text))
        )
        tally.n += 1
        tally.c += entry.status == "correct"
        self._characters += len(text)
        if len(self._rollouts) >= _SHARD_ROLLOUTS or self._characters >= _SHARD_CHARACTERS:
            self._flush()

    def _judged(self, entry: Response) -> Verdict:
        """The verdict that is stored. A long response that is given as its own answer was not extracted from it."""
        if entry.status is None:
            if entry.reward is not None and len(self._rewards) < _MOST_REWARDS:
                self._rewards[f"{entry.reward:.6g}"] = None
            return Verdict(status="error", kind=NO_VERDICT)
        answer = entry.answer
        if answer is not None and len(answer) > _LONGEST_BARE and answer.strip() == entry.text.strip():
            answer = None
        return Verdict(status=entry.status, answer=answer, kind=entry.kind)

    def _flush(self) -> None:
        if self._rollouts:
            self.run.rollouts.append(_rollout_table(self._rollouts))
            self.verdicts.append(self._rows)
        self._rollouts, self._rows, self._characters = [], [], 0


def _rollout_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows with the same fields as a table of rollouts: columns that they lack are null. Faster than by rows."""
    columns = [
        pa.array([row[column.name] for row in rows], column.type)
        if column.name in rows[0]
        else pa.nulls(len(rows), column.type)
        for column in ROLLOUT_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=ROLLOUT_SCHEMA)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
