"""Further layouts of a program's files: older ones, other kinds of verdicts, several files that are one evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import DataError
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.run import open_run
from tests.importers.made import counts_of, eval_log, inspect_sample, jsonl, nemo_line, table
from tests.importers.test_formats import by_number


def imported(*sources: Path, out: Path, **options: Any) -> Imported:
    return import_run(sources, ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", **options}))


def real(*parts: str) -> Path:
    """A real file or folder of another program; the test is skipped where it is not on this machine."""
    root = Path(os.environ.get("RLVR_BENCH_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")
    path = root.joinpath("rollouts", *parts)
    if not path.exists():
        pytest.skip(f"{path}: not on this machine")
    return path


def inspect_json(file: Path, samples: list[dict[str, Any]], indent: int | None = 2) -> Path:
    """A log of ``--log-format json``: one object, whose header comes first."""
    facts = {"run_id": "x", "task": "arithmetic", "model": "my/model", "packages": {"inspect_ai": "0.3.285"}}
    log = {"version": 2, "status": "success", "eval": facts, "plan": {"steps": []}, "results": {}, "samples": samples}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(log, indent=indent))
    return file


@pytest.mark.parametrize("indent", [2, None])
def test_json_logs_of_inspect_are_read_like_the_archives(indent: int | None, tmp_path: Path) -> None:
    rows = table(seed=5)
    samples = [inspect_sample(i, letter, k + 1) for i, row in enumerate(rows) for k, letter in enumerate(row)]
    file = inspect_json(tmp_path / "logs" / "2025_arithmetic.json", samples, indent)
    result = imported(file, out=tmp_path, model=None, task=None, verdict="match")
    assert by_number(result) == counts_of(rows)
    assert result.run.parts[-2:] == ("my--model", "arithmetic")
    assert result.scorecard.run["grading"]["version"] == "0.3.285"
    eval_log(tmp_path / "logs" / "2025_arithmetic.eval", {f"{s['id']}_epoch_{s['epoch']}": s for s in samples})
    both = imported(tmp_path / "logs", out=tmp_path, model="both", verdict="match")
    assert by_number(both) == counts_of(rows), "the same samples in both layouts count once"


def test_a_score_of_inspect_that_is_an_object_gives_a_verdict_per_key(tmp_path: Path) -> None:
    samples = [inspect_sample(i, "c", 1) for i in range(3)]
    for sample, value in zip(samples, ("C", 0, 0.5), strict=True):
        sample["scores"] = {"rubric": {"value": {"right": value, "style": 1}, "answer": "7"}}
    file = inspect_json(tmp_path / "a.json", samples)
    with pytest.raises(DataError, match=r"several verdicts \('rubric/right', 'rubric/style'\)"):
        imported(file, out=tmp_path)
    result = imported(file, out=tmp_path, verdict="rubric/right")
    assert by_number(result) == [(1, 1), (1, 0), (1, 0)]
    assert result.scorecard.quality["error_rate"] == pytest.approx(1 / 3)


def test_every_target_of_inspect_is_kept(tmp_path: Path) -> None:
    samples = [inspect_sample(i, "c", 1) for i in range(3)]
    samples[0]["target"], samples[1]["target"] = ["4", "four"], ["5"]
    run = imported(inspect_json(tmp_path / "a.json", samples), out=tmp_path, verdict="match").run
    assert {problem.id: problem.answer for problem in open_run(run).problems()} == {
        "0": '["4","four"]',
        "1": "5",
        "2": "2",
    }


def test_samples_of_inspect_that_failed_before_any_output_are_not_drawn(tmp_path: Path) -> None:
    samples = [inspect_sample(1, letter, k) for k, letter in enumerate("cwcw")]
    failed = {"message": "connection lost", "traceback": ""}
    samples[1] |= {"error": failed, "scores": None, "output": {"model": "", "choices": [], "completion": ""}}
    samples[3] |= {"error": failed, "scores": None}
    result = imported(inspect_json(tmp_path / "a.json", samples), out=tmp_path, verdict="match")
    assert by_number(result) == [(3, 2)]
    assert [problem.error for problem in result.scorecard.problems] == [1], "one failed after its output"
    assert "1 rollouts failed before any output: they count as not drawn" in result.notes
    again = imported(inspect_json(tmp_path / "b.json", samples[::2]), out=tmp_path, model="b", verdict="match")
    assert not any("not drawn" in note for note in again.notes)


@pytest.mark.parametrize(
    ("right", "wrong", "verdict"),
    [
        ({"strict_eval": {"follow_all_instructions": True}}, {"strict_eval": {"follow_all_instructions": False}}, None),
        (
            {"strict_eval": {"follow_all_instructions": True}, "loose_eval": {"follow_all_instructions": False}},
            {"strict_eval": {"follow_all_instructions": False}, "loose_eval": {"follow_all_instructions": True}},
            "strict_eval",
        ),
        ({"proof_status": "completed"}, {"proof_status": "timeout"}, None),
        ({"swe-bench-metrics": {"resolved": True}}, {"swe-bench-metrics": {"resolved": False}}, None),
        (
            {"eval_status": [{"process_status": "completed"}] * 2},
            {"eval_status": [{"process_status": "completed"}, {"process_status": "error"}]},
            None,
        ),
        ({"passed": True}, {"passed": False}, None),
        ({"graded_list": [True]}, {"graded_list": [False]}, None),
        (
            {"judgement": "Fine. Judgement: Yes", "expected_judgement": "Judgement: Yes"},
            {"judgement": "Judgement: No", "expected_judgement": "Judgement: Yes"},
            None,
        ),
        (
            {"judgement": "Judgement: No", "expected_judgement": "Judgement: No"},
            {"judgement": "**Judgment:** No", "expected_judgement": "Judgement: No"},
            None,
        ),
    ],
)
def test_verdicts_of_every_benchmark_of_nemo_skills(
    right: dict[str, Any], wrong: dict[str, Any], verdict: str | None, tmp_path: Path
) -> None:
    """Also without responses and ids, as the program's repository holds such files: lines are paired by their number."""
    rows = ["cwc", "wcw"]
    expected = counts_of(rows)
    for stripped in (False, True):
        folder = tmp_path / f"{stripped}"
        for k in range(3):
            made = [nemo_line(i, "m", k, id=f"p{i}", expected_answer="same") for i in range(2)]
            verdicts = [right if row[k] == "c" else wrong for row in rows]
            kept = [{"num_generated_tokens": 7 + k} if stripped else line for line in made]
            lines = [line | more for line, more in zip(kept, verdicts, strict=True)]
            jsonl(folder / f"output-rs{k}.jsonl", lines)
        result = imported(folder, out=tmp_path, model=f"{stripped}", verdict=verdict)
        assert [(row.n, row.c) for row in result.scorecard.problems] == expected
        assert ("counts only" in " ".join(result.notes)) == stripped


