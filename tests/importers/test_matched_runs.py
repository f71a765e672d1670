"""Imports whose problems are those of a task of ours: one problem has one name in all runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import (
    ImportOptions,
    SampleOptions,
    check,
    compare,
    evaluate,
    import_run,
    leaderboard,
    load_task,
    report,
    series,
)
from rlvr_bench.comparison import Incomparable
from rlvr_bench.errors import DataError, RunError
from rlvr_bench.pipeline import grade, score
from rlvr_bench.pipeline.importing import Imported
from rlvr_bench.records import Problem
from rlvr_bench.store.run import open_run
from tests.importers.made import jsonl

N = 4
Text = Callable[[Problem], str]


@pytest.fixture(autouse=True)
def real_sets(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVR_BENCH_DATA_DIR", str(data_dir))


def chat(problem: Problem) -> str:
    return f"<|im_start|>user\nSolve this.\n\n{problem.question}\nThink.<|im_end|>\n<|im_start|>assistant\n"


def nemo(folder: Path, problems: list[Problem], right: int = 2, **more: Callable[[int, Problem], Any]) -> Path:
    """``N`` seeds, of which the first ``right`` are correct, with fields computed from position and problem."""
    for seed in range(N):
        answer = {True: "", False: "1"}[seed < right]  # a digit more is another number
        lines = []
        for at, problem in enumerate(problems):
            line = {
                "id": at,
                "problem": problem.question,
                "expected_answer": problem.answer,
                "generation": f"\\boxed{{{problem.answer}{answer}}}",
                "predicted_answer": f"{problem.answer}{answer}",
                "symbolic_correct": seed < right,
                "num_generated_tokens": seed + 1,  # so that no file is a copy of another
            }
            lines.append({**line, **{name: value(at, problem) for name, value in more.items()}})
        jsonl(folder / f"output-rs{seed}.jsonl", lines[:: 1 if seed % 2 else -1])
    return folder


def verl(folder: Path, problems: list[Problem], right: int = 2) -> Path:
    lines = [
        {
            "input": chat(problem),
            "output": f"\\boxed{{{problem.answer}{'' if rollout < right else '1'}}}",
            "gts": problem.answer,
            "score": 1.0 if rollout < right else 0.0,
            "step": 40,
        }
        for rollout in range(N)
        for problem in problems[::-1]
    ]
    return jsonl(folder / "40.jsonl", lines)


def imported(source: Path, out: Path, model: str, task: str = "aime24", **more: Any) -> Imported:
    return import_run([source], ImportOptions(model=model, task=task, out=out / "runs", **more))


def aime() -> list[Problem]:
    return list(load_task("aime24").problems)


def numbers(run: Imported) -> dict[str, tuple[int, int]]:
    return {problem.id: (problem.n, problem.c) for problem in run.scorecard.problems}


def test_an_import_has_the_problems_of_the_task(tmp_path: Path) -> None:
    task = load_task("aime24")
    mangled = nemo(tmp_path / "nemo", aime(), problem=lambda at, p: p.question.replace(" ", "  ").replace("$", " $ "))
    for name, source in (("nemo", mangled), ("verl", verl(tmp_path / "verl", aime()))):
        result = imported(source, tmp_path, name)
        run = open_run(result.run)
        assert run.problems() == list(task.problems)
        assert (run.manifest.problems_sha256, run.manifest.task_version) == (task.digest, task.task.version)
        assert numbers(result) == {problem.id: (N, 2) for problem in task.problems}
        assert [problem.cluster for problem in result.scorecard.problems] == [p.cluster for p in task.problems]
        assert not any("problems of aime24" in note or "gold" in note for note in result.notes)


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """A run of ours, and two imports: with the other program's verdicts, and graded by ours."""
    ours, _ = evaluate("fake", "aime24", SampleOptions(n=N, out=tmp_path / "runs"))
    theirs = imported(nemo(tmp_path / "nemo", aime(), 3), tmp_path, "theirs@20").run
    graded = imported(verl(tmp_path / "verl", aime(), 1), tmp_path, "graded@40", regrade=True).run
    return [ours, theirs, graded]


def test_compare_takes_imports_and_runs_of_ours_and_names_what_differs(three: list[Path]) -> None:
    result = compare(three)
    assert result.n_problems == 30
    notes = " | ".join(result.notes)
    assert "the prompt of theirs@20, graded@40 is unknown: imported" in notes
    assert (
        "verdicts come from different verifiers: fake by integer 2, theirs@20 by nemo-skills, graded@40 by integer"
        in notes
    )
    assert "sampling differs: fake {" in notes
    assert "theirs@20 unknown" in notes
    means = {pair.second: pair.pass_at_k[0].second for pair in result.pairs}
    assert means == {"theirs@20": 0.75, "graded@40": 0.25}
    same = compare([three[0], three[2]])
    assert not any("different verifiers" in note for note in same.notes)


