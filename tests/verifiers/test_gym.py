from __future__ import annotations

import sys

import pytest

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.records import Problem
from rlvr_bench.verifiers import gym, open_verifier
from rlvr_bench.verifiers.sandbox import sandbox_problem
from rlvr_bench.verifiers.scoring import Scored


def test_a_bad_threshold_is_refused() -> None:
    with pytest.raises(VerifierError, match="threshold"):
        open_verifier("reasoning_gym", threshold=0)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(VerifierError, match="pip install reasoning-gym"):
        open_verifier("reasoning_gym", dataset="chain_sum").verify(
            "1", Problem(id="p", question="", answer="1", data={"metadata": {}})
        )


@pytest.mark.filterwarnings("ignore")
def test_scores_become_right_or_wrong() -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    if without := sandbox_problem():
        pytest.skip(without)
    for name in ("chain_sum", "spell_backward", "countdown"):
        entry = reasoning_gym.create_dataset(name, size=1, seed=3)[0]
        problem = Problem(
            id="p", question=entry["question"], answer=entry["answer"], data={"metadata": entry["metadata"]}
        )
        verifier = open_verifier("reasoning_gym")
        assert verifier.verify(entry["answer"], problem).status == "correct"
        assert verifier.verify("zzz", problem).status == "wrong"
    with pytest.raises(UnknownName, match="chain_sum"):
        open_verifier("reasoning_gym", dataset="chain_sums").verify("1", problem)
    with pytest.raises(VerifierError, match="metadata"):
        open_verifier("reasoning_gym").verify("1", Problem(id="p", question="", answer="1"))


@pytest.mark.filterwarnings("ignore")
def test_partial_credit_obeys_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "_score", lambda dataset, answer, entry, allow_unsafe: Scored(score=float(answer)))
    problem = Problem(id="p", question="", answer="", data={"metadata": {}})
    outcomes = [
        open_verifier("reasoning_gym", threshold=0.5).verify(answer, problem) for answer in ("0", "0.49", "0.5", "1")
    ]
    assert [(verdict.status, verdict.kind) for verdict in outcomes] == [
        ("wrong", None),
        ("wrong", "partial"),
        ("correct", None),
        ("correct", None),
    ]
