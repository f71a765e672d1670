"""LiveCodeBench's mapping on small rows of both kinds, reasoning-gym by parameters, and what the code tasks' prompts show."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.datasets import DATA_DIR_VARIABLE, check_problems
from rlvr_bench.errors import DataError, TaskError, UnknownName
from rlvr_bench.records import Problem
from rlvr_bench.task import LoadedTask, Task, gold_response, load_task, read_task, task_verifier, validate
from rlvr_bench.verifiers.sandbox import sandbox_problem

ROOT = Path(__file__).parent.parent


@pytest.fixture
def sandbox() -> None:
    if problem := sandbox_problem():
        pytest.skip(problem)


# ------------------------------------------------------------------------------------------------------- LiveCodeBench


def packed(tests: object) -> str:
    """Hidden tests as the hub set holds them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def case(given: str, expected: str, kind: str) -> dict[str, str]:
    return {"input": given, "output": expected, "testtype": kind}


def stdin_row(**changed: Any) -> dict[str, Any]:
    row = {
        "question_title": "22222",
        "question_content": "Print the characters of S that are 2.",
        "platform": "atcoder",
        "question_id": "abc394_a",
        "contest_date": "2025-02-22T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([case("20250222", "22222", "stdin")]),
        "private_test_cases": packed([case("2", "2\n", "stdin"), case("1232", "22", "stdin")]),
        "metadata": "{}",
    }
    return row | changed


def function_row() -> dict[str, Any]:
    return stdin_row() | {
        "platform": "leetcode",
        "question_id": "3500",
        "question_content": "Add all numbers of xs to start.",
        "starter_code": "class Solution:\n    def total(self, xs: List[int], start: int) -> int:\n        ",
        "public_test_cases": json.dumps([case("[1, 2]\n3", "6", "functional")]),
        "private_test_cases": json.dumps([case("[]\n-1", "-1", "functional")]),
        "metadata": json.dumps({"func_name": "total"}),
    }


def live_code(tmp_path: Path, *rows: dict[str, Any], sha256: str | None = None) -> Task:
    """The task with its source cut down to these rows, in a mirror folder."""
    (tmp_path / "livecodebench").mkdir(exist_ok=True)
    content = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "livecodebench" / "test6.jsonl").write_text(content)
    task, _ = read_task("livecodebench")
    source: Any = task.source
    file = dataclasses.replace(source.files[0], rows=len(rows), sha256=sha256)
    return dataclasses.replace(task, source=dataclasses.replace(source, files=(file,)))


def loaded(task: Task, folder: Path) -> LoadedTask:
    problems = task.source.load(task.name, folder)
    digest = check_problems(task.name, task.source, problems)
    return LoadedTask(task=task, file=ROOT / "tasks" / "x.py", problems=tuple(problems), digest=digest)


def test_rows_of_both_kinds_become_problems(tmp_path: Path) -> None:
    reads, adds = loaded(live_code(tmp_path, stdin_row(), function_row()), tmp_path).problems
    assert (reads.id, reads.tier) == ("atcoder-abc394_a", "easy")
    assert [test["output"] for test in reads.data["tests"]] == ["22222", "2\n", "22"]
    assert reads.question.endswith("Read the input from standard input and print the answer to standard output.")
    assert adds.data["fn_name"] == "total"
    assert adds.question.endswith("-> int:\n```")
    assert reads.answer != adds.answer
    assert "3 tests" in reads.answer


