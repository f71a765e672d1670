"""From responses to verdicts, the one way there is: take the answer out, find its key, decide each distinct answer once."""

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

_Key = tuple[str, str]  # (problem id, the answer's lossless normal form)
_Item = tuple[_Key, str, Problem]
_KEYS = 65_536  # answers whose normal form is remembered
_AHEAD = 256
_UNDECIDED = Verdict(status="error", kind="undecided")  # stands in a list until the verdict is there


class Decision(NamedTuple):
    """What became of a response: the verdict, and what was found in the text."""

    verdict: Verdict
    extraction: Extraction


class Decider:
    """Verdicts on responses to problems; it remembers what it decided. Threads may share one.

    ``problem_of`` gives the problem of an id, as the verifier compares it (`read_gold`), or raises GoldError: its responses
    are errors of kind ``gold``. ``extract`` takes the answer from a response (default: the verifier's own way). At most
    ``limit`` answers are remembered (None: all). An answer whose verdict is an error is decided again in the next call,
    unless ``keep_errors``. Workers start when the first answer is decided, or on entering the context.
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
        self._pool = VerifierPool[_Key](verifier, workers=workers, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a call that is under way in another thread raises VerifierError."""
        self._pool.close()

    @property
    def distinct(self) -> int:
        """Answers whose verdicts are remembered."""
        return len(self._known)

    def remember(self, problem_id: str, verdict: Verdict) -> None:
        """Take a verdict given earlier: its answer is not decided again. One without an answer, or an error, is of no use."""
        if verdict.answer is not None and verdict.status != "error":
            self._known.put((problem_id, self._key_of(verdict.answer)), verdict)

    def decide(
        self, rows: Iterable[tuple[str, str]], decided: Callable[[int, Decision], None] = lambda place, decision: None
    ) -> list[Decision]:
        """A decision for each ``(problem id, response)``, in their order; ``decided`` is told of each that workers make.

        Of responses with the same answer the first has the seconds that the decision took, the others 0. The rows may
        come from a generator: of a response only the answer is kept.
        """
        found: list[Decision] = []
        waiting: dict[_Key, list[int]] = {}
        failed: dict[_Key, Verdict] = {}
        for key, verdict in self._pool.verify(_ahead(self._undecided(rows, found, waiting, failed))):
            repeated = msgspec.structs.replace(verdict, seconds=0.0)
            if verdict.status != "error" or self._keep_errors:
                self._known.put(key, repeated)
            else:
                failed[key] = repeated
            verdicts = itertools.chain([verdict], itertools.repeat(repeated))
            for place, own in zip(waiting.pop(key), verdicts, strict=False):
                found[place] = Decision(own, found[place].extraction)
                decided(place, found[place])
        return found

    def _undecided(
        self,
        rows: Iterable[tuple[str, str]],
        found: list[Decision],
        waiting: dict[_Key, list[int]],
        failed: dict[_Key, Verdict],
    ) -> Iterator[_Item]:
        """What workers must decide. Every row gets a decision in ``found``; those in ``waiting`` are still to be made."""
        for problem_id, response in rows:
            extraction = self._extract(response)
            try:
                problem = self._problem_of(problem_id)
            except GoldError as error:
                found.append(Decision(_bad_gold(extraction, error), extraction))
                continue
            if extraction.answer is None:
                found.append(Decision(_no_answer(extraction), extraction))
                continue
            key = problem_id, self._key_of(extraction.answer)
            verdict = self._known.recent.get(key) or self._known.recall(key) or failed.get(key)
            found.append(Decision(verdict or _UNDECIDED, extraction))
            if verdict is None and key in waiting:
                waiting[key].append(len(found) - 1)
            elif verdict is None:
                waiting[key] = [len(found) - 1]
                yield key, extraction.answer, problem


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, some read ahead: workers that wait for each single one would have to be woken for each."""
    while some := list(itertools.islice(items, _AHEAD)):
        yield from some


class _Memory:
    """Verdicts by key; of more than ``limit``, those not asked for recently are forgotten. Needs no lock under threads.

    ``recent`` is for looking first; ``recall`` finds what is not there.
    """

    def __init__(self, limit: int | None) -> None:
        self._half = None if limit is None else max(1, limit // 2)
        self.recent: dict[_Key, Verdict] = {}
        self._older: dict[_Key, Verdict] = {}

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)

    def recall(self, key: _Key) -> Verdict | None:
        verdict = self._older.get(key)
        if verdict is not None:
            self.put(key, verdict)
        return verdict

    def put(self, key: _Key, verdict: Verdict) -> None:
        self.recent[key] = verdict
        if self._half is not None and len(self.recent) >= self._half:
            self._older, self.recent = self.recent, {}


def read_gold(verifier: Verifier, problem: Problem) -> Problem:
    """The problem with its gold answer as the verifier compares it. Raises GoldError."""
    gold = verifier.read_gold(problem.answer)
    return problem if gold == problem.answer else msgspec.structs.replace(problem, answer=gold)


def read_golds(verifier: Verifier, problems: Iterable[Problem]) -> tuple[dict[str, Problem], dict[str, str]]:
    """The problems as the verifier compares them, and what is wrong with the gold answers of the others, both by id."""
    read: dict[str, Problem] = {}
    refused: dict[str, str] = {}
    for problem in problems:
        try:
            read[problem.id] = read_gold(verifier, problem)
        except GoldError as error:
            refused[problem.id] = str(error)
    return read, refused


def require_golds(verifier: Verifier, problems: Iterable[Problem]) -> dict[str, Problem]:
    """``read_golds``, where all can be read. Raises GoldError with the first that cannot, and how many."""
    read, refused = read_golds(verifier, problems)
    if refused:
        name, message = next(iter(refused.items()))
        more = f" ({len(refused)} problems have gold answers that cannot be used)" if len(refused) > 1 else ""
        raise GoldError(f"problem {name!r}: {message}{more}")
    return read


def _no_answer(extraction: Extraction) -> Verdict:
    """The verdict on a response that gave no answer; its kind says if a thought was still open."""
    return Verdict(status="no_answer", kind="unfinished_thought" if extraction.unfinished_thought else None)


def _bad_gold(extraction: Extraction, error: GoldError) -> Verdict:
    return Verdict(status="error", kind="gold", answer=extraction.answer, message=in_one_line(str(error)))
