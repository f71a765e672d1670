"""How a stage's progress reaches a log, a terminal, a notebook and a Python program."""

from __future__ import annotations

import gc
import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import Bars, evaluate, grade, score
from rlvr_bench.cli import progress as shown
from rlvr_bench.cli.progress import Strip
from rlvr_bench.errors import RunError
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.pipeline.progress import INTERVAL_S, Lines, duration

TASK = "double_countdown"


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> list[str]:
    return []


def beats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


def until(holds: Callable[[], object]) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


# ------------------------------------------------------------------------------------------------ lines
def test_a_stage_has_a_line_at_its_start_in_between_and_at_its_end(lines: list[str]) -> None:
    clock = Clock()
    progress = Lines(lines.append, clock=clock)
    progress.start("sample", 4800, 1200)
    clock.now += 30
    progress.advance(600, 90_000)
    progress.verified(500, 34)
    progress.report()
    clock.now += 150
    progress.advance(3000, 450_000)
    progress.verified(3600, 90)
    progress.end()
    assert lines == [
        "sample: 1,200/4,800 rollouts, begins",
        "sample: 1,800/4,800 rollouts (38%), 3,000 tokens/s, verified 500, solved 34 problems, about 2 min left",
        "sample: 4,800/4,800 rollouts, 3,000 tokens/s, verified 3,600, solved 90 problems, done after 3 min",
    ]


def test_of_long_responses_the_tokens_are_shown_too(lines: list[str]) -> None:
    clock = Clock()
    progress = Lines(lines.append, clock=clock)
    progress.start("sample", 4800, 1200)
    clock.now += 100
    progress.advance(10, 5000)
    progress.report()
    progress.advance(10, 200_000)
    progress.advance(1000)  # spared by a stopping rule: no response
    progress.report()
    assert lines[1] == "sample: 1,210/4,800 rollouts (25%), 50 tokens/s, about 9 h 58 min left"
    assert ", 205,000 tokens, 2,050 tokens/s, " in lines[2]


def test_before_anything_is_done_no_time_is_promised(lines: list[str]) -> None:
    clock = Clock()
    progress = Lines(lines.append, clock=clock)
    progress.start("load", 1, 0, "models")
    clock.now += 600
    progress.report()
    progress.end()
    assert lines == ["load: 0/1 models (0%), 10 min so far", "load: 0/1 models, ended after 10 min"]


def test_a_stage_that_fails_at_once_says_nothing(lines: list[str]) -> None:
    """A user's error is one line, and nothing was done."""
    progress = Lines(lines.append)
    for total in (1, 10):
        progress.start("import", total, 0, "files")
        progress.end()
    assert not lines


def test_one_piece_is_one_line(lines: list[str]) -> None:
    progress = Lines(lines.append, clock=Clock())
    progress.start("load", 1, 0, "models")
    progress.advance(1)
    progress.end()
    assert lines == ["load: 1/1 models, done after 0 s"]


def test_lines_come_by_themselves_and_stop_with_the_stage(lines: list[str]) -> None:
    progress = Lines(lines.append, interval_s=0.02)
    progress.start("sample", 10, 0)
    until(lambda: len(lines) > 3)
    progress.end()
    until(lambda: not beats())
    n = len(lines)
    time.sleep(0.1)
    assert len(lines) == n
    assert lines[-1].startswith("sample: 0/10 rollouts, ended after")


