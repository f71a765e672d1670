"""Every file in tasks/ is tested by being there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlvr_bench.datasets import Generated, HubDataset
from rlvr_bench.errors import DataError, TaskError, UnknownName
from rlvr_bench.task import list_tasks, load_task, read_task, validate

ROOT = Path(__file__).parent.parent


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
    } <= set(list_tasks())


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_pins_its_content_and_documents_itself(name: str) -> None:
    task, file = read_task(name)
    assert task.name == name == file.stem
    assert re.fullmatch("[0-9a-f]{64}", task.source.sha256 or "")
    assert task.source.rows
    assert len(task.cases) >= 3
    assert {"correct", "wrong"} <= {case.status for case in task.cases}
    assert f"| `{name}` |" in (ROOT / "docs" / "tasks.md").read_text()


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_is_valid(name: str, request: pytest.FixtureRequest) -> None:
    task, _ = read_task(name)
    mirror = None if isinstance(task.source, Generated) else request.getfixturevalue("data_dir")
    loaded = load_task(name, mirror)
    assert len({problem.id for problem in loaded.problems}) == task.source.rows
    assert validate(loaded) == []


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
    found = {item.where: item.message for item in validate(load_task(str(tmp_path / "mine.py")))}
    assert found["case 1"] == "expected wrong, got correct"
    assert found["case 2"] == "no problem with id 'nine'"
    assert "case 3" not in found
    assert "gold answer of 1" not in found
    assert found["gold answer of 2"].startswith("expected correct, got")


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
