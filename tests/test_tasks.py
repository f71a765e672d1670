"""Every file in tasks/ is tested by being there."""

from __future__ import annotations

import dataclasses
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import rlvr_bench.task as task_module
from rlvr_bench.datasets import Generated, HubDataset
from rlvr_bench.errors import DataError, TaskError, UnknownName, VerifierError
from rlvr_bench.families.puzzles import GymDataset
from rlvr_bench.task import (
    VERIFIER_GROUP,
    describe,
    gold_response,
    join_parameters,
    list_tasks,
    load_task,
    read_task,
    split_parameters,
    task_verifier,
    validate,
)
from rlvr_bench.verifiers.sandbox import sandbox_problem

ROOT = Path(__file__).parent.parent
NOT_AT_HAND = "nobody has had the whole set here; loading it warns and prints the digest"
# Tasks that pin no digest of their problems, and why that is honest; each pins its number of problems all the same.
WITHOUT_DIGEST = {
    **dict.fromkeys(
        (
            *("apex", "beyond_aime", "brumo25", "cmimc25", "hmmt_feb26", "hmmt_nov25", "math_beyond", "matharena"),
            *("olymmath", "smt25", "bbeh_mini", "gpqa_diamond", "ifeval", "mmlu_pro", "supergpqa"),
        ),
        NOT_AT_HAND,
    ),
    "livecodebench": "its files are pinned by revision and SHA-256 of each file; nobody has mapped the whole set here",
    "reasoning_gym": "what a seed generates belongs to the installed version of reasoning-gym, which the source names",
}
# Tasks that have no problems of their own: a parameter names what the problems come from.
NEEDS_PARAMETERS = {"verifiers"}
TASKS = [name for name in list_tasks() if name not in NEEDS_PARAMETERS]


def test_the_listed_tasks_are_the_files() -> None:
    assert list_tasks() == sorted(file.stem for file in (ROOT / "tasks").glob("*.py"))
    assert {
        "double_countdown",
        "gsm8k",
        "math500",
        "aime24",
        "aime25",
        "amc23",
        "minerva_math",
        "olympiadbench",
        "humaneval",
        "mbpp",
        "livecodebench",
        "reasoning_gym",
        "verifiers",
    } <= set(list_tasks())


@pytest.mark.parametrize("name", TASKS)
def test_a_task_pins_its_content_and_documents_itself(name: str) -> None:
    task, file = read_task(name)
    assert task.name == name == file.stem
    if name in WITHOUT_DIGEST:
        assert task.source.sha256 is None
    else:
        assert re.fullmatch("[0-9a-f]{64}", task.source.sha256 or "")
    assert task.source.rows
    assert len(task.cases) >= 3
    # Without the problems nobody knows a right answer; tests/families has problems with the same fields.
    needed = {"no_answer", "wrong"} if WITHOUT_DIGEST.get(name) == NOT_AT_HAND else {"correct", "wrong"}
    assert needed <= {case.status for case in task.cases}
    assert f"| `{name}` |" in (ROOT / "docs" / "tasks.md").read_text()


SLOW = {"humaneval", "mbpp"}  # every gold program runs in a sandbox of its own


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TASKS])
def test_a_task_is_valid(name: str, request: pytest.FixtureRequest) -> None:
    task, _ = read_task(name)
    if task.verifier in ("code", "reasoning_gym") and (problem := sandbox_problem()):
        pytest.skip(problem)
    generated = isinstance(task.source, Generated | GymDataset)
    mirror: Path | None = None if generated else request.getfixturevalue("data_dir")
    if name in WITHOUT_DIGEST and mirror and not any(mirror.glob(f"{name}*")):
        pytest.skip(f"no mirror of {name} here")
    if name == "ifbench":
        for module in ("ifbench", "if_verifiable"):
            pytest.importorskip(module, exc_type=ModuleNotFoundError)
    loaded = load_task(name, mirror)
    assert len({problem.id for problem in loaded.problems}) == task.source.rows
    if isinstance(task.source, GymDataset) and name != "reasoning_gym":
        # Each worker starts a sandbox, and each answer a process in it.
        assert validate(dataclasses.replace(loaded, problems=loaded.problems[:10])) == []
        return
    assert validate(loaded, workers=2) == []


