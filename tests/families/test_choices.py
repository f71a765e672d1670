"""Lettered choices: the shuffle is fixed by seed and id, keeps the right option, and spares options that mean others."""

from __future__ import annotations

import collections
import json
from pathlib import Path

import pytest

from rlvr_bench.errors import DataError
from rlvr_bench.families.choices import LETTERS, Choice, choice_problem
from rlvr_bench.records import Problem
from rlvr_bench.task import load_task, read_task, validate

OPTIONS = ("Mercury", "Venus", "Mars", "Jupiter")


def made(number: int, seed: int = 0, options: tuple[str, ...] = OPTIONS, right: int = 2) -> Problem:
    return choice_problem(Choice(id=f"q{number}", question="Which?", options=options, right=right), "here", seed)


def shown(problem: Problem) -> list[str]:
    return problem.question.splitlines()[2:]


def test_the_letter_of_the_answer_is_that_of_the_right_option() -> None:
    for number in range(50):
        problem = made(number)
        assert f"{problem.answer}. Mars" in shown(problem)
        assert sorted(line[3:] for line in shown(problem)) == sorted(OPTIONS)
        assert [OPTIONS[index] for index in problem.data["order"]] == [line[3:] for line in shown(problem)]


def test_the_shuffle_is_fixed_by_seed_and_id() -> None:
    assert made(3) == made(3)
    assert [made(number).data["order"] for number in range(9)] != [
        made(number, seed=1).data["order"] for number in range(9)
    ]
    assert made(0).data["order"] == [2, 1, 0, 3]  # the same on every machine and in every version


def test_the_right_answer_is_at_each_letter_equally_often() -> None:
    counts = collections.Counter(made(number).answer for number in range(4000))
    assert set(counts) == set("ABCD")
    # Chi-squared with 3 degrees of freedom: 16.3 is exceeded once in a thousand seeds, and the seed is fixed.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 16.3


@pytest.mark.parametrize(
    "last",
    ["All of the above", "None of these", "Both A and B", "A and C", "(B) or (D)", "options A through C", "the above"],
)
def test_options_that_mean_others_keep_their_order(last: str) -> None:
    options = (*OPTIONS[:3], last if last != "the above" else "Neither of the above")
    for number in range(20):
        assert made(number, options=options).data["order"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "last", ["A and the rest", "choice of a partner", "above 30 degrees", "Both of my parents", "BA"]
)
def test_words_that_only_look_like_letters_do_not(last: str) -> None:
    orders = {tuple(made(number, options=(*OPTIONS[:3], last)).data["order"]) for number in range(20)}
    assert len(orders) > 5


@pytest.mark.parametrize(
    ("options", "right"), [(("one",), 0), ((), 0), (("a", ""), 0), (("a", "b"), 2), ((*LETTERS, "more"), 0)]
)
def test_a_question_without_usable_options_is_refused_with_its_row(options: tuple[str, ...], right: int) -> None:
    with pytest.raises(DataError, match="^here: expected 2 to 26 options"):
        made(0, options=options, right=right)


# One row of each set, with the published field names; the content is invented.
ROWS: dict[str, dict[str, object]] = {
    "gpqa_diamond": {
        "Record ID": "rec1",
        "Question": "Which planet?",
        "Correct Answer": "Mars\n",
        **{f"Incorrect Answer {number}": name for number, name in enumerate(("Venus", "Earth", "Pluto"), 1)},
        "High-level domain": "Physics",
        "Subdomain": "Astronomy",
    },
    "mmlu_pro": {
        "question_id": 70,
        "question": "Which planet?",
        "options": ["Venus", "Earth", "Mars"],
        "answer": "C",
        "answer_index": 2,
        "category": "physics",
        "src": "stemez",
    },
    "supergpqa": {
        "uuid": "0a1b",
        "question": "Which planet?",
        "options": ["Venus", "Mars", "Earth", "Pluto"],
        "answer": "Mars",
        "answer_letter": "B",
        "field": "Astronomy",
        "difficulty": "easy",
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_the_sets_are_read_by_their_published_fields(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = read_task(name)
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(ROWS[name]) + "\n")
    (problem,) = task.source.load(name, tmp_path)
    assert f"{problem.answer}. Mars" in problem.question.splitlines()
    assert "options shuffled with seed 0" in task.source.describe()
    with pytest.raises(DataError, match="expected"):  # the published number of problems
        load_task(name, tmp_path)


def test_a_choice_task_of_one_problem_is_valid(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(ROWS["mmlu_pro"]) + "\n")
    (tmp_path / "mine.py").write_text(
        "from rlvr_bench.families.choices import Choice, choice_task\n"
        "TASK = choice_task('mine', 'x/y', 's', lambda row: Choice(id=row.text('question_id'), question=row.text('question'),\n"
        "    options=row.get('options'), right=int(row.text('answer_index'))), rows=1, split='test', licence='MIT')\n"
    )
    assert validate(load_task(str(tmp_path / "mine.py"), tmp_path)) == []