def test_a_stage_that_has_begun_waits_a_whole_interval(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.pipeline.progress._SILENT_S", 0.02)
    progress = Lines(lines.append)
    progress.start("sample", 10, 0)
    progress.advance(1)
    time.sleep(0.2)
    assert lines == ["sample: 0/10 rollouts, begins"]
    progress.end()


def test_a_new_stage_ends_the_one_before_and_a_complete_one_needs_one_line(lines: list[str]) -> None:
    progress = Lines(lines.append)
    progress.start("sample", 10, 0)
    progress.advance(10)
    progress.start("verify", 10, 10)
    progress.end()
    progress.end()
    assert [line.partition(" after")[0] for line in lines] == [
        "sample: 0/10 rollouts, begins",
        "sample: 10/10 rollouts, done",
        "verify: 10/10 rollouts, nothing left to do",
    ]
    until(lambda: not beats())


def test_lines_that_nobody_holds_any_more_end(lines: list[str]) -> None:
    progress = Lines(lines.append, interval_s=0.02)
    progress.start("sample", 10, 0)
    del progress
    gc.collect()
    until(lambda: not beats())


def test_lanes_have_lines_of_their_own(lines: list[str]) -> None:
    progress = Lines(lines.append)
    for name in ("step-20", "step\x1b[31m"):
        lane = progress.lane(name)
        lane.start("sample", 10, 0)
        lane.note("2 replicas")
        lane.advance(4)
        lane.end()
    assert lines[0] == "step-20 sample: 0/10 rollouts, begins"
    assert lines[1].startswith("step-20 sample: 4/10 rollouts, 2 replicas, ended")
    assert lines[2].startswith("step\\x1b[31m sample")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ------------------------------------------------------------------------------------------------ Python
def test_in_python_the_stages_go_to_the_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rlvr_bench")
    run, _ = evaluate("fake:0.5", TASK, SampleOptions(n=4, limit=5, out=tmp_path, draw_batch=4))
    texts = [record.getMessage() for record in caplog.records if record.name == "rlvr_bench"]
    assert [re.sub(r"after.*|, [\d,]+ tokens/s", "", text) for text in texts] == [
        "sample: 0/20 rollouts, begins",
        f"sample: 20/20 rollouts, verified 20, solved {solved(texts)} problems, done ",
        "verify: 0/20 rollouts, begins",
        "verify: 20/20 rollouts, done ",
        "score: 0/20 rollouts, begins",
        "score: 20/20 rollouts, done ",
    ]
    until(lambda: not beats())
    caplog.clear()
    grade(run)
    score(run)
    assert [text.partition(":")[0] for text in caplog.messages] == ["verify"] * 2 + ["score"] * 2


def solved(texts: list[str]) -> str:
    (number,) = {m.group(1) for text in texts if (m := re.search(r"solved (\d+) problems", text))}
    return number


def test_a_stage_ends_with_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        score(tmp_path)
    with pytest.raises(ValueError, match="full"):
        evaluate("fake:0.5", TASK, SampleOptions(n=4, limit=5, out=tmp_path), progress=Full())
    until(lambda: not beats())


class Full(Lines):
    """Fails in the middle of a stage."""

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        raise ValueError("full")


def test_bars_without_a_terminal_are_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("fake:0.5", TASK, SampleOptions(n=4, limit=5, out=tmp_path), progress=Bars())
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["sample"] * 2 + ["verify"] * 2 + ["score"] * 2
    assert not any("\x1b" in line or "\r" in line for line in said)


def test_bars_in_a_notebook_rewrite_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown, "_is_notebook", lambda: True)
    bars = Bars()
    bars.start("sample", 200, 50)
    bars.advance(50, 900)
    bars.verified(80, 7)
    bars.end()
    bars.start("verify", 200, 200)
    bars.end()
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    first, second, _ = (line.rpartition("\r")[2] for line in said.split("\n"))
    assert first.startswith("sample  50%|██████████          | 100/200 rollouts [0 s")
    assert "verified 80, solved 7 problems" in first
    assert "verify 100%|████████████████████|" in second


def test_a_strip_is_not_redrawn_for_every_rollout_and_leaves_nothing_behind() -> None:
    clock, put = Clock(), list[str]()
    strip = Strip(put.append, clock)
    strip.start("sample", 1000, 0)
    for _ in range(500):
        strip.advance(1, 10)
        clock.now += 0.001
    assert 2 < len(put) < 8
    strip.note("a long note " * 5)
    strip.report()
    strip.note("")
    strip.report()
    assert len(put[-1]) == len(put[-2])  # blanks over what was longer
    strip.end()


# ------------------------------------------------------------------------------------------------ the command line
def cli(*more: str) -> list[str]:
    return [sys.executable, "-m", "rlvr_bench", *more]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs")
    command = cli("evaluate", "--model", "fake:0.5", "--task", TASK, "-n", "4", "--limit", "5", "--out", str(out))
    return out, subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_a_log_has_plain_lines(evaluated: tuple[Path, str]) -> None:
    _, said = evaluated
    assert [line.partition(":")[0] for line in said.splitlines()] == ["sample"] * 2 + ["verify"] * 2 + ["score"] * 2
    assert said.replace("\n", "").isprintable()


def test_scoring_alone_reports_too(evaluated: tuple[Path, str]) -> None:
    (run,) = evaluated[0].glob("*/*")
    said = subprocess.run(cli("score", str(run), "--json"), capture_output=True, text=True, check=True)
    assert [line.partition(":")[0] for line in said.stderr.splitlines()] == ["score"] * 2
    assert json.loads(said.stdout)["run"]["warnings"] == []


def test_a_terminal_has_bars(tmp_path: Path) -> None:
    command = cli("evaluate", "--model", "fake:0.5", "--task", TASK, "-n", "4", "--limit", "5", "--out", str(tmp_path))
    said = in_terminal(command)
    assert "20/20 rollouts" in said
    assert "begins" not in said


def test_an_error_follows_the_bars_without_an_empty_line(evaluated: tuple[Path, str], tmp_path: Path) -> None:
    run = shutil.copytree(next(evaluated[0].glob("*/*")), tmp_path / "run")
    for shard in run.glob("verdicts/*/*.parquet"):
        shard.write_bytes(b"damaged")
    lines = in_terminal(cli("score", str(run)), status=2).replace("\x1b[?25h", "").split("\r\n")
    assert "0/20 rollouts" in lines[0]
    assert lines[1].startswith("rlvr-bench: ")
    assert lines[2:] == [""]
    lines = in_terminal(cli("score", str(tmp_path / "gone")), status=2).split("\r\n")
    assert lines[0].startswith("rlvr-bench: ")


def in_terminal(command: list[str], status: int = 0) -> str:
    """What a program writes where standard error is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        os.close(theirs)
        parts: list[bytes] = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux reports the end of a terminal
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    assert process.returncode == status
    return b"".join(parts).decode()


def test_the_interval_is_half_a_minute() -> None:
    assert INTERVAL_S == 30
    assert any_lines(Bars()).interval_s == 30


def any_lines(bars: Bars) -> Any:
    return bars._lines