def test_validate_finds_a_wrong_case_a_wrong_gold_and_an_unknown_id(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"q":"1+1?","a":"2"}\n{"q":"1+2?","a":"\\\\frac{"}\n')
    (tmp_path / "mine.py").write_text(
        f"""
from pathlib import Path
from rlvr_bench import Case, LocalFile, Problem, Task
TASK = Task(name="mine", version="1", summary="s", prompt="raw", verifier="math",
    source=LocalFile(file=Path({str(tmp_path)!r}) / "mine.jsonl",
        to_problem=lambda row: Problem(id=str(row.number), question=row.text("q"), answer=row.text("a"))),
    cases=(Case("\\\\boxed{{2}}", "wrong"), Case("\\\\boxed{{2}}", "correct", "nine"), Case("2", "no_answer", "1")))
"""
    )
    findings = {item.where: item.message for item in validate(load_task(str(tmp_path / "mine.py")))}
    assert findings["case 1"] == "expected wrong, got correct"
    assert findings["case 2"] == "no problem with id 'nine'"
    assert "case 3" not in findings
    assert "gold answer of 1" not in findings
    assert findings["gold answer of 2"].startswith("expected correct, got")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "defines no TASK"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def f(:", "SyntaxError"),
        (
            "from rlvr_bench import *\nTASK = Task(name='other', version='1', summary='s', "
            "source=Generated(generate=list, rows=None, sha256=None))",
            "named 'other', the file 'mine'",
        ),
    ],
)
def test_a_file_that_is_no_task_says_why(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(TaskError, match="mine.py") as error:
        load_task(str(tmp_path / "mine.py"))
    assert message in str(error.value)


def test_unknown_tasks_list_what_exists_and_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown task 'gsm8'\. Did you mean 'gsm8k'\? Known: aime24.*--task"):
        load_task("gsm8")
    with pytest.raises(TaskError, match="no such task file"):
        load_task("./nowhere.py")


def test_an_edited_mirror_is_refused(tmp_path: Path, data_dir: Path) -> None:
    text = (data_dir / "aime25.jsonl").read_text()
    (tmp_path / "aime25.jsonl").write_text(text.replace("\\boxed{70}", "\\boxed{71}"))
    with pytest.raises(DataError, match="has changed"):
        load_task("aime25", tmp_path)


def test_no_hub_revision_is_invented() -> None:
    """A revision goes into a task only when someone has seen it; until then the content digest is the pin."""
    for name in list_tasks():
        source = read_task(name)[0].source
        if isinstance(source, HubDataset) and source.revision is not None:
            assert re.fullmatch("[0-9a-f]{40}", source.revision)


PARAMETRISED = """
import dataclasses
from rlvr_bench import Case, Generated, Problem, Task
def make_task(parameters):
    count = int(parameters)
    problems = [Problem(id=str(i), question=f"{i}?", answer=str(i)) for i in range(count)]
    return Task(name=f"mine:{count}", version="1", summary="s", prompt="raw", verifier="integer",
        source=Generated(generate=lambda: problems, rows=count, sha256=None))
TASK = dataclasses.replace(make_task("2"), name="mine")
"""


def test_a_name_with_parameters_makes_its_own_task(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PARAMETRISED)
    plain, five = load_task(str(file)), load_task(f"{file}:05")
    assert (plain.task.name, len(plain.problems)) == ("mine", 2)
    assert (five.task.name, len(five.problems)) == ("mine:5", 5)
    assert not five.is_shipped
    assert (plain.reference, five.reference) == (str(file), f"{file}:5")
    assert load_task(five.reference).digest == five.digest
    assert validate(five) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [("x", r"make_task\('x'\): ValueError: invalid literal"), ("", r"make_task\(''\): ValueError")],
)
def test_parameters_that_make_no_task_say_why_in_one_line(tmp_path: Path, parameters: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(PARAMETRISED)
    with pytest.raises(TaskError, match=message) as error:
        read_task(f"{tmp_path / 'mine.py'}:{parameters}")
    assert "\n" not in str(error.value)


def test_a_made_task_is_named_for_its_file_and_parameters(tmp_path: Path) -> None:
    (tmp_path / "yours.py").write_text(PARAMETRISED)
    with pytest.raises(TaskError, match="named 'mine:3', the file 'yours'; name it 'yours:PARAMETERS'"):
        read_task(f"{tmp_path / 'yours.py'}:3")


def test_a_task_without_make_task_takes_no_parameters() -> None:
    with pytest.raises(TaskError, match="aime24.py: this task takes no parameters; name it without ':easy'"):
        read_task("aime24:easy")
    with pytest.raises(UnknownName, match=r"unknown task 'aime22'\. Did you mean 'aime"):
        read_task("aime22:easy")


def test_parameters_read_back_as_they_were_written() -> None:
    words, values = split_parameters('chain_sum, size=50,ratio=0.5,signs=["+","-"],deep={"a":[1,2]},loud=True,name=x y')
    assert words == ["chain_sum"]
    assert values == {
        "size": 50,
        "ratio": 0.5,
        "signs": ["+", "-"],
        "deep": {"a": [1, 2]},
        "loud": True,
        "name": "x y",
    }
    written = join_parameters(words, values)
    assert written == 'chain_sum,deep={"a":[1,2]},loud=true,name=x y,ratio=0.5,signs=["+","-"],size=50'
    assert split_parameters(written) == (words, values)
    assert split_parameters(join_parameters([], {"text": "5"})) == ([], {"text": "5"})
    for bad in ("size=", "=3", "size=1,size=2"):
        with pytest.raises(TaskError, match="each key once"):
            split_parameters(bad)


def test_a_task_without_gold_answers_is_checked_by_its_cases_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        """
from rlvr_bench import Case, Generated, Problem, Task
TASK = Task(name="mine", version="1", summary="s", prompt="raw", verifier="integer", gold=None,
    source=Generated(generate=lambda: [Problem(id="a", question="1?", answer="1")], rows=1, sha256=None),
    cases=(Case("\\\\boxed{1}", "wrong"),))
"""
    )
    loaded = load_task(str(file))
    assert [item.where for item in validate(loaded)] == ["case 1"]
    assert describe(loaded)["first answer"] == "none: judged by tests"
    with pytest.raises(TaskError, match="'mine' has no gold answers"):
        gold_response(loaded.task, loaded.problems[0])


