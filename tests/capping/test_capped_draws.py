"""Responses cut to a cap are those of a run drawn at that cap with the same seeds, draw for draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import pipeline
from rlvr_bench.capping import score_caps
from rlvr_bench.options import CapOptions, GradeOptions, SampleOptions
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import open_run
from rlvr_bench.store.verdicts import Verdicts, current_grading
from tests.conftest import require

require("torch", "torch")

TASK = "double_countdown"
ONE = GradeOptions(workers=1)
COLUMNS = ["problem_id", "index", "text", "n_tokens", "finish_reason", "token_ids"]


def drawn(folder: Path, **changed: Any) -> Path:
    options = SampleOptions(
        n=6, limit=10, out=folder, draw_batch=3, engine="transformers", temperature=1.0, top_p=1.0, **changed
    )
    path, _ = pipeline.evaluate("zoo:base", TASK, options, ONE)
    return path


def rollouts(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    tables = open_run(path).rollouts.read(COLUMNS)
    return {(row["problem_id"], row["index"]): row for table in tables for row in table.to_pylist()}


def statuses(path: Path) -> dict[tuple[str, int], tuple[str, str | None]]:
    run = open_run(path)
    grading = current_grading(run)
    assert grading is not None
    rows = Verdicts(run, grading.verifier, grading.version, grading.options).rows()
    return {(row.problem_id, row.index): (row.verdict.status, row.verdict.answer) for row in rows}


def card_of(path: Path) -> Scorecard:
    return pipeline.score(path)


LAWS: dict[str, dict[str, Any]] = {
    "plain, by text": {},
    "penalties, min-p and a stop string, by ids": {
        "min_p": 0.02,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.3,
        "stop": ("=1",),
        "token_stats": "full",
    },
    "stop string, by text": {"stop": ("=1",)},
}


@pytest.mark.parametrize("law", LAWS)
def test_a_cut_run_is_the_run_drawn_at_the_cap(tmp_path: Path, law: str) -> None:
    whole = drawn(tmp_path / "whole", max_tokens=32, **LAWS[law])
    cap = 16
    scores = score_caps(whole, CapOptions(token_caps=[cap]), grading=ONE)
    at_cap = drawn(tmp_path / "at cap", max_tokens=cap, **LAWS[law])
    capped = whole / "caps" / f"tokens-{cap}"
    assert rollouts(capped) == rollouts(at_cap)
    assert statuses(capped) == statuses(at_cap)
    mine, theirs = card_of(capped), card_of(at_cap)
    assert [(entry.n, entry.c, entry.truncated, entry.tokens_mean) for entry in mine.problems] == [
        (entry.n, entry.c, entry.truncated, entry.tokens_mean) for entry in theirs.problems
    ]
    first = scores.caps[0].cap
    assert first is not None
    assert first.cut == sum(row["finish_reason"] == "length" for row in rollouts(at_cap).values()) > 10
    assert first.doubtful == 0
    assert first.by == ("token ids" if LAWS[law].get("token_stats") else "tokenizer")
    assert mine.run.sampling == theirs.run.sampling
    for name in ("entropy_mean", "branching_mean"):  # entropies are stored in half precision
        exact = [getattr(entry, name) if first.by == "token ids" else None for entry in theirs.problems]
        assert [getattr(entry, name) for entry in mine.problems] == [
            value if value is None else pytest.approx(value, rel=1e-3) for value in exact
        ]
