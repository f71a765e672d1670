"""Files that other programs wrote, read through a mapping: n, c, texts and golds as counted from the files themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.run import open_run


@pytest.fixture
def rollouts(data_dir: Path) -> Path:
    folder = data_dir / "rollouts"
    if not folder.is_dir():
        pytest.skip("no rollout files of other programs in the mirror")
    return folder


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def imported(file: Path, out: Path, **options: Any) -> Imported:
    return import_run([file], ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", **options}))


def texts(result: Imported) -> dict[str, str]:
    held: dict[str, str] = {}
    for shard in open_run(result.run).rollouts.read(["problem_id", "text"]):
        held |= dict(zip(shard["problem_id"].to_pylist(), shard["text"].to_pylist(), strict=True))
    return held


def test_tora_is_graded_by_our_verifier_where_it_has_no_verdict(rollouts: Path, tmp_path: Path) -> None:
    file = rollouts / "tora" / "gsm8k_first20.jsonl"
    rows = rows_of(file)
    mapping = "problem=idx,question=question,gold=gt,text=code[],answer=pred[]"
    result = imported(file, tmp_path, map=mapping, task="gsm8k", data_dir=rollouts.parent, where=("idx=3",))
    run = open_run(result.run)
    (problem,) = run.problems()
    assert (problem.question, problem.answer) == (rows[3]["question"], rows[3]["gt"])
    assert list(texts(result).values()) == rows[3]["code"]
    assert result.scorecard.run["grading"]["verifier"] == "math"
    judged = imported(
        file, tmp_path, model="judged", map=f"{mapping},verdict=pred[]", correct=rows[0]["gt"], where=("gt=18",)
    )
    expected = sum(row["pred"] == ["18"] for row in rows if row["gt"] == "18")
    assert sum(entry["c"] for entry in judged.scorecard.problems) == expected >= 1


def test_evalscope_reviews(rollouts: Path, tmp_path: Path) -> None:
    file = rollouts / "evalscope" / "reviews_gsm8k_main.jsonl"
    mapping = (
        "problem=index,gold=target,text=messages[-1].content,answer=sample_score.score.extracted_prediction,"
        "verdict=sample_score.score.value.acc"
    )
    result = imported(file, tmp_path, map=mapping)
    expected = {
        str(row["index"]): (row["target"], row["messages"][-1]["content"], row["sample_score"]["score"]["value"]["acc"])
        for row in rows_of(file)
    }
    golds = {problem.id: problem.answer for problem in open_run(result.run).problems()}
    right = {entry["id"]: entry["c"] for entry in result.scorecard.problems}
    held = texts(result)
    assert {name: (golds[name], held[name], right[name]) for name in golds} == expected
    assert {entry["n"] for entry in result.scorecard.problems} == {1}


def test_nemo_gym_rewards(rollouts: Path, tmp_path: Path) -> None:
    file = rollouts / "nemo_gym" / "mcqa.jsonl"
    mapping = (
        "question=responses_create_params.input[-1].content,prompt=responses_create_params.input,gold=expected_answer,"
        "text=response.output[-1].content[0].text,answer=extracted_answer,reward=reward,"
        "tokens=response.usage.output_tokens"
    )
    result = imported(file, tmp_path, map=mapping, correct=">=1")
    rows = rows_of(file)
    assert len(result.scorecard.problems) == len(
        {row["responses_create_params"]["input"][-1]["content"] for row in rows}
    )
    assert sum(entry["n"] for entry in result.scorecard.problems) == len(rows)
    assert sum(entry["c"] for entry in result.scorecard.problems) == sum(row["reward"] for row in rows)
    assert sorted(texts(result).values()) == sorted(row["response"]["output"][-1]["content"][0]["text"] for row in rows)


def test_nemo_skills_files_without_responses_are_counts(rollouts: Path, tmp_path: Path) -> None:
    file = rollouts / "nemo_skills" / "gpqa" / "output-rs0.jsonl"
    rows = rows_of(file)
    result = imported(file, tmp_path, map="problem=#row,verdict=symbolic_correct,answer=predicted_answer")
    assert len(result.scorecard.problems) == len(rows)
    assert sum(entry["c"] for entry in result.scorecard.problems) == sum(row["symbolic_correct"] for row in rows)
