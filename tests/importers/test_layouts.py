"""Further layouts of a program's files: older ones, other kinds of verdicts, several files that are one evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import DataError
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.run import open_run
from tests.importers.made import counts_of, eval_log, inspect_sample, table
from tests.importers.test_formats import by_number


def imported(*sources: Path, out: Path, **options: Any) -> Imported:
    return import_run(sources, ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", **options}))


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