@pytest.mark.usefixtures("sandbox")
def test_the_cases_hold_on_a_row_like_theirs(tmp_path: Path) -> None:
    assert validate(loaded(live_code(tmp_path, stdin_row()), tmp_path)) == []


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("return sum(xs, start)", "correct"),
        ("return sum(xs)", "wrong"),
        ("print(6)", "wrong"),
        ("import sys; sys.exit(0)", "wrong"),
    ],
)
def test_functional_tests_call_the_solution(tmp_path: Path, body: str, status: str) -> None:
    task = loaded(live_code(tmp_path, function_row()), tmp_path)
    response = (
        f"```python\nclass Solution:\n    def total(self, xs: List[int], start: int) -> int:\n        {body}\n```"
    )
    verifier = task_verifier(task.task, task.file)
    assert verifier.verify(verifier.extract(response).answer or "", task.problems[0]).status == status


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (Path.touch, (Path("never"),))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(Hostile()))).decode()}, "it names pathlib"),
        ({"private_test_cases": "!!"}, "cannot read field 'private_test_cases'"),
        ({"private_test_cases": base64.b64encode(b"not zlib").decode()}, "cannot read field 'private_test_cases'"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no test cases"),
        ({"public_test_cases": "{"}, "field 'public_test_cases' is not JSON"),
        ({"public_test_cases": '[{"input": "1"}]'}, "a test case is not an object with input, output and testtype"),
        ({"metadata": "[]"}, "field 'metadata' is list, expected dict"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        loaded(live_code(tmp_path, stdin_row(**changed)), tmp_path)
    assert "test6.jsonl, line 1" in str(error.value)
    assert not Path("never").exists()


def test_only_the_pinned_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(stdin_row()).encode()
    right = live_code(tmp_path, stdin_row(), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert len(right.source.load("livecodebench", None)) == 1
    with pytest.raises(DataError, match=r"not the test6\.jsonl of livecodebench/code_generation_lite at 0fe84c3"):
        load_task("livecodebench", tmp_path)
    with pytest.raises(DataError, match="no such file; a mirror of livecodebench/code_generation_lite holds test6"):
        load_task("livecodebench", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("version", "rows", "files"),
    [
        ("v6", 175, "test6.jsonl at"),
        ("release_v1", 400, "test.jsonl at"),
        ("release_v6", 1055, "test.jsonl to test6.jsonl at"),
        ("v4_v5", 268, "test4.jsonl to test5.jsonl at"),
    ],
)
def test_versions_are_named_as_livecodebench_names_them(version: str, rows: int, files: str) -> None:
    task, _ = read_task(f"livecodebench:{version}")
    assert (task.name, task.source.rows) == (f"livecodebench:{version}", rows)
    assert files in task.source.describe()


@pytest.mark.parametrize("version", ["", "v7", "v0", "v6_v4", "release_v1_v2", "latest"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(TaskError, match="no version .*; there are v1 to v6, v4_v6, release_v1 to release_v6"):
        read_task(f"livecodebench:{version}")


# ------------------------------------------------------------------------------------------------------- reasoning-gym


def gym(parameters: str) -> LoadedTask:
    pytest.importorskip("reasoning_gym")
    return load_task(f"reasoning_gym:{parameters}")


def test_parameters_choose_data_set_size_seed_and_difficulty() -> None:
    task = gym("chain_sum,min_terms=4,size=20,seed=7,max_terms=4")
    assert task.task.name == "reasoning_gym:chain_sum,max_terms=4,min_terms=4,seed=7,size=20"
    assert len(task.problems) == 20
    assert {problem.data["metadata"]["num_terms"] for problem in task.problems} == {4}
    assert "reasoning-gym 0" in task.task.source.describe()
    assert validate(task) == []
    again, other = gym("chain_sum,size=20,seed=7,min_terms=4,max_terms=4"), gym("chain_sum,size=20,seed=8")
    assert again.digest == task.digest != other.digest


def test_problems_of_one_contest_are_a_cluster(tmp_path: Path) -> None:
    rows = [
        stdin_row(question_id=f"q{i}", contest_id=contest, contest_date=date)
        for i, (contest, date) in enumerate([("abc394", "2025-02-22T00:00:00")] * 2 + [(None, "2025-03-01"), ("", "")])
    ]
    clusters = [problem.cluster for problem in loaded(live_code(tmp_path, *rows), tmp_path).problems]
    assert clusters == ["atcoder-abc394-2025-02-22"] * 2 + ["atcoder-2025-03-01", ""]


def test_problems_of_several_generators_are_clusters_and_those_of_one_are_not() -> None:
    task = gym("chain_sum,size=3")
    assert {problem.cluster for problem in task.problems} == {""}
    source: Any = dataclasses.replace(task.task.source, dataset="composite")  # type: ignore[type-var]
    entry = {"question": "q", "answer": "a", "metadata": {"source_dataset": "chain_sum"}}
    assert source._problem(0, entry).cluster == "chain_sum"


def test_defaults_are_left_out_of_the_name() -> None:
    one, other = read_task("reasoning_gym:chain_sum,size=200,threshold=1"), read_task("reasoning_gym:chain_sum")
    assert one[0].name == other[0].name == "reasoning_gym:chain_sum"
    assert read_task("reasoning_gym:")[0].source.describe() == read_task("reasoning_gym")[0].source.describe()


def test_a_data_set_without_answers_is_valid_without_gold() -> None:
    task = gym("rubiks_cube,size=3")
    assert task.task.gold is None
    assert validate(task) == []


def test_the_threshold_gives_partial_credit_its_due() -> None:
    response = "\\boxed{-14282 or -14283}"
    for threshold, status in ((1.0, "wrong"), (0.2, "correct")):
        task = gym(f"chain_sum,size=1,threshold={threshold}")
        verifier = task.open_verifier()
        assert verifier.verify(verifier.extract(response).answer or "", task.problems[0]).status == status


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ("chain_sm", UnknownName, "unknown reasoning-gym data set 'chain_sm'. Did you mean 'chain_sum'"),
        ("chain_sum,terms=3", TaskError, "refuses these settings: .*unexpected keyword argument 'terms'"),
        ("chain_sum,min_terms=9,max_terms=2", TaskError, "refuses these settings: max_terms must be >= min_terms"),
        ("chain_sum,size=0", TaskError, "size=0 is not a positive number"),
        ("chain_sum,size=many", TaskError, "size='many' is not a positive number"),
        ("chain_sum,tower_of_hanoi", TaskError, "one data set at a time, not chain_sum, tower_of_hanoi"),
        ("rearc,size=1", DataError, "its scorer does not work on problems kept with a run"),
    ],
)
def test_bad_parameters_are_one_line(parameters: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as error:
        gym(parameters)
    assert "\n" not in str(error.value)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(DataError, match=r"task 'reasoning_gym' needs .* pip install 'rlvr-bench\[reasoning-gym\]'"):
        load_task("reasoning_gym")


def test_reading_a_task_file_imports_no_data_library() -> None:
    check = (
        "import sys; from rlvr_bench.task import list_tasks, read_task; [read_task(name) for name in list_tasks()];"
        "print([name for name in ('reasoning_gym', 'datasets', 'huggingface_hub', 'torch') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_no_prompt_holds_the_solution(name: str, data_dir: Path) -> None:
    task = load_task(name, data_dir)
    for problem in task.problems:
        prompt = task.template.render(problem)
        shown = prompt.text + "".join(message["content"] for message in prompt.messages)
        assert problem.answer.strip() not in shown


def test_an_mbpp_prompt_shows_the_tests_and_its_rows_have_plain_line_ends(data_dir: Path) -> None:
    task = load_task("mbpp", data_dir)
    assert [task.problems[0].id, task.problems[-1].id] == ["mbpp-11", "mbpp-510"]
    for problem in task.problems:
        assert all(test in problem.question for test in problem.data["test_list"])
        assert "\r" not in json.dumps([problem.question, problem.answer, problem.data]).replace("\\\\r", "")


def test_a_humaneval_prompt_is_the_start_of_the_solution(data_dir: Path) -> None:
    task = load_task("humaneval", data_dir)
    for problem in task.problems:
        compile(task.template.render(problem).text + problem.answer, problem.id, "exec")
        assert gold_response(task.task, problem).startswith("```python\n")


@pytest.mark.usefixtures("sandbox")
def test_hub_and_mirror_columns_map_alike(tmp_path: Path) -> None:
    """A mirror may hold all splits and carriage returns; either way the problem is the same."""
    row = {
        "task_id": 11,
        "text": "Double.",
        "code": "def f(x):\r\n  return 2 * x\r\n",
        "test_list": ["assert f(2) == 4"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    (tmp_path / "mbpp.jsonl").write_text("\n".join(json.dumps(row | {"task_id": n}) for n in (1, 11, 510, 511)))
    task, file = read_task("mbpp")
    problems = task.source.load("mbpp", tmp_path)
    assert [problem.id for problem in problems] == ["mbpp-11", "mbpp-510"]
    verifier = task_verifier(task, file)
    statuses = [verifier.verify(problem.answer, problem).status for problem in problems]
    assert statuses == ["correct", "correct"]
    assert isinstance(problems[0], Problem)
