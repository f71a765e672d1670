"""Where our verifier and another program disagree: counts, rows, files, and what the command line prints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlvr_bench import ImportOptions, Verdict, import_run
from rlvr_bench.disagreements import read_disagreements
from rlvr_bench.pipeline import grade
from rlvr_bench.store.run import open_run, text_hash
from rlvr_bench.store.verdicts import VerdictRow, Verdicts, current_grading
from tests.conftest import run_verb
from tests.importers.made import jsonl

TASK = """
from rlvr_bench import Case, Generated, Problem, Task, Verdict

def judge(response, problem):
    said = response.split()[-1] if response.split() else None
    if said is None:
        return Verdict(status="no_answer")
    if said == "fail":
        raise ValueError("this one cannot be judged")
    right = said == problem.answer
    return Verdict(status="correct" if right else "wrong", answer=said, kind=None if right else "other_number")

TASK = Task(name="last", version="1", summary="Numbers.", gold="It is {answer}", verifier=judge,
    source=Generated(generate=lambda: [Problem(id="1", question="1?", answer="1")], rows=1, sha256=None),
    cases=(Case("It is 1", "correct"),))
"""
Rollouts = dict[int, list[tuple[str, bool | None]]]
# By problem: response, their verdict. The gold answer is the problem's number.
ROLLOUTS: Rollouts = {
    3: [("It is 3", True), ("It is 3", False), ("It is 4", True), ("", False)],
    7: [("It is 7", False), ("fail", True), ("It is 9", False), ("It is 7", None)],
    8: [("It is 8", True), ("=HYPERLINK(1) -8", True), ("It is 8", True), ("It is 1", False)],
}


def lines(rollouts: Rollouts, at: int) -> Sequence[dict[str, object]]:
    return [
        {
            "id": f"p{number}",
            "problem": f"Which number is {number}?",
            "expected_answer": str(number),
            "generation": row[at][0],
            "predicted_answer": row[at][0][-9:] or None,
            "symbolic_correct": row[at][1],
        }
        for number, row in rollouts.items()
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "last.py").write_text(TASK)
    for at in range(4):
        jsonl(tmp_path / "files" / f"output-rs{at}.jsonl", lines(ROLLOUTS, at))
    options = ImportOptions(model="m", task=str(tmp_path / "last.py"), out=tmp_path / "runs")
    return import_run([tmp_path / "files"], options).run


EXPECTED = [("p3", 1), ("p3", 2), ("p7", 0), ("p8", 1)]


def test_the_counts_and_rows_are_those_made_by_hand(run: Path, tmp_path: Path) -> None:
    assert read_disagreements(open_run(run)) is None, "only one of the two has judged"
    grade(run, task=str(tmp_path / "last.py"))
    result = read_disagreements(open_run(run))
    assert result is not None
    assert (result.compared, result.only_ours, result.only_theirs) == (10, 2, 2)
    assert (result.without_theirs, result.without_ours) == (1, 1)
    assert [(row.problem_id, row.index) for row in result.rows] == EXPECTED
    second = result.rows[1]
    assert (second.gold, second.theirs, second.their_answer, second.ours, second.our_answer, second.reason) == (
        *("3", "correct", "It is 4", "wrong", "4", "other_number"),
    )
    assert result.summary == (
        "ours and theirs differ on 4 of 10 (40.0 %): 2 ours correct, theirs wrong; 2 ours wrong, theirs correct; "
        "not compared: 1 without a verdict of theirs, 1 without a verdict of ours"
    )
    assert result.program == "nemo-skills"
    assert result.verifier.startswith("function 1")
    few = read_disagreements(open_run(run), most=2)
    assert few is not None
    assert (few.rows, few.differ) == (result.rows[:2], 4)


def test_a_later_verdict_of_ours_counts(run: Path, tmp_path: Path) -> None:
    grade(run, task=str(tmp_path / "last.py"))
    opened = open_run(run)
    grading = current_grading(opened)
    assert grading is not None
    verdicts = Verdicts(opened, grading.verifier, grading.version, grading.options)
    again = VerdictRow("p3", 1, text_hash("It is 3"), Verdict(status="wrong", answer="3"), 1)
    verdicts.append([again])
    result = read_disagreements(opened)
    assert result is not None
    assert [(row.problem_id, row.index) for row in result.rows] == [key for key in EXPECTED if key != ("p3", 1)]


def test_agreement_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "last.py").write_text(TASK)
    jsonl(tmp_path / "output-rs0.jsonl", lines({3: [("It is 3", True)], 7: [("It is 9", False)]}, 0))
    options = ImportOptions(model="m", task=str(tmp_path / "last.py"), out=tmp_path / "runs", regrade=True)
    result = import_run([tmp_path / "output-rs0.jsonl"], options).disagreements
    assert result is not None
    assert result.summary == "ours and theirs agree on all 2"
    assert result.rows == ()


def test_the_command_line_shows_them_in_every_format(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = str(tmp_path / "last.py")
    assert run_verb("grade", str(run), "--task", task, "--disagreements", str(tmp_path / "all.csv")) == 0
    shown = capsys.readouterr().out
    assert "ours and theirs differ on 4 of 10 (40.0 %)" in shown
    assert "verdicts changed" not in shown, "theirs are no earlier verdicts of ours"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text(), newline="")))
    assert [(row["problem_id"], int(row["index"])) for row in rows] == EXPECTED
    assert rows[0]["their_answer"] == "It is 3"
    assert run_verb("grade", str(run), "--task", task, "--format", "tsv") == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in table] == ["problem", "p3", "p3", "p7", "p8"]
    assert run_verb("grade", str(run), "--task", task, "--json") == 0
    payload = json.loads(capsys.readouterr().out)["disagreements"]
    assert (payload["only_ours"], [row["index"] for row in payload["rows"]]) == (2, [1, 2, 0, 1])


def test_a_csv_for_a_spreadsheet_holds_no_formula(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "last.py").write_text(TASK)
    line = {**lines({3: [("=1+1", True)]}, 0)[0], "predicted_answer": "=1+1\x1b[31m"}
    jsonl(tmp_path / "output-rs0.jsonl", [line])
    task = str(tmp_path / "last.py")
    import_run([tmp_path / "output-rs0.jsonl"], ImportOptions(model="m", task=task, out=tmp_path / "runs"))
    run = tmp_path / "runs" / "m" / "last"
    assert run_verb("grade", str(run), "--task", task, "--disagreements", str(tmp_path / "all.csv")) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    (row,) = csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text(), newline=""))
    assert (row["our_answer"], row["their_answer"][:2]) == ("'=1+1", "'=")


def test_only_the_first_twenty_rows_fill_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "last.py").write_text(TASK)
    many: Rollouts = {number: [(f"It is {number}", False)] for number in range(100, 134)}
    jsonl(tmp_path / "output-rs0.jsonl", lines(many, 0))
    task = str(tmp_path / "last.py")
    assert run_verb("import", str(tmp_path / "output-rs0.jsonl"), "--model", "m", "--task", task, "--regrade",
                    "--out", str(tmp_path / "runs")) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.count(" correct ") >= 20
    assert "p119" in shown
    assert "p120" not in shown
    assert "the first 20 of 34; all of them: rlvr-bench grade RUN --disagreements FILE.csv" in shown


def test_what_has_no_disagreements_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ("evaluate", "--model", "fake", "--task", "double_countdown", "-n", "1", "--limit", "2")
    assert run_verb(*drawn, "--out", str(tmp_path)) == 0
    run = tmp_path / "fake" / "double_countdown"
    assert run_verb("grade", str(run), "--disagreements", str(tmp_path / "all.csv")) == 2
    assert "needs an imported run" in capsys.readouterr().err
    assert run_verb("grade", str(run), str(run), "--disagreements", str(tmp_path / "all.csv")) == 2
    assert "takes one run at a time" in capsys.readouterr().err
    assert not (tmp_path / "all.csv").exists()
