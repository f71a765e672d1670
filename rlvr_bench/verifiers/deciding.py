"""From responses to verdicts, the one way there is: take the answer out, find its key, decide each distinct answer once."""

from __future__ import annotations

import functools
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
_KEYS = 65_536  # answers whose normal form is remembered


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

    def decide(self, rows: Iterable[tuple[str, str]]) -> list[Decision]:
        """A decision for each ``(problem id, response)``, in their order.

        Of responses with the same answer the first has the seconds that the decision took, the others 0.
        """
        found = dict(self.stream(rows))
        return [found[place] for place in range(len(found))]

    def stream(self, rows: Iterable[tuple[str, str]]) -> Iterator[tuple[int, Decision]]:
        """``decide``, each decision as soon as it is there, with its place among the rows; these are read as needed."""
        ready: list[tuple[int, Decision]] = []
        waiting: dict[_Key, list[tuple[int, Extraction]]] = {}
        failed: dict[_Key, Verdict] = {}
        for key, verdict in self._pool.verify(self._undecided(rows, ready, waiting, failed)):
            repeated = msgspec.structs.replace(verdict, seconds=0.0)
            if verdict.status != "error" or self._keep_errors:
                self._known.put(key, repeated)
            else:
                failed[key] = repeated
            (place, extraction), *others = waiting.pop(key)
            yield place, Decision(verdict, extraction)
            yield from ((place, Decision(repeated, extraction)) for place, extraction in others)
            yield from ready
            ready.clear()
        yield from ready

    def _undecided(
        self,
        rows: Iterable[tuple[str, str]],
        ready: list[tuple[int, Decision]],
        waiting: dict[_Key, list[tuple[int, Extraction]]],
        failed: dict[_Key, Verdict],
    ) -> Iterator[tuple[_Key, str, Problem]]:
        """What workers must decide; the other rows go to ``ready``, or wait for a row that has the same answer."""
        for place, (problem_id, response) in enumerate(rows):
            extraction = self._extract(response)
            try:
                problem = self._problem_of(problem_id)
            except GoldError as error:
                bad = Verdict(status="error", kind="gold", answer=extraction.answer, message=in_one_line(str(error)))
                ready.append((place, Decision(bad, extraction)))
                continue
            if extraction.answer is None:
                ready.append((place, Decision(_no_answer(extraction), extraction)))
                continue
            key = problem_id, self._key_of(extraction.answer)
            verdict = self._known.get(key) or failed.get(key)
            if verdict is not None:
                ready.append((place, Decision(verdict, extraction)))
            elif key in waiting:
                waiting[key].append((place, extraction))
            else:
                waiting[key] = [(place, extraction)]
                yield key, extraction.answer, problem


class _Memory:
    """Verdicts by key; of more than ``limit``, those not asked for recently are forgotten. Needs no lock under threads."""

    def __init__(self, limit: int | None) -> None:
        self._half = None if limit is None else max(1, limit // 2)
        self._recent: dict[_Key, Verdict] = {}
        self._older: dict[_Key, Verdict] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def get(self, key: _Key) -> Verdict | None:
        verdict = self._recent.get(key)
        if verdict is None and self._older:
            verdict = self._older.get(key)
            if verdict is not None:
                self.put(key, verdict)
        return verdict

    def put(self, key: _Key, verdict: Verdict) -> None:
        self._recent[key] = verdict
        if self._half is not None and len(self._recent) >= self._half:
            self._older, self._recent = self._recent, {}


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
