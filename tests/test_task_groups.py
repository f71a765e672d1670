"""Groups of tasks, and the list of tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr_bench.cli import main
from rlvr_bench.errors import TaskError, UnknownName
from rlvr_bench.following import follow
from rlvr_bench.options import GradeOptions, SampleOptions
from rlvr_bench.pipeline.batch import evaluate_all, forecast_all
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.task import list_tasks, read_task
from rlvr_bench.task_groups import GROUPS, expand_tasks


def test_every_member_of_a_group_is_a_task() -> None:
    for members in GROUPS.values():
        assert set(members) <= set(list_tasks())


def test_a_group_stands_for_its_tasks_once_each() -> None:
    assert expand_tasks(["gsm8k", "group:clean", "double_countdown"]) == [
        "gsm8k",
        "clean_arithmetic",
        "double_countdown",
    ]


def test_an_unknown_group_names_the_groups() -> None:
    with pytest.raises(UnknownName, match=r"unknown group of tasks 'maths-2026'.*math-2026.*rlvr-core"):
        expand_tasks(["group:maths-2026"])


def test_where_one_task_is_needed_a_group_is_refused() -> None:
    with pytest.raises(TaskError, match="'group:clean' is a group of tasks"):
        read_task("group:clean")


def test_evaluate_draws_every_task_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS, "small", ("clean_arithmetic:size=2", "clean_arithmetic:size=2,steps=3"))
    options = SampleOptions(n=2, out=tmp_path)
    assert len(forecast_all(["fake:1.0"], ["group:small"], options)) == 2
    results = evaluate_all(
        ["fake:1.0"], ["group:small"], options, GradeOptions(workers=1), Silent(), lambda result: None
    )
    assert [result.error for result in results] == [None, None]
    assert [result.task for result in results] == list(GROUPS["small"])
    assert [result.scorecard and result.scorecard.pass_at(1).value for result in results] == [1.0, 1.0]


def test_follow_checks_the_group_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="group of tasks"):
        follow(str(tmp_path / "step_*"), ["group:nothing"], SampleOptions(n=1, out=tmp_path))


def test_the_list_says_kind_size_pin_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tasks", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list_tasks()
    assert rows["aime26"] | {"summary": ""} == {
        "name": "aime26",
        "kind": "maths",
        "problems": 30,
        "pinned": True,
        "licence": "CC-BY-NC-SA-4.0",
        "summary": "",
    }
    assert (rows["gpqa_diamond"]["pinned"], rows["math500"]["licence"]) == (False, None)
    with pytest.raises(SystemExit):
        main(["tasks", "list", "--format", "tsv"])
    assert "knights_knaves\tpuzzle\t100\tyes\tApache-2.0" in capsys.readouterr().out
