"""Verification as a library: a verifier that stays open between calls, and many pairs in one call."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.deciding import Decider, read_gold
from rlvr_bench.verifiers.extraction import open_policy
from rlvr_bench.verifiers.protocol import Verifier
from rlvr_bench.verifiers.table import open_verifier

__all__ = ["Verification", "verify_many"]

_REMEMBERED = 65_536
_NEED_PROBLEMS = frozenset(("code", "countdown", "instructions", "reasoning_gym", "verifiers"))


class Verification:
    """A verifier whose worker processes stay, for a reward function that is called once per sample or per batch.

    ``verifier`` is a name (`VERIFIERS`) with its ``options``, or a verifier. ``extract`` is the policy that takes the answer
    from a response: ``boxed``, ``auto``, ``gsm8k``, ``choice``, ``regex:...`` and the others of `extraction` (None: the
    verifier's policy). Each distinct pair of answer and gold answer is decided once in a worker, within ``timeout_s``
    seconds of CPU time; a hang or a crash there is an ``error`` of that pair alone. The last ``remembered`` decisions cost
    nothing when they are asked for again; errors are not remembered.

    Workers start on entering the context, or with the first answer that must be decided. They end with ``close``, or with
    the interpreter. Threads may share one object: their calls interleave. A forked process starts its workers anew, and so
    does a process that unpickles this object. Daemonic processes may have workers too.

    Raises UnknownName or VerifierError for a bad name, option or policy, BadArgument for bad limits.
    """

    def __init__(
        self,
        verifier: str | Verifier = "math",
        *,
        extract: str | None = None,
        workers: int = 1,
        timeout_s: float = 5.0,
        remembered: int = _REMEMBERED,
        **options: object,
    ) -> None:
        if isinstance(verifier, str):
            judge = open_verifier(verifier, **options)
        elif options:
            raise BadArgument("options", options, "a verifier that is open already takes none")
        elif not hasattr(verifier, "extract"):
            remedy = "name one of VERIFIERS, or wrap a function: FunctionVerifier.of(function)"
            raise BadArgument("verifier", type(verifier).__name__, remedy)
        else:
            judge = verifier
        if judge.name in _NEED_PROBLEMS:
            raise BadArgument("verifier", judge.name, "it needs a problem's data; a pair has a gold answer only")
        if type(workers) is not int or remembered < 0:
            raise BadArgument("workers, remembered", (workers, remembered), "must be whole numbers, not below 0")
        self._again = functools.partial(
            type(self),
            verifier,
            extract=extract,
            workers=workers,
            timeout_s=timeout_s,
            remembered=remembered,
            **options,
        )
        self._decider = Decider(
            judge,
            functools.lru_cache(maxsize=_REMEMBERED)(functools.partial(_problem, judge)),
            extract=None if extract is None else open_policy(extract),
            workers=workers,
            timeout_s=timeout_s,
            limit=remembered,
        )
        self._end = weakref.finalize(self, self._decider.close)

    def verify(self, pairs: Iterable[tuple[str, str]]) -> list[Verdict]:
        """Verdicts on ``(response, answer)`` pairs, in the same order; only the first of equal pairs has its seconds.

        A gold answer that the verifier cannot read makes its pair an ``error`` of kind ``gold``. Raises VerifierError where
        workers do not start or this object is closed, BadArgument for an item that is no pair of texts.
        """
        return [decision.verdict for decision in self._decider.decide(_rows(pairs))]

    def verify_one(self, response: str, answer: str) -> Verdict:
        """The verdict on one response, given the gold answer. Raises the errors of ``verify``."""
        return self.verify([(response, answer)])[0]

    async def averify(self, pairs: Iterable[tuple[str, str]]) -> list[Verdict]:
        """``verify`` in a thread, for an event loop."""
        return await asyncio.to_thread(self.verify, pairs)

    def close(self) -> None:
        """End the workers. A second call does nothing."""
        self._end()

    def __enter__(self) -> Self:
        self._decider.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return self._again, ()


def verify_many(
    pairs: Iterable[tuple[str, str]],
    verifier: str | Verifier = "math",
    extract: str | None = None,
    workers: int = 1,
    timeout_s: float = 5.0,
) -> list[Verdict]:
    """Verify ``(response, answer)`` pairs; the verdicts are in the order of the pairs.

    A `Verification` for one call: see there for the arguments and the errors. Only extracted answers are kept in memory:
    ``pairs`` may be a generator.
    """
    verification = Verification(verifier, extract=extract, workers=workers, timeout_s=timeout_s)
    with contextlib.closing(verification):
        return verification.verify(pairs)


def _rows(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(gold answer, response) of each pair: here the gold answer serves as the problem's id."""
    for number, pair in enumerate(pairs):
        try:
            response, answer = pair
        except (TypeError, ValueError):
            response = answer = None  # type: ignore[assignment]
        if not (isinstance(response, str) and isinstance(answer, str)) or isinstance(pair, str):
            kinds = [type(part).__name__ for part in (pair if isinstance(pair, (tuple, list)) else [pair])]
            raise BadArgument(f"pair {number}", ", ".join(kinds), "must be two texts, (response, answer)")
        yield answer, response


def _problem(verifier: Verifier, answer: str) -> Problem:
    return read_gold(verifier, Problem(id="", question="", answer=answer))
