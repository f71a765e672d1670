"""Competitions: fields of the hub's sets, names with parameters, and the warning of a set without a pin."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import rlvr_bench.task as task_module
from rlvr_bench.datasets import content_digest
from rlvr_bench.errors import DataError, TaskError
from rlvr_bench.task import list_tasks, load_task, read_task, validate

NOVEMBER = [
    {"problem_idx": 1, "problem": "What is $1+1$?", "answer": "2", "problem_type": ["Number Theory", "Algebra"]},
    {"problem_idx": 2, "problem": "What is half of $\\pi$?", "answer": "\\frac{\\pi}{2}", "problem_type": ["Geometry"]},
]


@pytest.fixture(autouse=True)
def no_warning_given_yet() -> None:
    task_module._warn_unpinned.cache_clear()


def mirror(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_competition_by_name_reads_its_mirror_and_judges_expressions(tmp_path: Path) -> None:
    loaded = load_task("matharena:hmmt_nov_2025", mirror(tmp_path, "matharena_hmmt_nov_2025", NOVEMBER))
    assert [problem.id for problem in loaded.problems] == ["matharena-hmmt_nov_2025-1", "matharena-hmmt_nov_2025-2"]
    assert [problem.tier for problem in loaded.problems] == ["Algebra and Number Theory", "Geometry"]
    assert loaded.task.source.describe() == "MathArena/hmmt_nov_2025, train"
    assert validate(loaded) == []


def test_a_set_without_a_pin_warns_once_with_the_digest_to_pin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = mirror(tmp_path, "matharena_brumo_2025", NOVEMBER)
    with caplog.at_level(logging.WARNING, logger="rlvr_bench"):
        loaded = load_task("matharena:brumo_2025", folder)
        load_task("matharena:brumo_2025", folder)
    (message,) = caplog.messages
    assert f"sha256={content_digest(loaded.problems)!r}" in message


def test_a_pinned_set_does_not_warn(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="rlvr_bench"):
        load_task("aime26", data_dir)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["../secret", "a b", "", "x" * 80, "-rf", "imo 2025"])
def test_a_name_that_is_no_competition_is_refused(name: str) -> None:
    with pytest.raises(TaskError, match="no name of a competition"):
        read_task(f"matharena:{name}")


def test_proofs_have_no_answer_and_are_refused_in_one_line(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"problem_idx": 1, "problem": "Prove it.", "points": 7}]
    with pytest.raises(
        DataError, match=r"line 1: field 'answer' or 'solution' is missing .* problem_idx, problem, points"
    ):
        load_task("matharena:imo_2025", mirror(tmp_path, "matharena_imo_2025", rows))


def test_a_set_of_another_size_than_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 problems in MathArena/hmmt_feb_2026, train, expected 33"):
        load_task("hmmt_feb26", mirror(tmp_path, "hmmt_feb26", NOVEMBER))


def test_parts_of_olymmath() -> None:
    assert read_task("olymmath:zh-hard")[0].source.describe() == "RUC-AIBOX/OlymMATH, zh-hard, test"
    with pytest.raises(TaskError, match="no part 'hard'; there are en-easy, en-hard, zh-easy, zh-hard"):
        read_task("olymmath:hard")


def test_the_papers_and_rounds_of_a_competition_are_its_clusters(data_dir: Path) -> None:
    papers = [problem.cluster for problem in load_task("aime26", data_dir).problems]
    assert papers == ["2026_AIME_I"] * 15 + ["2026_AIME_II"] * 15
    rounds = [problem.cluster for problem in load_task("hmmt_feb25", data_dir).problems]
    assert [rounds.count(name) for name in dict.fromkeys(rounds)] == [10, 10, 10]


def test_every_task_has_a_kind() -> None:
    kinds = {name: read_task(name)[0].kind for name in list_tasks()}
    assert [name for name, kind in kinds.items() if kind == "other"] == ["bbeh_mini", "verifiers"]
