"""What a verifier says when it fails, and gold answers that no answer can equal: from a task file to every output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import GoldError
from rlvr_bench.grading import Grader, grade_run
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.reporting import report
from rlvr_bench.store import RunWriter
from rlvr_bench.store.run import Run, open_run, text_hash
from rlvr_bench.store.verdicts import ErrorCount, VerdictRow, Verdicts, current_grading
from rlvr_bench.task import load_task, validate
from rlvr_bench.verifiers import FunctionVerifier, open_verifier
from tests.conftest import draw_of, manifest_with, run_verb

TASK = """
from rlvr_bench import Case, Generated, Problem, Task

def judge(response, problem):
    {judge}
    return response == problem.answer

def make():
    return [Problem(id=f"p{{i}}", question=f"{{i}}?", answer=str(i)) for i in range(50)]

TASK = Task(name="mine", version="1", summary="s", prompt="raw", verifier=judge, gold="{{answer}}",
    source=Generated(generate=make, rows=50, sha256=None))
"""


def make_task(folder: Path, judge: str = "pass") -> Path:
    file = folder / "mine.py"
    file.write_text(TASK.format(judge=judge))
    return file


def lines(text: str, beginning: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(beginning)]


RAISES = """if problem.id == "p3": raise KeyError("col\\x1b[2Jour\\nsecond line")"""
SAID = "exception: KeyError: 'col\\x1b[2Jour\\nsecond line'"


def test_validate_says_what_the_verifier_raised_and_how_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_task(tmp_path, "raise ValueError(f'no table\\nfor {problem.id}')")
    findings = validate(load_task(str(file)))
    assert {item.message for item in findings} == {"expected correct, got error (exception): ValueError: no table"}
    assert [item.where for item in findings] == [f"gold answer of p{i}" for i in range(50)]
    assert run_verb("tasks", "validate", str(file)) == 2
    assert lines(capsys.readouterr().out, "50 x") == [
        "50 x expected correct, got error (exception): ValueError: no table"
    ]


def test_evaluate_grade_and_the_report_say_what_the_verifier_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_task(tmp_path, RAISES)
    arguments = ["--model", "fake:0.5", "--task", str(file), "-n", "4", "--out", str(tmp_path), "--workers", "1"]
    assert run_verb("evaluate", *arguments) == 0
    run = next(tmp_path.rglob("scorecard.json")).parent
    out = capsys.readouterr().out
    warnings = [
        "4 of 200 verdicts (2.0%) are errors, which count as not correct",
        "every verdict on p3 is an error: what the model can do there is not known",
    ]
    assert lines(out, "warning: ") == [f"warning: {warning}" for warning in warnings]
    assert lines(out, "verifier errors: ") == [f"verifier errors: 4 x {SAID} (for one, on p3)"]
    card = json.loads((run / "scorecard.json").read_text())
    assert card["run"]["warnings"] == warnings
    assert card["quality"]["error_rate"] == pytest.approx(0.02)
    assert run_verb("grade", str(run), "--task", str(file)) == 0
    again = capsys.readouterr().out
    assert lines(again, "warning: ") + lines(again, "verifier errors: ") == lines(out, "warning: ") + lines(
        out, "verifier errors: "
    )
    report([run], tmp_path / "page.html")
    assert "every verdict on p3 is an error" in (tmp_path / "page.html").read_text()

    make_task(tmp_path)  # mended
    assert run_verb("grade", str(run), "--task", str(file)) == 0
    mended = capsys.readouterr().out
    assert lines(mended, "4 verdicts changed")
    assert not lines(mended, "warning") + lines(mended, "verifier errors")
    assert not pipeline.score(run).run["warnings"]


def stored(tmp_path: Path, golds: list[str], texts: list[str], **changed: Any) -> Run:
    problems = [Problem(id=f"p{i}", question="?", answer=gold) for i, gold in enumerate(golds)]
    with RunWriter(tmp_path / "run", manifest_with(n=len(texts), **changed), problems) as writer:
        for problem in problems:
            writer.add(draw_of(problem.id, 0, len(texts), texts.__getitem__))
    return open_run(tmp_path / "run")


def test_rare_errors_are_named_without_a_warning(tmp_path: Path) -> None:
    run = stored(tmp_path, ["1"] * 3, [str(i) for i in range(100)])
    (tmp_path / "judge.py").write_text(
        "def judge(response, problem):\n    if (response, problem.id) in (('7', 'p1'), ('8', 'p2')):\n"
        "        raise OSError('gone')\n    return True\n"
    )
    grading = grade_run(run, FunctionVerifier(f"{tmp_path / 'judge.py'}:judge"))
    assert grading.errors == (ErrorCount(kind="exception", message="OSError: gone", verdicts=2, problem_id="p1"),)
    assert grading.warnings == ()


def test_many_different_errors_are_counted_and_ten_listed(tmp_path: Path) -> None:
    run = stored(tmp_path, ["1", "2"], [str(i % 15) for i in range(60)])
    (tmp_path / "judge.py").write_text("def judge(response, problem):\n    raise ValueError(response)\n")
    grading = grade_run(run, FunctionVerifier(f"{tmp_path / 'judge.py'}:judge"))
    assert [error.verdicts for error in grading.errors] == [8] * 10
    assert grading.statuses["error"] == 120
    assert grading.warnings[1].startswith("every verdict on p0 and 1 more problems")


def test_messages_without_end_take_no_memory_without_end(tmp_path: Path) -> None:
    run = stored(tmp_path, ["1"], ["x"] * 1500)
    verdicts = Verdicts(run, "exact", "1", {})
    errors = [Verdict(status="error", kind="exception", message=f"no {i}") for i in range(1500)]
    verdicts.append([VerdictRow("p0", i, text_hash("x"), error, 1) for i, error in enumerate(errors)])
    first, *others = verdicts.publish(1, 0.0).errors
    assert (first.message, first.verdicts) == ("other messages", 500)
    assert [error.verdicts for error in others] == [1] * 9


def test_an_error_is_tried_once_in_a_sitting_and_again_in_the_next(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text(
        f"import pathlib\nlog = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "def judge(response, problem):\n    with log.open('a') as file:\n        file.write('x')\n    raise OSError\n"
    )
    run = stored(tmp_path, ["1"], ["a"] * 8)
    verifier = FunctionVerifier(f"{tmp_path / 'judge.py'}:judge")
    with Grader(run, verifier) as grader:
        rows = grader.rows_of(run.rollouts.files()[0])
        for row in rows[:4]:
            grader.grade([row])
    assert (tmp_path / "log").read_text() == "x"
    with Grader(run, verifier) as grader:
        grader.grade_missing()
    assert (tmp_path / "log").read_text() == "xx"


def test_verdicts_stored_without_messages_are_read(tmp_path: Path) -> None:
    run = stored(tmp_path, ["1"], ["\\boxed{1}", "\\boxed{2}"])
    verdicts = Verdicts(run, "exact", "1", {})
    error = Verdict(status="error", kind="timeout")
    one, two = (text_hash(f"\\boxed{{{i}}}") for i in (1, 2))
    verdicts.append(
        [VerdictRow("p0", 0, one, Verdict(status="correct", answer="1"), 1), VerdictRow("p0", 1, two, error, 1)]
    )
    (file,) = verdicts.shards.files()
    old = pq.read_table(pa.BufferReader(file.read_bytes())).drop_columns(["message"])
    file.unlink()
    verdicts.shards.schema = old.schema
    verdicts.shards.append(old)
    again = Verdicts(run, "exact", "1", {})
    assert [row.verdict.message for row in again.rows()] == [None, None]
    assert again.publish(2, 0.0).errors == (ErrorCount(kind="timeout", message=None, verdicts=1, problem_id="p0"),)
    content = json.loads((run.path / "grading.json").read_text())
    del content["errors"], content["warnings"]
    (run.path / "grading.json").write_text(json.dumps(content))
    grading = current_grading(run)
    assert grading is not None
    assert (grading.errors, grading.warnings) == ((), ())


GOLDS = """
from rlvr_bench import Case, Generated, Problem, Task
GOLDS = {golds!r}
TASK = Task(name="mine", version="1", summary="s", prompt="raw", verifier="integer",
    cases=(Case("\\\\boxed{{73}}", "correct", "p0"),),
    source=Generated(rows=len(GOLDS), sha256=None, generate=lambda: [
        Problem(id=f"p{{i}}", question=f"{{i}}?", answer=gold) for i, gold in enumerate(GOLDS)]))
