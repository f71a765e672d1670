"""The page to label rollouts on, and the report's section on the verifier's error, in a real browser with hostile texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import pipeline, report
from rlvr_bench.grading import grade_run
from rlvr_bench.labelling.sampling import read_sample
from rlvr_bench.pipeline.labelling import audit_labels
from rlvr_bench.records import Problem
from rlvr_bench.store import RunWriter
from rlvr_bench.store.run import Run, open_run
from rlvr_bench.verifiers import open_verifier
from tests.conftest import draw_of, manifest_with
from tests.reporting.test_browser import CANARY, HOSTILE, browser, watched  # noqa: F401
from tests.reporting.test_browser import pytestmark as needs_browser

TEXT = f"</script><script>{CANARY}</script><img src=x onerror={CANARY}> "


@pytest.fixture
def run(tmp_path: Path) -> Run:
    problems = [Problem(id=f"p{i}<b>", question=f"{TEXT}1 + 1?", answer="2") for i in range(4)]
    with RunWriter(tmp_path / "run", manifest_with(n=8, task="math500"), problems) as writer:
        for problem in problems:
            writer.add(draw_of(problem.id, 0, 8, lambda index: f"{TEXT}\\boxed{{{2 + index % 2}}}"))
    opened = open_run(tmp_path / "run")
    grade_run(opened, open_verifier("integer"))
    return opened


@pytest.fixture
def opened(browser: Any, run: Run, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    audit_labels(run.path, 12, html=tmp_path / "page.html")
    yield from watched(browser, tmp_path / "page.html")


@needs_browser
def test_buttons_and_keys_label_and_the_exported_file_is_read(opened: Any, run: Run, tmp_path: Path) -> None:
    sample = read_sample(run)
    assert sample is not None
    assert TEXT in opened.execute_script("return document.getElementById('page').textContent")
    assert opened.find_elements("css selector", HOSTILE) == []
    opened.execute_script("document.querySelector('button.right').click()")
    for key in "wu":
        opened.execute_script(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))")
    opened.execute_script("document.getElementById('export').click()")
    assert "Write your name" in opened.execute_script("return document.getElementById('message').textContent")
    opened.execute_script(
        "document.getElementById('by').value = 'ann';"
        "const made = URL.createObjectURL; URL.createObjectURL = (blob) => { window.exported = blob; return made(blob); };"
        "document.getElementById('export').click()"
    )
    text = opened.execute_async_script("const done = arguments[0]; window.exported.text().then(done)")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["right"] for row in rows] == [True, False, None]
    assert [(row["problem_id"], row["index"]) for row in rows] == [(r.problem_id, r.index) for r in sample.rollouts[:3]]
    (tmp_path / "labels.jsonl").write_text(text)
    state = audit_labels(run.path, labels=[tmp_path / "labels.jsonl"])
    assert (state.labelled, state.unsure, state.by) == (2, 1, {"ann": 2})
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def reported(browser: Any, run: Run, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    pipeline.score(run.path, verifier_error=(0.05, 0.0))
    report([run.path], tmp_path / "report.html")
    yield from watched(browser, tmp_path / "report.html")


@needs_browser
def test_the_report_has_rates_pass_at_k_and_floor(reported: Any) -> None:
    shown = reported.execute_script("return document.getElementById('verifier-error').innerText")
    assert "False positives 5.00 % (given), false negatives 0.00 % (given)" in shown
    assert "pass@8" in shown
    assert "33.7 %" in shown  # 1 - 0.95^8
    assert reported.find_elements("css selector", HOSTILE) == []
