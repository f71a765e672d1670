"""The section of the page on verdicts that we and another program do not share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import ImportOptions, import_run, report
from rlvr_bench.pipeline import grade
from rlvr_bench.reporting.second_opinions import MOST, MOST_CHARACTERS, second_opinions
from rlvr_bench.reporting.sources import read_sources
from tests.importers.made import jsonl
from tests.reporting.test_browser import CANARY, HOSTILE, browser, until, watched  # noqa: F401
from tests.reporting.test_browser import pytestmark as needs_browser
from tests.test_disagreements import TASK

TEXT = f"</script><script>{CANARY}</script><img src=x onerror={CANARY}>\u2028 It is"


def graded(folder: Path, count: int, text: str, rollouts: int = 1) -> Path:
    """An import in which we call right what the other program calls wrong, in every rollout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "last.py").write_text(TASK)
    for seed in range(rollouts):
        lines = [
            {
                "id": f"{number}<b onclick={CANARY}>" if number == 0 else f"p{number}",
                "problem": f"<i>Which</i> number is {number}?",
                "expected_answer": str(number),
                "generation": f"{seed}{text} {number}",
                "predicted_answer": f"<b>{number}",
                "symbolic_correct": False,
            }
            for number in range(count)
        ]
        jsonl(folder / "files" / f"output-rs{seed}.jsonl", lines)
    task = str(folder / "last.py")
    run = import_run([folder / "files"], ImportOptions(model="m", task=task, out=folder / "runs", regrade=True)).run
    grade(run, task=task)
    return run


def test_the_page_holds_the_first_ones_and_says_how_many_there_are(tmp_path: Path) -> None:
    (opinion,) = second_opinions(read_sources([graded(tmp_path, 60, "It is", rollouts=2)]))
    assert len(opinion.rows) == MOST
    assert opinion.note.startswith("The first 100 of 120, by problem;")
    assert opinion.summary.startswith(
        "ours and theirs differ on 120 of 120 (100.0 %): 120 ours correct, theirs wrong; 0 ours"
    )
    assert {(row.theirs, row.ours) for row in opinion.rows} == {("wrong", "correct")}
    assert all(row.text.endswith(f"It is {row.gold}") for row in opinion.rows)


def test_long_responses_are_shortened_and_the_page_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlvr_bench.reporting.second_opinions.MOST_CHARACTERS", 10_000)
    (opinion,) = second_opinions(read_sources([graded(tmp_path, 8, "x" * 50_000 + " It is")]))
    assert MOST_CHARACTERS > 100_000
    assert len(opinion.rows) == 3
    assert sum(len(row.text) for row in opinion.rows) <= 10_000
    assert all(row.cut > 40_000 for row in opinion.rows)
    assert opinion.note.startswith("The first 3 of 8")


def test_a_run_of_one_judge_has_no_opinion(tmp_path: Path) -> None:
    jsonl(tmp_path / "output-rs0.jsonl", [{"id": 1, "generation": "1", "symbolic_correct": True}])
    run = import_run([tmp_path / "output-rs0.jsonl"], ImportOptions(model="m", task="t", out=tmp_path / "runs")).run
    assert second_opinions(read_sources([run])) == []


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    run = graded(tmp_path, 5, TEXT)
    report([run], tmp_path / "report.html")
    yield from watched(browser, tmp_path / "report.html")


@needs_browser
def test_each_one_is_a_click_away_and_shown_as_text(opened: Any) -> None:
    opened.execute_script("document.getElementById('second-opinion').scrollIntoView()")
    boxes = opened.find_elements("css selector", "#opinions details")
    assert len(boxes) == 5
    assert not opened.find_elements("css selector", "#opinions pre"), "made when opened"
    assert "Ours and theirs differ on 5 of 5" in opened.execute_script(
        "return document.getElementById('opinions').textContent"
    )
    opened.execute_script("document.querySelector('#opinions details summary').click()")
    until(lambda: opened.find_elements("css selector", "#opinions pre"))
    shown = opened.execute_script("return document.querySelector('#opinions details').textContent")
    for part in (
        TEXT,
        f"0<b onclick={CANARY}> #0",
        "<i>Which</i> number is 0?",
        "theirs ✗ wrong",
        "ours ✓ correct",
        "<b>0",
    ):
        assert part in shown
    assert opened.find_elements("css selector", HOSTILE) == []
    assert opened.execute_script("return document.scripts.length") == 3
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