def test_several_verdicts_of_nemo_skills_ask_for_a_choice(tmp_path: Path) -> None:
    both = {"strict_eval": {"follow_all_instructions": True}, "loose_eval": {"follow_all_instructions": True}}
    file = jsonl(tmp_path / "output-rs0.jsonl", [nemo_line(1, "m", 0, **both)])
    with pytest.raises(DataError, match=r"several verdicts \('strict_eval', 'loose_eval'\)"):
        imported(file, out=tmp_path)


@pytest.mark.parametrize(
    ("benchmark", "verdict", "n", "c"),
    [
        ("answer-judge", None, 48, 21),
        ("gpqa", None, 16, 8),
        ("hendrycks_math", None, 21, 15),
        ("ifeval", "strict_eval", 9, 3),
        ("minif2f", None, 12, 4),
    ],
)
def test_real_files_of_nemo_skills(benchmark: str, verdict: str | None, n: int, c: int, tmp_path: Path) -> None:
    """c counted with the program's own rules (nemo_skills/evaluation/metrics at commit 0b012df)."""
    result = imported(real("nemo_skills", benchmark), out=tmp_path, verdict=verdict)
    problems = result.scorecard.problems
    assert (sum(row.n for row in problems), sum(row.c for row in problems)) == (n, c)
