"""Gold answers of other programs' files beside those of a task, compared by the task's verifier."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rlvr_bench.errors import GoldError
from rlvr_bench.records import Problem
from rlvr_bench.task import LoadedTask, gold_response, golds_of
from rlvr_bench.verifiers import Decider, Verifier
from rlvr_bench.verifiers.deciding import read_gold

__all__ = ["differing_golds"]


def differing_golds(loaded: LoadedTask, golds: Mapping[str, str]) -> list[str]:
    """The ids of ``golds`` whose answer the task's verifier does not accept for the problem; one that it cannot read too.

    Empty for a task that tests judge: there a gold answer is one program of many. Raises VerifierError.
    """
    if loaded.task.gold is None or loaded.task.runs_problems:
        return []
    verifier, problems = loaded.open_verifier(), golds_of(loaded)
    doubtful = {
        problem.id: golds[problem.id]
        for problem in loaded.problems
        if problem.id in golds and golds[problem.id].strip() != problem.answer.strip()
    }
    read = {name: _read(verifier, problems[name], gold) for name, gold in doubtful.items()}
    said = [(name, gold_response(loaded.task, problem)) for name, problem in read.items() if problem is not None]
    with Decider(verifier, problems.__getitem__) as decider:
        decisions = decider.decide(said)
    accepted = {
        name for (name, _), decision in zip(said, decisions, strict=True) if decision.verdict.status == "correct"
    }
    return [name for name in doubtful if name not in accepted]


def _read(verifier: Verifier, problem: Problem, gold: str) -> Problem | None:
    """The problem with the other gold answer, as the verifier compares it; None where it cannot read it."""
    try:
        return read_gold(verifier, msgspec.structs.replace(problem, answer=gold))
    except GoldError:
        return None
