"""Which problem of a task a problem of another program's files is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rlvr_bench import load_task
from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Response
from rlvr_bench.importers.matching import Matching, TaskProblems
from rlvr_bench.importers.question_text import plain_question
from rlvr_bench.prompts import PROMPTS
from rlvr_bench.records import Problem
from rlvr_bench.task import LoadedTask

SETS = ("aime24", "aime25", "amc23", "gsm8k", "math500", "minerva_math", "olympiadbench", "humaneval", "mbpp")


def loaded(name: str, folder: Path | None = None) -> LoadedTask:
    return load_task(name, folder)


def small(*questions: str, ids: tuple[str, ...] = ()) -> TaskProblems:
    names = ids or tuple(f"set-{i}" for i in range(len(questions)))
    return TaskProblems(
        [Problem(id=i, question=q, answer=str(n)) for n, (i, q) in enumerate(zip(names, questions, strict=True))]
    )


@pytest.mark.parametrize("name", SETS)
def test_no_two_problems_of_a_real_set_have_one_normal_form(name: str, data_dir: Path) -> None:
    problems = loaded(name, data_dir).problems
    assert len({plain_question(problem.question) for problem in problems}) == len(problems)


@pytest.mark.parametrize("name", SETS)
def test_every_problem_of_a_real_set_is_known_in_any_spelling_and_in_any_prompt(name: str, data_dir: Path) -> None:
    problems = loaded(name, data_dir).problems
    task = TaskProblems(problems)
    for problem in problems[::7]:
        text = problem.question
        spelled = [
            text.replace(" ", " \n\t "),
            text.replace("$", " $ "),
            text.replace(" ", "\u00a0").replace("'", "\u2019"),
            f"\ufeff{text}\u200b",
        ]
        wrapped = [template.render(problem).text for template in PROMPTS.values()]
        shots = f"Question: What is two and two?\nAnswer: 4\n\nQuestion: {text}\nAnswer: Let's think."
        for question in (*spelled, *wrapped, shots):
            assert task.find("", question, "") is problem, question


def test_formulas_are_equal_with_other_delimiters_and_spaces() -> None:
    task = small(r"Find the value of $x$ in $$x\,+\,1 = 2.$$", r"Find the value of $x$ in $$x + 1 = 3.$$")
    for spelling in (
        r"Find the value of \(x\) in \[x + 1 = 2.\]",
        r"Find the value of $ x $ in $$x\;+\;1=2.$$",
        "Find  the value\nof x in x+1=2.",
    ):
        problem = task.find("", spelling, "")
        assert problem is not None
        assert problem.id == "set-0"
    assert task.find("", "find the value of x in x+1=2.", "") is None, "upper and lower case differ"


def test_a_question_is_not_found_within_another_number_or_word() -> None:
    task = small("Compute the sum 1+1", "Compute the sum 1+12")
    assert [task.find("", f"Q: Compute the sum 1+1{end}", "") for end in ("2", "3", " now")] == [
        task.problems[1],
        None,
        task.problems[0],
    ]
    assert task.find("", "Recompute the sum 1+1", "") is None


def test_a_prompt_with_two_questions_is_neither_unless_its_id_says_so() -> None:
    task = small("How many eggs are left?", "How many cows are left?", "How many cows are left? And how many eggs?")
    both = "Example: How many eggs are left?\nA: 3\nNow: How many cows are left?\nA:"
    assert task.find("", both, "") is None
    assert task.find("set-1", both, "") is task.problems[1]
    assert task.find("1", both, "") is task.problems[1]
    assert task.find("7", both, "") is None
    longer = "Q: How many cows are left? And how many eggs?"
    assert task.find("", longer, "") is task.problems[2], "the shorter question is a part of the longer one"


def test_two_problems_of_one_text_differ_by_their_ids_alone() -> None:
    task = small("Write a function that counts squares.", "Write a function that counts squares.", ids=("m-5", "m-9"))
    text = "Write a function that counts squares."
    assert task.find("", text, "") is None
    assert [task.find(name, text, "") for name in ("m-9", "9", "0", "M/09")] == [
        task.problems[1],
        task.problems[1],
        task.problems[0],
        task.problems[1],
    ]


@pytest.mark.parametrize(
    ("task", "name", "known"),
    [
        ("humaneval", "HumanEval/7", "HumanEval/7"),
        ("humaneval", "humaneval_007", "HumanEval/7"),
        ("mbpp", "Mbpp/11", "mbpp-11"),
        ("math500", "test/precalculus/807.json", "test/precalculus/807.json"),
        ("aime24", "aime24-060", "aime24-60"),
        ("aime24", "60", None),
        ("aime24", "0", None),
        ("aime24", "aime25-60", None),
    ],
)
def test_an_id_counts_by_itself_a_plain_number_does_not(
    task: str, name: str, known: str | None, data_dir: Path
) -> None:
    problem = TaskProblems(loaded(task, data_dir).problems).find(name, "", "")
    assert (problem and problem.id) == known


def test_numbers_without_a_question_count_where_the_gold_answer_agrees(data_dir: Path) -> None:
    problems = loaded("aime24", data_dir).problems
    task = TaskProblems(problems)
    for at, problem in enumerate(problems):
        assert task.find(str(at), "", f"0{problem.answer}") is problem
        assert task.find(problem.id.rpartition("-")[2], "", problem.answer) is problem
        assert task.find(str(at), "", "-1") is None


def test_an_id_that_is_a_number_gives_way_to_the_question() -> None:
    task = small("How many eggs are left?", "How many cows are left?", ids=("0", "1"))
    assert task.find("0", "How many cows are left?", "") is task.problems[1]
    assert task.find("0", "How many sheep are left?", "") is None
    assert task.find("0", "", "") is task.problems[0]


def test_mbpp_is_known_by_its_sentence_alone(data_dir: Path) -> None:
    task = TaskProblems(loaded("mbpp", data_dir).problems)
    rows = [json.loads(line) for line in (data_dir / "mbpp.jsonl").read_text().splitlines()]
    rows = [row for row in rows if 11 <= row["task_id"] <= 510]
    assert len(rows) == 500
    for row in rows:
        problem = task.find(str(row["task_id"]), row["text"], row["code"])
        assert problem is not None
        assert problem.id == f"mbpp-{row['task_id']}"


def test_two_problems_of_a_file_that_are_one_of_the_task_are_refused_unless_they_are_the_same(data_dir: Path) -> None:
    aime = loaded("aime24", data_dir)
    question = aime.problems[0].question

    def entry(name: str, text: str) -> Response:
        return Response(where=f"f.jsonl, line {name}", problem=name, question=text, gold="", text="")

    same_id, same_text = Matching(aime), Matching(aime)
    assert same_id.resolve(entry("a", question)) is same_id.resolve(entry("a", f"Solve: {question}"))
    assert same_text.resolve(entry("a", question)) is same_text.resolve(entry("b", question.replace("$", " $ ")))
    with pytest.raises(DataError, match="'b' and problem 'a' in f.jsonl, line a are both 'aime24-60' of aime24"):
        same_text.resolve(entry("b", f"Solve: {question}"))


def test_what_a_task_does_not_have_is_counted_with_three_examples(data_dir: Path) -> None:
    aime = loaded("aime24", data_dir)
    matching = Matching(aime)
    for number in range(12):
        for rollout in range(3):
            text = f"How many sheep has farmer {number}?\x1b[31m"
            matching.resolve(Response(where=f"line {rollout}", problem=str(number), question=text, gold="", text=""))
    for problem in aime.problems[:18]:
        matching.resolve(Response(where="w", problem="", question=problem.question, gold="", text=""))
    with pytest.raises(DataError, match=r"^12 of 30 problems are not in aime24 \('0': 'How many .*'2': ") as caught:
        matching.check()
    assert "'3'" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "--task NAME" in str(caught.value)


def test_a_number_alone_says_why_it_is_not_enough(data_dir: Path) -> None:
    matching = Matching(loaded("aime24", data_dir))
    matching.resolve(Response(where="w", problem="0", question="", gold="", text=""))
    with pytest.raises(DataError, match="A plain number does not say which problem it is"):
        matching.check()


@pytest.mark.parametrize(
    "text",
    [
        " " * 2_000_000 + "x",
        "$" * 2_000_000,
        "How many " * 300_000,
        "a" * 2_000_000,
        "\\" * 1_000_001,
        "\ufdfa" * 100_000,
    ],
    ids=["blanks", "dollars", "beginnings", "one-word", "backslashes", "expanding"],
)
def test_a_huge_question_takes_linear_time(text: str) -> None:
    task = small("How many eggs are left?", "How many cows are left?")
    began = time.process_time()
    assert task.find("", text, "") is None
    assert time.process_time() - began < 5
    problem = task.find("", f"{text} How many eggs are left?", "")
    assert problem is task.problems[0]


def test_lone_surrogates_are_no_obstacle() -> None:
    task = small("How many eggs are left?", "How many cows are left?")
    assert task.find("\ud800", "How many \ud800 eggs", "") is None
    assert task.find("\ud800", "\ud800 How many eggs are left? \udfff", "\ud800") is task.problems[0]
