"""Work in several processes: the same results, the same errors, the same log, and an end when it is interrupted."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench import GradeOptions, RlvrBenchError, SampleOptions, errors, evaluate, leaderboard, report, stats
from rlvr_bench import pipeline as stages
from rlvr_bench.errors import BadArgument, RunLocked, UnknownName
from rlvr_bench.parallel import map_in_order
from rlvr_bench.pipeline import several
from rlvr_bench.pipeline.several import grade_all, score_all
from tests.comparison.made import card
from tests.conftest import run_verb

TASK = "double_countdown"
logger = logging.getLogger("rlvr_bench.test")


def work(item: int) -> int:
    logger.warning("item %d", item)
    if item == 13:
        raise BadArgument("item", item, "must be lucky")
    if item == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_with_what_was_logged(jobs: int, caplog: pytest.LogCaptureFixture) -> None:
    assert list(map_in_order(work, [3, 1, 2], jobs=jobs)) == [9, 1, 4]
    assert caplog.messages == ["item 3", "item 1", "item 2"]
    assert list(map_in_order(work, [], jobs=jobs)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_where_its_result_is_due(jobs: int) -> None:
    results = map_in_order(work, [1, 13, 2], jobs=jobs)
    assert next(results) == 1
    with pytest.raises(BadArgument, match="item is 13: must be lucky") as raised:
        next(results)
    assert raised.value.value == 13


def test_a_killed_worker_is_one_clear_line() -> None:
    with pytest.raises(RlvrBenchError, match="worker process was killed, perhaps for memory: use a smaller -j"):
        list(map_in_order(work, [1, 14], jobs=2))


def test_there_must_be_a_process() -> None:
    with pytest.raises(BadArgument, match="-j is 0"):
        list(map_in_order(work, [1], jobs=0))


@pytest.mark.parametrize(
    "error",
    [BadArgument("-j", 0, "no"), UnknownName("task", "a", ["b"]), RunLocked("here", 3, "host"), errors.RunError("x")],
)
def test_every_error_of_ours_travels(error: RlvrBenchError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


# ------------------------------------------------------------------------------------------------ nothing depends on -j
@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two graded runs, drawn apart."""
    out = tmp_path_factory.mktemp("runs")
    return [evaluate(m, TASK, SampleOptions(n=8, limit=12, out=out))[0] for m in ("fake:0.2", "fake:0.4")]


def copies(runs: list[Path], folder: Path) -> list[Path]:
    return [Path(shutil.copytree(run, folder / str(i))) for i, run in enumerate(runs)]


def test_scores_are_the_same_to_the_byte(runs: list[Path], tmp_path: Path) -> None:
    written = []
    for jobs in (1, 2):
        mine = copies(runs, tmp_path / str(jobs))
        done = score_all([*mine, mine[0]], [1, 8], jobs=jobs)
        assert [item.run for item in done] == mine, "one named twice is scored once"
        written.append([(run / "scorecard.json").read_bytes() for run in mine])
    assert written[0] == written[1]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("cards"), np.random.default_rng(0)
    files = []
    for i in range(4):
        entropies = {"entropy_mean": rng.random(30).tolist()}
        made = card(f"m{i}", rng.binomial(16, rng.random(30)).tolist(), 16, columns=entropies, seed=i)[1]
        files.append(folder / f"{i}.json")
        files[-1].write_bytes(msgspec.json.encode(made))
    return files


def test_a_leaderboard_and_a_page_are_the_same_to_the_byte(cards: list[Path], tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    board = leaderboard(cards, ks=(1, 4), jobs=2, on_progress=lambda *counts: heard.append(counts))
    assert board == leaderboard(cards, ks=(1, 4))
    assert heard == [(i, 4) for i in range(5)]
    heard.clear()
    for jobs in (1, 2):
        report(cards, tmp_path / f"{jobs}.html", jobs=jobs, on_progress=lambda *counts: heard.append(counts))
    assert heard == [(i, 6) for i in range(7)] * 2
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_bootstrap_replicates_are_the_same_to_the_bit() -> None:
    values = np.random.default_rng(0).random((700, 300))
    intervals = [
        stats.bootstrap_mean(values, rng=np.random.default_rng(1), options=stats.Resampling(300, 0.95, jobs))
        for jobs in (1, 2)
    ]
    assert np.array_equal(intervals[0].low, intervals[1].low)
    assert np.array_equal(intervals[0].high, intervals[1].high)


# ------------------------------------------------------------------------------------------------ several runs
def test_a_run_that_fails_does_not_stop_the_others(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [str(run) for run in copies(runs, tmp_path / "runs")]
    for verb, says in (("grade", "rollouts"), ("score", "pass@8")):
        assert run_verb(verb, mine[0], str(tmp_path / "gone"), mine[1]) == 2
        out, err = capsys.readouterr()
        assert says in out
        assert out.count("\n") == 3
        assert [line for line in err.splitlines() if line.startswith("rlvr-bench: ")] == [
            f"rlvr-bench: {tmp_path}/gone: not a run (no manifest.json). A run is runs/<model>/<task>."
        ]
    assert run_verb("score", *mine, "--format", "tsv") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[0] for row in rows] == ["model", "fake:0.2", "fake:0.4"]


def test_json_of_several_runs_is_a_list(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("score", str(runs[0]), str(tmp_path / "gone"), "--json") == 2
    first, second = msgspec.json.decode(capsys.readouterr().out)
    assert first["run"]["model"] == "fake:0.2"
    assert second["run"] == str(tmp_path / "gone")
    assert "not a run" in second["error"]


@pytest.mark.parametrize(("jobs", "workers"), [(1, 8), (2, 4), (3, 2), (100, 2)])
def test_runs_that_are_graded_side_by_side_share_the_verifier_processes(
    jobs: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def grade(run: Path, options: GradeOptions, *_: Any) -> Any:
        seen.append(options.workers)
        raise errors.RunError("enough")

    monkeypatch.setattr(stages, "grade", grade)
    monkeypatch.setattr(several, "map_in_order", lambda function, items, jobs: map(function, items))
    grade_all([Path(f"run{i}") for i in range(3)], GradeOptions(workers=8), jobs=jobs)
    assert seen == [workers] * 3


def test_grading_side_by_side_gives_the_same_verdicts(runs: list[Path], tmp_path: Path) -> None:
    mine = copies(runs, tmp_path / "runs")
    for run in mine:
        shutil.rmtree(run / "verdicts")
        (run / "grading.json").unlink()
    done = grade_all(mine, GradeOptions(workers=2), jobs=2)
    assert [item.error for item in done] == [None, None]
    for run, before in zip(mine, runs, strict=True):
        grading, wanted = (msgspec.json.decode((folder / "grading.json").read_bytes()) for folder in (run, before))
        assert grading["statuses"] == wanted["statuses"]


def test_ctrl_c_ends_all_processes_at_once(runs: list[Path], tmp_path: Path) -> None:
    many = [str(shutil.copytree(runs[i % 2], tmp_path / f"{i}")) for i in range(60)]
    command = [sys.executable, "-m", "rlvr_bench", "score", *many, "-j", "2"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert "begins" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("rlvr-bench: stopped.")
    assert time.monotonic() - began < 30
    left = until_gone(process.pid)
    assert not left


def until_gone(session: int) -> list[int]:
    """The processes of a session that are still there after some seconds."""
    left: list[int] = []
    for _ in range(100):
        left = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if session_of(int(entry.name)) == session]
        if not left:
            break
        time.sleep(0.1)
    return left


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
