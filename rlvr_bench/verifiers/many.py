"""Verification as a library call: many (response, answer) pairs, each distinct answer decided once, in killable workers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import msgspec

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.extraction import open_policy
from rlvr_bench.verifiers.isolation import VerifierPool
from rlvr_bench.verifiers.protocol import Extraction, Verifier

__all__ = ["no_answer", "verify_many"]

_Key = tuple[str, str]


def no_answer(extraction: Extraction) -> Verdict:
    """The verdict on a response that gave no answer; its kind says if a thought was still open."""
    return Verdict(status="no_answer", kind="unfinished_thought" if extraction.unfinished_thought else None)


def verify_many(
    pairs: Iterable[tuple[str, str]],
    verifier: str | Verifier = "math",
    extract: str = "boxed",
    workers: int = 1,
    timeout_s: float = 5.0,
) -> list[Verdict]:
    r"""Verify ``(response, answer)`` pairs; the verdicts stand in the order of the pairs.

    ``verifier`` is a name (`VERIFIERS`) or a verifier; ``extract`` the policy that takes the answer from a response:
    ``boxed``, ``auto`` (boxed, else the last stated answer, else the last concluding sentence), ``gsm8k``, ``choice``,
    ``regex:...`` and the others of `extraction`. Pairs with the same gold answer and an equivalent extracted one are decided
    once, with ``timeout_s`` of CPU time; the others get ``seconds`` 0. Only extracted answers are kept: ``pairs`` may be a
    generator.
    Raises UnknownName or VerifierError for a bad name or policy, BadArgument for bad limits.
    """
    from rlvr_bench.verifiers import open_verifier

    judge = open_verifier(verifier) if isinstance(verifier, str) else verifier
    take, key_of = open_policy(extract), functools.lru_cache(maxsize=65_536)(judge.key)
    keys: list[_Key | Verdict] = []
    first: dict[_Key, str] = {}
    for response, gold in pairs:
        extraction = take(response)
        if extraction.answer is None:
            keys.append(no_answer(extraction))
            continue
        key = (gold, key_of(extraction.answer))
        first.setdefault(key, extraction.answer)
        keys.append(key)
    decided: dict[_Key, Verdict] = {}
    if first:
        with VerifierPool[_Key](judge, workers=workers, timeout_s=timeout_s) as pool:
            decided.update(pool.verify(_items(first)))
    return list(_in_order(keys, decided))


def _items(first: dict[_Key, str]) -> Iterator[tuple[_Key, str, Problem]]:
    problem = Problem(id="", question="", answer="")
    for key, answer in first.items():
        if problem.answer != key[0]:
            problem = Problem(id="", question="", answer=key[0])
        yield key, answer, problem


def _in_order(keys: list[_Key | Verdict], decided: dict[_Key, Verdict]) -> Iterator[Verdict]:
    seen: set[_Key] = set()
    for key in keys:
        if isinstance(key, Verdict):
            yield key
        elif key in seen:
            yield msgspec.structs.replace(decided[key], seconds=0.0)
        else:
            seen.add(key)
            yield decided[key]