def test_check_series_leaderboard_and_report_take_them_too(three: list[Path], tmp_path: Path) -> None:
    result = check([three[2]], [three[1]], {"pass@1": 0.05})
    assert result.outcome == "regression"
    steps = series(three[1:], steps=[20, 40])
    assert steps.n_problems == 30
    board = leaderboard(three)
    assert len({row["setting"] for row in board.rows}) == 1, "one table, with ranks"
    assert {row["model"]: row["rank@1"] for row in board.rows}["theirs@20"] == 1
    assert any("theirs@20 on aime24: imported from nemo-skills" in note for note in board.notes)
    written = report(three, tmp_path / "report.html")
    assert written.runs == 3


def test_runs_that_one_program_judged_by_other_verdicts_are_still_refused(tmp_path: Path) -> None:
    problems = aime()
    both = nemo(tmp_path / "files", problems, is_correct=lambda at, problem: True)
    runs = [imported(both, tmp_path, name, verdict=name).run for name in ("symbolic_correct", "is_correct")]
    with pytest.raises(Incomparable, match="verifier_options"):
        compare(runs)


def test_a_part_of_the_problems_is_said_and_compared_as_a_limited_run(tmp_path: Path) -> None:
    part = imported(nemo(tmp_path / "nemo", aime()[12:]), tmp_path, "part", regrade=True)
    assert "18 of the 30 problems of aime24" in part.notes
    assert list(numbers(part)) == [problem.id for problem in aime()[12:]]
    whole = imported(verl(tmp_path / "verl", aime()), tmp_path, "whole").run
    with pytest.raises(Incomparable, match="problems: part has none of its own, whole has 12 of its own"):
        compare([part.run, whole])
    assert compare([part.run, whole], allow=["problems"]).n_problems == 18


def test_problems_of_another_set_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    other = [Problem(id=str(i), question=f"How many sheep has farmer {i}?", answer=str(i)) for i in range(12)]
    source = nemo(tmp_path / "nemo", aime()[:18] + other)
    for regrade in (False, True):
        with pytest.raises(DataError, match="12 of 30 problems are not in aime24"):
            imported(source, tmp_path, "m", regrade=regrade)
    assert not (tmp_path / "runs").exists()
    assert imported(source, tmp_path, "m", task="my-mixture").scorecard.run.task_version == "unknown"


def test_other_gold_answers_are_counted_by_the_verifier_and_the_tasks_are_used(tmp_path: Path) -> None:
    problems = aime()
    spelled = {0: "1000", 1: "one", 2: f"0{problems[2].answer}", 3: f"\\boxed{{{problems[3].answer}}}"}
    source = nemo(tmp_path / "nemo", problems, expected_answer=lambda at, p: spelled.get(at, p.answer))
    result = imported(source, tmp_path, "m", regrade=True)
    (note,) = [note for note in result.notes if "gold" in note]
    assert note.startswith(
        "gold answers of the files that are not those of aime24, by its verifier: 2 of 30 (aime24-60: '1000'"
    )
    assert numbers(result)["aime24-60"] == (N, 2)


def test_an_id_of_the_task_counts_where_the_text_was_edited_and_a_note_says_so(tmp_path: Path) -> None:
    source = nemo(
        tmp_path / "nemo",
        aime(),
        id=lambda at, p: p.id,
        problem=lambda at, p: "Rewritten by hand." if at == 4 else p.question,
    )
    result = imported(source, tmp_path, "m")
    assert any("1 of 30 problems are matched by their ids, though their texts differ" in note for note in result.notes)


def test_counts_are_matched_by_the_ids_of_the_task(tmp_path: Path) -> None:
    rows = "".join(f"{problem.id},8,3\n" for problem in aime()[::-1])
    (tmp_path / "counts.csv").write_text(f"problem_id,n,c\n{rows}")
    result = imported(tmp_path / "counts.csv", tmp_path, "m")
    assert list(numbers(result)) == [problem.id for problem in aime()]
    assert compare([result.run, imported(verl(tmp_path / "v", aime()), tmp_path, "v").run]).n_problems == 30


# ------------------------------------------------------------------------------------- what a task knows
BODY = "    return -1\n"


def human_eval(tmp_path: Path, text: Text, name: str = "samples.jsonl", count: int = 6) -> Path:
    problems = load_task("humaneval").problems[:count]
    lines = []
    for problem in problems:
        lines.append({"task_id": problem.id, "completion": text(problem), "passed": True})
        lines.append({"task_id": problem.id, "completion": BODY, "passed": False})
    return jsonl(tmp_path / name, lines)


@pytest.mark.parametrize(
    "text",
    [
        lambda p: p.answer,
        lambda p: f"{p.answer}\n\n\ndef another(x):\n    return x +",
        lambda p: f"{p.question}{p.answer}",
        lambda p: f"Here it is:\n```python\n{p.question}{p.answer}\n```\nIt works.",
        lambda p: f"```python\n{p.answer}\n```",
    ],
    ids=["completion", "completion-that-goes-on", "prompt-and-completion", "fenced-program", "fenced-completion"],
)
def test_code_is_graded_by_the_tests_of_the_task(text: Text, tmp_path: Path) -> None:
    result = imported(human_eval(tmp_path, text, count=3), tmp_path, "m", "humaneval", regrade=True)
    assert [(n, c) for n, c in numbers(result).values()] == [(2, 1)] * 3
    assert result.disagreements is not None
    assert (result.disagreements.compared, result.disagreements.differ) == (6, 0)