"""


def test_golds_that_cannot_be_answers_are_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOLDS.format(golds=["73", "Paris", "x^2", "5"]))
    findings = {item.where: item.message for item in validate(load_task(str(file)))}
    assert list(findings) == ["gold answer of p1", "gold answer of p2"]
    assert "Paris" in findings["gold answer of p1"]
    arguments = ["--model", "fake", "--task", str(file), "-n", "2", "--out", str(tmp_path / "runs")]
    for verb in ("evaluate", "sample"):
        assert run_verb(verb, *arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("rlvr-bench: task 'mine', problem 'p1': ")
        assert line.endswith("(2 problems have gold answers that cannot be used)")
    assert not (tmp_path / "runs").exists()
    assert run_verb("tasks", "validate", str(file)) == 2
    assert "gold answer of p2" in capsys.readouterr().out


def test_the_golds_of_a_stored_run_are_looked_at_too(tmp_path: Path) -> None:
    run = stored(tmp_path, ["73", "Paris"], ["\\boxed{73}"])
    with pytest.raises(GoldError, match=r"run: problem 'p1': .*Paris"):
        grade_run(run, open_verifier("integer"))


def test_the_answer_of_a_worked_solution_is_what_is_compared(tmp_path: Path) -> None:
    """By the task's check, by grading, and by the fake model; what is stored stays as it was given."""
    worked = "Half of it is 36.5, so all of it is 73.\n#### 73"
    file = tmp_path / "mine.py"
    file.write_text(GOLDS.format(golds=[worked, "5"]))
    loaded = load_task(str(file))
    assert validate(loaded) == []
    run, card = pipeline.evaluate("fake:1", str(file), SampleOptions(n=4, out=tmp_path / "runs"))
    assert [(entry["n"], entry["c"]) for entry in card.problems] == [(4, 4), (4, 4)]
    assert [problem.answer for problem in open_run(run).problems()] == [worked, "5"]
    audit = pipeline.audit(run)
    assert (audit.agree, audit.disagree) == (2, 0)
    assert loaded.problems[0].answer == worked


def test_a_message_survives_the_way_through_json() -> None:
    verdict = Verdict(status="error", kind="exception", message="ValueError: no")
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
