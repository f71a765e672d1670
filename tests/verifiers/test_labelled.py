"""Whole responses with labels: what is extracted and verified, by verifier and policy."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from rlvr_bench.verifiers import verify_many
from tests.verifiers.test_mathematics import is_met

CASES = Path(__file__).parent / "cases"


def labelled(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def by_policy(rows: list[dict[str, str]]) -> dict[tuple[str, str], list[dict[str, str]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["verifier"], row["extract"]].append(row)
    return dict(groups)


def missed(rows: list[dict[str, str]], verifier: str = "math", policy: str = "auto") -> list[tuple[str, str, str]]:
    """Gold, response and status of every case with another verdict than its label."""
    verdicts = verify_many([(row["pred"], row["gold"]) for row in rows], verifier=verifier, extract=policy)
    return [
        (row["gold"], row["pred"], verdict.status)
        for row, verdict in zip(rows, verdicts, strict=True)
        if not is_met(row["expected"], verdict)
    ]


GROUPS = by_policy(labelled("extraction"))


@pytest.mark.parametrize(("verifier", "policy"), sorted(GROUPS))
def test_labelled_responses(verifier: str, policy: str) -> None:
    """The cases were written without looking at the code, so they sample real responses; a few may be too hard for it."""
    rows = GROUPS[verifier, policy]
    wrong = missed(rows, verifier, policy)
    assert [case for case in wrong if case[2] == "correct"] == []
    assert len(wrong) <= 0.01 * len(rows), wrong


def test_what_states_an_answer_and_what_only_holds_numbers() -> None:
    """Bounds, breakdowns, comparisons, checks, closings, cut ends, corrections, forms of numbers."""
    assert missed(labelled("statements")) == []