def installed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Stand for a package that declares a verifier ``theirs``."""
    entry = EntryPoint(name="theirs", value=value, group=VERIFIER_GROUP)
    monkeypatch.setattr(task_module, "entry_points", lambda group: [entry] if group == VERIFIER_GROUP else [])


def user_task(tmp_path: Path, **options: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(
        f"""
from rlvr_bench import Case, Generated, Problem, Task
TASK = Task(name="mine", version="7", summary="s", prompt="raw", verifier="theirs", options={options!r}, gold="{{answer}}",
    source=Generated(generate=lambda: [Problem(id="a", question="1?", answer="one")], rows=1, sha256=None),
    cases=(Case("two", "wrong"),))
"""
    )
    return str(file)


def test_a_verifier_may_come_from_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_verifiers.py").write_text(
        "def same(response, problem):\n    return response == problem.answer\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(monkeypatch, "their_verifiers:same")
    loaded = load_task(user_task(tmp_path))
    assert loaded.open_verifier().options["function"] == "their_verifiers:same"
    assert loaded.open_verifier().version == "7"
    assert validate(loaded) == []


def test_an_installed_verifier_has_a_policy_and_a_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "their_verifiers:same")
    verifier = task_verifier(*read_task(user_task(tmp_path, policy="boxed", version="9")))
    assert (verifier.version, verifier.options["policy"]) == ("9", "boxed")
    with pytest.raises(VerifierError, match="'theirs' has no option depth. It has: policy, version"):
        task_verifier(*read_task(user_task(tmp_path, depth="3")))


def test_an_unknown_verifier_lists_the_table_and_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "their_verifiers:same")
    monkeypatch.setattr(task_module, "entry_points", lambda group: [EntryPoint("others", "a:b", group)])
    with pytest.raises(UnknownName, match=r"unknown verifier 'theirs'.*math.*others"):
        task_verifier(*read_task(user_task(tmp_path)))
