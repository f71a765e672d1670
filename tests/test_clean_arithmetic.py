"""Clean arithmetic: answers against Python's own parser, and parameters."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from rlvr_bench.errors import TaskError
from rlvr_bench.task import load_task, read_task

ELEMENT = re.compile(r"\d+(?:\^[23])?|\d+/\d+")


def by_python(expression: str) -> Fraction:
    """The value that Python's parser and exact fractions give: an implementation of its own of what binds how."""
    exact = re.sub(r"\d+", lambda match: f"Fraction({match.group()})", expression)
    value = eval(exact.replace("^Fraction(2)", "**2").replace("^Fraction(3)", "**3"))  # our own digits and signs
    assert isinstance(value, Fraction)
    return value


def test_every_answer_is_what_python_computes() -> None:
    problems = load_task("clean_arithmetic").problems + load_task("clean_arithmetic:seed=3,size=400").problems
    for problem in problems:
        expression = problem.question.splitlines()[-1]
        assert set(expression) <= set("0123456789+-*/^() ")
        assert Fraction(problem.answer) == by_python(expression)
        assert len(re.findall(r" [+*/-] ", expression)) == problem.data["steps"]


def test_lengths_and_elements_are_those_of_the_paper() -> None:
    problems = load_task("clean_arithmetic").problems
    assert sorted({problem.data["steps"] for problem in problems}) == list(range(1, 21))
    assert len({problem.tier for problem in problems}) == 4
    for problem in problems:
        numbers = [int(text) for text in re.findall(r"\d+", re.sub(r"\^[23]", "", problem.question.splitlines()[-1]))]
        assert max(numbers) <= 100


def test_parameters_choose_other_problems() -> None:
    loaded = load_task("clean_arithmetic:size=5,steps=7")
    assert [problem.data["steps"] for problem in loaded.problems] == [7] * 5
    assert loaded.task.name == "clean_arithmetic:size=5,steps=7"
    standard = {problem.question for problem in load_task("clean_arithmetic").problems}
    assert standard.isdisjoint(problem.question for problem in load_task("clean_arithmetic:seed=1,steps=9").problems)


@pytest.mark.parametrize(
    "parameters", ["steps=21", "steps=0", "size=20001", "seed=-1", "digits=3", "steps=true", "hard"]
)
def test_other_parameters_are_refused(parameters: str) -> None:
    with pytest.raises(TaskError, match="clean_arithmetic: .* is no parameter; there are steps"):
        read_task(f"clean_arithmetic:{parameters}")
