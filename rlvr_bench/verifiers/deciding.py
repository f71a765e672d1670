"""From responses to verdicts: extract the answer, compute its key, decide each distinct answer once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from rlvr_bench.errors import GoldError, in_one_line
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.isolation import VerifierPool
from rlvr_bench.verifiers.protocol import Extraction, Verifier

__all__ = ["Decider", "Decision", "read_gold", "read_golds", "require_golds"]

_AnswerKey = tuple[str, str]  # (problem id, the answer's lossless normal form)
_Item = tuple[_AnswerKey, str, Problem]
_KEYS = 65_536  # answers whose normal form is remembered
_AHEAD = 256
_UNDECIDED = Verdict(status="error", kind="undecided")  # in the list until a worker has decided


class Decision(NamedTuple):
    """The verdict on a response, and the extraction that it is based on."""

    verdict: Verdict
    extraction: Extraction


class Decider:
    """Decides responses to problems and remembers the verdicts. Threads may share one.

    ``problem_of`` returns the problem with this id as `read_gold` gives it. Where it raises GoldError, the problem's
    responses are errors of kind ``gold``. ``extract`` takes the answer from a response (default: the verifier's policy).
    At most ``limit`` answers are remembered (None: all). An answer whose verdict is an error is decided again in the next
    call, unless ``keep_errors``. Workers start when the first answer is decided, or on entering the context.
    Raises the errors of `VerifierPool`.
    """

    def __init__(
        self,
        verifier: Verifier,
        problem_of: Callable[[str], Problem],
        *,
        extract: Callable[[str], Extraction] | None = None,
        workers: int = 1,
        timeout_s: float = 5.0,
        limit: int | None = None,
        keep_errors: bool = False,
    ) -> None:
        self._problem_of, self._extract = problem_of, extract or verifier.extract
        self._key_of = functools.lru_cache(maxsize=_KEYS if limit is None else min(limit, _KEYS))(verifier.key)
        self._known, self._keep_errors = _Memory(limit), keep_errors
        self._pool = VerifierPool[_AnswerKey](verifier, workers=workers, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A call that is running in another thread raises VerifierError."""
        self._pool.close()

    @property
    def distinct(self) -> int:
        """How many answers have a remembered verdict."""
        return len(self._known)

    def remember(self, problem_id: str, verdict: Verdict) -> None:
        """Store an earlier verdict: its answer is not decided again. Ignores an error, and a verdict without an answer."""
        if verdict.answer is not None and verdict.status != "error":
            self._known.put((problem_id, self._key_of(verdict.answer)), verdict)

    def decide(
        self, rows: Iterable[tuple[str, str]], decided: Callable[[int, Decision], None] = lambda index, decision: None
    ) -> list[Decision]:
        """A decision for each ``(problem id, response)``, in the same order.

        ``decided(index, decision)`` is called for each decision that a worker made. Of several responses with one answer,
        the first has the seconds that the decision took, the others 0. ``rows`` may be a generator: only the extracted
        answers are kept, not the responses.
        """
        decisions: list[Decision] = []
        waiting: dict[_AnswerKey, list[int]] = {}
        failed: dict[_AnswerKey, Verdict] = {}
        for key, verdict in self._pool.verify(_ahead(self._undecided(rows, decisions, waiting, failed))):
            repeated = msgspec.structs.replace(verdict, seconds=0.0)
            if verdict.status != "error" or self._keep_errors:
                self._known.put(key, repeated)
            else:
                failed[key] = repeated
            verdicts = itertools.chain([verdict], itertools.repeat(repeated))
            for index, final in zip(waiting.pop(key), verdicts, strict=False):
                decisions[index] = Decision(final, decisions[index].extraction)
                decided(index, decisions[index])
        return decisions

    def _undecided(
        self,
        rows: Iterable[tuple[str, str]],
        decisions: list[Decision],
        waiting: dict[_AnswerKey, list[int]],
        failed: dict[_AnswerKey, Verdict],
    ) -> Iterator[_Item]:
        """The answers that workers must decide. Appends to ``decisions`` for every row; ``waiting`` lists the open ones."""
        for problem_id, response in rows:
            extraction = self._extract(response)
            try:
                problem = self._problem_of(problem_id)
            except GoldError as error:
                decisions.append(Decision(_bad_gold(extraction, error), extraction))
                continue
            if extraction.answer is None:
                decisions.append(Decision(_no_answer(extraction), extraction))
                continue
            key = problem_id, self._key_of(extraction.answer)
            verdict = self._known.recent.get(key) or self._known.recall(key) or failed.get(key)
            decisions.append(Decision(verdict or _UNDECIDED, extraction))
            if verdict is None and key in waiting:
                waiting[key].append(len(decisions) - 1)
            elif verdict is None:
                waiting[key] = [len(decisions) - 1]
                yield key, extraction.answer, problem


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, read ahead in groups: a worker that waited for every single item would have to be woken for each."""
    while group := list(itertools.islice(items, _AHEAD)):
        yield from group


class _Memory:
    """Verdicts by key; beyond ``limit`` the ones not used recently are forgotten. Needs no lock under threads.

    Look in ``recent`` first; ``recall`` returns what is not in it.
    """

    def __init__(self, limit: int | None) -> None:
        self._half = None if limit is None else max(1, limit // 2)
        self.recent: dict[_AnswerKey, Verdict] = {}
        self._older: dict[_AnswerKey, Verdict] = {}

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)

    def recall(self, key: _AnswerKey) -> Verdict | None:
        verdict = self._older.get(key)
        if verdict is not None:
            self.put(key, verdict)
        return verdict

    def put(self, key: _AnswerKey, verdict: Verdict) -> None:
        self.recent[key] = verdict
        if self._half is not None and len(self.recent) >= self._half:
            self._older, self.recent = self.recent, {}


def read_gold(verifier: Verifier, problem: Problem) -> Problem:
    """The problem with its gold answer as the verifier compares it. Raises GoldError."""
    gold = verifier.read_gold(problem.answer)
    return problem if gold == problem.answer else msgspec.structs.replace(problem, answer=gold)


def read_golds(verifier: Verifier, problems: Iterable[Problem]) -> tuple[dict[str, Problem], dict[str, str]]:
    """The problems as the verifier compares them, and the faults of the other problems' gold answers, both by id."""
    read: dict[str, Problem] = {}
    refused: dict[str, str] = {}
    for problem in problems:
        try:
            read[problem.id] = read_gold(verifier, problem)
        except GoldError as error:
            refused[problem.id] = str(error)
    return read, refused


def require_golds(verifier: Verifier, problems: Iterable[Problem]) -> dict[str, Problem]:
    """The first part of ``read_golds``. Raises GoldError with the first gold answer that cannot be read, and how many."""
    read, refused = read_golds(verifier, problems)
    if refused:
        name, message = next(iter(refused.items()))
        more = f" ({len(refused)} problems have gold answers that cannot be used)" if len(refused) > 1 else ""
        raise GoldError(f"problem {name!r}: {message}{more}")
    return read


def _no_answer(extraction: Extraction) -> Verdict:
    """The verdict on a response without an answer; its kind says whether a thought was still open."""
    return Verdict(status="no_answer", kind="unfinished_thought" if extraction.unfinished_thought else None)


def _bad_gold(extraction: Extraction, error: GoldError) -> Verdict:
    return Verdict(status="error", kind="gold", answer=extraction.answer, message=in_one_line(str(error)))
