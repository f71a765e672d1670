"""Numbers for validation hooks: those of a scorecard of the same rollouts, bounds where something is missing, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlvr_bench
from rlvr_bench import GradeOptions, SampleOptions, evaluate
from rlvr_bench.errors import BadArgument
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.training.validation import (
    validation_metrics,
    verifiers_validation_metrics,
    verl_validation_metrics,
)


def test_they_equal_the_scorecard_of_the_same_rollouts(tmp_path: Path) -> None:
    """In another order of the rollouts, too."""
    options = SampleOptions(n=16, limit=60, out=tmp_path)
    run, _ = evaluate("fake:0.3", "double_countdown", options, GradeOptions(workers=1))
    card = rlvr_bench.score(run, ks=[1, 4, 16])
    outcomes = read_outcomes(open_run(run))
    order = np.random.default_rng(0).permutation(len(outcomes.problem))
    metrics = rlvr_bench.validation_metrics(
        [outcomes.problem_ids[i] for i in outcomes.problem[order]],
        outcomes.is_correct[order],
        tokens=outcomes.n_tokens[order],
        truncated=outcomes.truncated[order],
        answers=[None if code < 0 else code for code in outcomes.answer[order].tolist()],
    )
    for k in (1, 4, 16):
        reach, distinct = card.pass_at(k), card[f"distinct_answers@{k}"]
        assert [metrics[f"val/pass@{k}{part}"] for part in ("", "/low", "/high")] == [
            reach.value,
            reach.low,
            reach.high,
        ]
        got = [metrics[f"val/distinct_answers@{k}{part}"] for part in ("", "/low", "/high")]
        assert got == pytest.approx([distinct.value, distinct.low, distinct.high])
    unsolved, length, cut = card["unsolved"], card["tokens_per_response"], card["truncation_rate"]
    assert unsolved.value is not None
    assert metrics["val/unsolved_share"] == pytest.approx(unsolved.value / 60)
    assert (metrics["val/tokens_per_response"], metrics["val/tokens_per_response/low"]) == (length.value, length.low)
    assert metrics["val/truncation_rate"] == cut.value
    assert (metrics["val/problems"], metrics["val/rollouts"], metrics["val/error_rate"]) == (60, 16, 0)
    assert all(type(value) is float for value in metrics.values())


def test_a_table_is_the_same_as_its_rows() -> None:
    rng = np.random.default_rng(1)
    right, entropy = rng.random((40, 8)) < 0.3, rng.random((40, 8))
    entropy[0] = np.nan
    ids = [f"p{i}" for i in range(40)]
    table = validation_metrics(ids, right, entropy=entropy, ks=(1, 8), prefix="aime")
    rows = validation_metrics(
        np.repeat(ids, 8), right.ravel().tolist(), entropy=entropy.ravel(), ks=[8, 1], prefix="aime"
    )
    assert table == rows
    assert table["aime/pass@1"] == pytest.approx(right.mean())
    assert table["aime/pass@8"] == pytest.approx(right.any(axis=1).mean())
    assert table["aime/unsolved_share/low"] == pytest.approx(1 - table["aime/pass@8/high"])
    assert table["aime/token_entropy"] == pytest.approx(entropy[1:].mean())
    assert "aime/truncation_rate" not in table


def test_missing_rollouts_and_verdicts_give_bounds() -> None:
    """By hand: problem a has 1 of 2 correct, b has none of 1."""
    fewer = validation_metrics(["a", "a", "b"], [1, 0, 0], ks=(1, 2))
    assert fewer["val/pass@1"] == 0.25
    assert "val/pass@2" not in fewer
    assert (fewer["val/pass@2/at_least"], fewer["val/pass@2/at_most"]) == (0.5, 1.0)
    undecided = validation_metrics(["a", "a", "b", "b"], [True, None, False, False], ks=(1,))
    assert undecided["val/pass@1"] == undecided["val/pass@1/at_least"] == 0.25
    assert undecided["val/pass@1/at_most"] == 0.5
    assert undecided["val/unsolved_share"] == 0.5  # a is solved and b is not, whatever the missing verdict is
    assert undecided["val/error_rate"] == 0.25


def test_tensors_are_taken() -> None:
    import torch

    right = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    assert validation_metrics([0, 1], right, tokens=torch.tensor([[5, 7], [9, 11]]), ks=(1,))["val/pass@1"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "fields", "match"),
    [
        (([], []), {}, "problem_ids is 'of 0'"),
        ((["a"], [1, 0]), {}, "one for each rollout of correct"),
        ((["a", "b"], [1, 2]), {}, "correct is 2.0: must be 0 or 1"),
        ((["a", "b"], ["x", "y"]), {}, "array of numbers"),
        (([["a"], ["b"]], [1, 0]), {}, "texts or numbers"),
        ((["a", "b"], [1, 0]), {"tokens": [1]}, "tokens is .1,."),
        ((["a", "b"], [1, 0]), {"tokens": [1, -1]}, "tokens is -1.0"),
        ((["a", "b"], [1, 0]), {"entropy": [1, np.inf]}, "entropy is inf"),
        ((["a", "b"], [1, 0]), {"answers": ["x"]}, "answers is 'of 1'"),
        ((["a", "b"], [1, 0]), {"answers": [["x"], ["y"]]}, "texts or numbers"),
        ((["a", "b"], [1, 0]), {"ks": ()}, "ks is"),
        ((["a", "b"], [1, 0]), {"ks": (0,)}, "from 1 on"),
        ((["a", "b"], np.ones((2, 1, 1))), {}, "one for each"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[Any, Any], fields: dict[str, Any], match: str) -> None:
    with pytest.raises(BadArgument, match=match) as caught:
        validation_metrics(*arguments, **fields)
    assert "\n" not in str(caught.value)


def test_verls_arrays_give_metrics_of_every_data_source() -> None:
    sources = np.array(["aime", "aime", "gsm8k", "aime", "aime"], dtype=object)
    infos = {
        "reward": [1.0, -1.0, 1.0, -1.0, -1.0],
        "acc": [True, False, True, False, False],
        "pred": ["1", "2", "3", "2", None],
    }
    metrics = verl_validation_metrics(sources, ["u", "u", "v", "w", "w"], infos, ks=(1, 2))
    assert (metrics["val/aime/pass@1"], metrics["val/aime/pass@2"], metrics["val/gsm8k/pass@1"]) == (0.25, 0.5, 1.0)
    assert metrics["val/aime/distinct_answers@1"] == 1.0
    assert verl_validation_metrics(sources[:2], ["u", "u"], {"reward": [1.0, -1.0]}, ks=(2,))["val/aime/pass@2"] == 1.0
    with pytest.raises(BadArgument, match=r"\['length'\]: needs acc, score or reward"):
        verl_validation_metrics(sources, ["u"] * 5, {"length": [1] * 5})


def test_rollouts_of_verifiers_environments_are_counted() -> None:
    rollouts: list[dict[str, Any]] = [
        {"example_id": 0, "reward": 1.0, "is_truncated": False, "error": None},
        {"example_id": 0, "reward": 0.2, "is_truncated": True, "error": None},
        {"example_id": 1, "reward": 0.0, "is_truncated": False, "error": "the sandbox ended"},
        {"example_id": 1, "reward": 0.0, "is_truncated": False, "error": None},
    ]
    metrics = verifiers_validation_metrics(rollouts, ks=(1,))
    assert (metrics["val/pass@1/at_least"], metrics["val/pass@1/at_most"]) == (0.25, 0.5)
    assert (metrics["val/truncation_rate"], metrics["val/error_rate"]) == (0.25, 0.25)
    with pytest.raises(BadArgument, match="rollout 0 has no example_id"):
        verifiers_validation_metrics([{"reward": 1.0}])