def test_mbpp_is_graded_though_the_files_hold_no_tests(tmp_path: Path) -> None:
    problems = load_task("mbpp").problems[:3]
    lines = [
        {"task_id": f"Mbpp/{problem.id.removeprefix('mbpp-')}", "solution": solution}
        for problem in problems
        for solution in (problem.answer, "def f():\n    pass\n")
    ]
    result = imported(jsonl(tmp_path / "samples.jsonl", lines), tmp_path, "m", "mbpp", regrade=True)
    assert list(numbers(result).values()) == [(2, 1)] * 3
    assert result.disagreements is None, "the files hold no verdicts"


def test_an_import_without_the_tests_says_what_to_do(tmp_path: Path) -> None:
    source = human_eval(tmp_path, lambda p: p.answer)
    run = imported(source, tmp_path, "m", "my-humaneval").run
    with pytest.raises(RunError, match="import it again with --task NAME") as caught:
        grade(run)
    assert "tasks/" not in str(caught.value), "no path of ours"


def test_puzzles_are_graded_with_the_numbers_of_the_task(tmp_path: Path) -> None:
    problems = load_task("double_countdown").problems[:5]
    lines = [
        {"input": f"Puzzle: {p.question}", "output": text, "score": 0.0, "step": 1}
        for p in problems
        for text in (p.answer, "1+1")
    ]
    result = imported(jsonl(tmp_path / "1.jsonl", lines), tmp_path, "m", "double_countdown", regrade=True)
    assert list(numbers(result).values()) == [(2, 1)] * 5
    assert result.disagreements is not None
    assert (result.disagreements.only_ours, result.disagreements.only_theirs) == (5, 0)


CHOICES = """
from rlvr_bench import Case, Generated, Problem, Task

PROBLEMS = [
    Problem(id=f"q{i}", question=f"Which of these letters is number {i}? (A) one (B) two (C) three", answer="ABC"[i % 3])
    for i in range(6)
]
TASK = Task(name="letters", version="1", summary="Letters.", verifier="choice", gold="The answer is ({answer})",
    source=Generated(generate=lambda: PROBLEMS, rows=6, sha256=None), cases=(Case("The answer is (A)", "correct"),))
"""


def test_a_task_of_your_own_is_matched_where_the_files_hold_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "letters.py"
    file.write_text(CHOICES)
    problems = list(load_task(str(file)).problems)
    source = nemo(tmp_path / "nemo", problems, generation=lambda at, p: f"The answer is ({p.answer})")
    result = imported(source, tmp_path, "m", str(file), regrade=True)
    assert open_run(result.run).problems() == problems
    assert list(numbers(result).values()) == [(N, N)] * 6
    assert result.disagreements is not None
    assert (result.disagreements.only_ours, result.disagreements.compared) == (12, 24)
    more = [*problems, Problem(id="x", question="How many sheep has the farmer in the story?", answer="B")]
    with pytest.raises(DataError, match="1 of 7 problems are not in letters"):
        imported(nemo(tmp_path / "more", more), tmp_path, "n", str(file))


def test_grading_later_adds_our_verdicts_and_keeps_theirs(tmp_path: Path) -> None:
    run = imported(nemo(tmp_path / "nemo", aime(), 3), tmp_path, "m").run
    before = sorted(folder.name for folder in (run / "verdicts").iterdir())
    grading, flips = grade(run)
    assert (grading.verifier, flips) == ("integer", [])
    after = sorted(folder.name for folder in (run / "verdicts").iterdir())
    assert len(after) == 2
    assert set(before) < set(after)
    assert score(run).run.grading.verifier == "integer"


def test_verdicts_that_are_not_of_single_responses_are_left_out_with_the_reason(tmp_path: Path) -> None:
    source = nemo(tmp_path / "nemo", aime(), is_correct=lambda at, p: True)
    several = imported(source, tmp_path, "several", regrade=True)
    assert any("kept beside ours: " in note and "several verdicts" in note for note in several.notes)
    assert several.disagreements is None
    chosen = imported(source, tmp_path, "chosen", regrade=True, verdict="is_correct")
    assert chosen.disagreements is not None
    assert (chosen.disagreements.only_theirs, chosen.disagreements.compared) == (60, 120)


def test_a_hostile_manifest_cannot_bring_its_own_tests(tmp_path: Path) -> None:
    """A run folder that calls itself matched is compared with the task before any of its tests run."""
    run = imported(human_eval(tmp_path, lambda p: p.answer), tmp_path, "m", "humaneval").run
    file = run / "problems.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["data"]["test"] = "def check(f):\n    pass\n"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "problems_file_sha256": None}))
    with pytest.raises(RunError, match="its problems are not those of the task 'humaneval'"):
        grade(run)
