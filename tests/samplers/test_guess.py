from __future__ import annotations

from pathlib import Path

import pytest

from rlvr_bench import SampleOptions, countdown, evaluate
from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline import sample
from rlvr_bench.store import open_run
from rlvr_bench.zoo.tokenizer import encode


def test_the_control_is_drawn_and_graded_like_a_checkpoint(tmp_path: Path) -> None:
    run, card = evaluate("zoo:guess", "double_countdown", SampleOptions(n=64, limit=60, out=tmp_path))
    by_id = {problem["id"]: problem for problem in card.problems}
    rates = {tier: [p["c"] / p["n"] for p in by_id.values() if p["tier"] == tier] for tier in countdown.TIERS}
    # Guessing solves an easy problem about once in 15, a hard one less than once in 200.
    assert 0.02 < sum(rates["easy"]) / len(rates["easy"]) < 0.2
    assert sum(rates["hard"]) / len(rates["hard"]) < 0.02
    for table in open_run(run).rollouts.read(["text", "n_tokens"]):
        for row in table.to_pylist()[:50]:
            assert row["n_tokens"] == len(encode(row["text"])) + 1
    assert card.run["engine"] == "guess"


def test_it_plays_one_task_only(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="double_countdown only"):
        sample("zoo:guess", "reasoning_gym:chain_sum,size=5", SampleOptions(n=1, out=tmp_path))
