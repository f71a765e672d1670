"""``status``: how far a run is, from its folder alone, while others write, and whatever the folder holds."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rlvr_bench import SampleOptions, status
from rlvr_bench.cli.show_status import show_states
from rlvr_bench.errors import RunLocked
from rlvr_bench.pipeline import GradeOptions, evaluate, grade, sample
from rlvr_bench.pipeline.status import RunState, States
from rlvr_bench.records import Problem, SavedRollout
from rlvr_bench.storage import as_path
from rlvr_bench.store import open_run, paths, shard_summaries
from rlvr_bench.store.growing import GrowingFolder
from rlvr_bench.store.locks import Lock, is_held, lock_folder
from rlvr_bench.store.paths import Listed, listed_in
from rlvr_bench.store.run import RunWriter
from rlvr_bench.store.shard_summaries import read_summaries
from tests.conftest import draw_of, manifest_with, run_verb

TASK = "double_countdown"
ONE = GradeOptions(workers=1)
NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SampleOptions(n=8, limit=6, out=tmp_path_factory.mktemp("status"))
    return evaluate("fake:0.4", TASK, options, ONE)[0]


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated, tmp_path / "runs" / "m" / "t"))


@pytest.fixture
def half(tmp_path: Path, problems: list[Problem]) -> Path:
    """Three shards of 4 rollouts of one problem each, 10 s apart, of 8 asked for; the session began 10 s before."""
    path = tmp_path / "half"
    manifest = manifest_with(n=8, n_problems=len(problems))
    for number in range(3):
        with RunWriter(path, manifest, problems) as writer:
            writer.add(draw_of(problems[number % 2].id, 4 * (number // 2), 4))
    os.utime(path / "lock", (NOW - 1, NOW - 1))
    os.utime(path / "manifest.json", (NOW, NOW))
    for number, file in enumerate(open_run(path).rollouts.files()):
        os.utime(file, (NOW + 10 * (number + 1),) * 2)
    return path


@pytest.fixture
def held(half: Path) -> Iterator[Lock]:
    written = (half / "lock").stat().st_mtime
    with lock_folder(half) as lock:
        os.utime(half / "lock", (written, written))
        yield lock


def only(path: Path | str) -> RunState:
    (done,) = status(path)
    assert done.result is not None, done.error
    return done.result


def test_a_finished_run(run: Path) -> None:
    state = only(run)
    card = json.loads((run / "scorecard.json").read_bytes())
    solved = sum(problem["c"] > 0 for problem in card["problems"])
    assert (state.state, state.drawn, state.asked, state.verified) == ("finished", 48, 48, 48)
    assert (state.solved, state.problems) == (solved, 6)
    assert solved > 0
    assert state.expected_end is None


def test_a_run_that_was_only_sampled_is_drawn_and_one_without_all_rollouts_has_stopped(tmp_path: Path) -> None:
    path = sample("fake:0.4", TASK, SampleOptions(n=8, limit=3, out=tmp_path))
    assert (only(path).state, only(path).verified) == ("drawn", 0)
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({**manifest, "n": 9}))
    assert only(path).state == "stopped"
    (path / "manifest.json").write_text(json.dumps(manifest))
    grade(path, ONE)
    assert only(path).state == "finished"


def test_a_stopping_rule_may_finish_with_fewer_rollouts(tmp_path: Path) -> None:
    options = SampleOptions(n=64, limit=3, draw_batch=4, stop_after=1, out=tmp_path)
    path = sample("fake:0.9", TASK, options, ONE)
    state = only(path)
    assert state.asked is not None
    assert state.drawn < state.asked
    assert state.state == "finished"


@pytest.mark.usefixtures("held")
def test_a_run_that_is_drawn_has_a_speed_and_an_end(half: Path) -> None:
    state = only(half)
    tokens = sum(int(pq.read_table(file)["n_tokens"].to_numpy().sum()) for file in open_run(half).rollouts.files())
    asked = 8 * state.problems
    assert (state.state, state.drawn, state.asked) == ("drawing", 12, asked)
    assert state.rollouts_per_second == pytest.approx(12 / 30)
    assert state.tokens_per_second == pytest.approx(tokens / 30)
    assert state.seconds_left == pytest.approx((asked - 12) / (12 / 30))
    assert state.last_written == "2023-11-14T22:13:50+00:00"


@pytest.mark.usefixtures("held")
def test_the_speed_is_that_of_the_last_minutes_of_this_session(half: Path) -> None:
    first, second, third = open_run(half).rollouts.files()
    os.utime(half / "lock", (NOW - 9000, NOW - 9000))
    os.utime(half / "manifest.json", (NOW - 8000, NOW - 8000))
    for file, at in ((first, NOW - 7000), (second, NOW - 40), (third, NOW)):
        os.utime(file, (at, at))
    assert only(half).rollouts_per_second == pytest.approx(8 / 7000), "since the last shard before these minutes"
    os.utime(half / "manifest.json", (NOW - 50, NOW - 50))
    assert only(half).rollouts_per_second == pytest.approx(8 / 50), "a new session"
    os.utime(half / "manifest.json", (NOW + 1, NOW + 1))
    assert only(half).rollouts_per_second is None, "nothing yet in this session"


def test_who_holds_the_run_decides_whether_it_is_drawn_verified_or_stopped(half: Path) -> None:
    assert only(half).state == "stopped"
    with lock_folder(half):  # after the manifest, as grade does
        os.utime(half / "lock", (NOW + 50, NOW + 50))
        assert only(half).state == "verifying"
    assert only(half).state == "stopped"


def test_a_writer_can_begin_at_any_moment_of_a_look(tmp_path: Path) -> None:
    lock_folder(tmp_path).release()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_held(tmp_path)

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(100):
            lock_folder(tmp_path).release()
    finally:
        over.set()
        for thread in looking:
            thread.join()


def test_a_suspended_look_delays_a_writer_and_another_writer_refuses_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_folder(tmp_path).release()
    with (tmp_path / "lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.5, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        writer = lock_folder(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited for a writer"))
    with writer, pytest.raises(RunLocked):
        lock_folder(tmp_path)


def test_a_shard_is_opened_once_and_one_that_vanished_is_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    read_end = paths.read_end

    def counting(file: Listed, size: int) -> bytes | None:
        opened.append(file.path)
        return read_end(file, size)

    monkeypatch.setattr(shard_summaries, "read_end", counting)
    monkeypatch.setattr(shard_summaries, "read_part", lambda file: pytest.fail(f"read the columns of {file}"))
    shards = [*open_run(run).rollouts.files(), *run.glob("verdicts/*/*.parquet")]
    states = States()
    (first,) = states.read([run])
    assert sorted(opened) == sorted(shards)
    assert states.read([run]) == [first]
    assert len(opened) == len(shards)
    monkeypatch.undo()
    listed = listed_in(run / "rollouts", ".parquet")
    gone = Listed(run / "rollouts" / "000009-00.parquet", 100, 0.0)
    assert [file for file, _ in read_summaries([*listed, gone])] == listed


def test_shards_of_older_versions_have_no_summary_and_give_the_same(run: Path) -> None:
    before = only(run)
    for file in [*open_run(run).rollouts.files(), *run.glob("verdicts/*/*.parquet")]:
        times = file.stat().st_mtime_ns
        pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
        assert b"shard summary" not in file.read_bytes()
        os.utime(file, ns=(times, times))
    assert only(run) == before


def test_a_response_cannot_forge_a_summary(tmp_path: Path, problems: list[Problem]) -> None:
    with RunWriter(tmp_path / "run", manifest_with(n=8), problems) as writer:
        writer.add(draw_of(problems[0].id, 0, 4, lambda i: "a"))
    true = read_summaries(listed_in(tmp_path / "run" / "rollouts", ".parquet"))[0][1]
    mark = (tmp_path / "run" / "rollouts").glob("*.parquet").__next__().read_bytes()
    forged = mark[mark.rindex(b"rlvr-bench shard summary=") :][:200].decode("latin-1").replace("=00", "=99")
    with RunWriter(tmp_path / "other", manifest_with(n=8), problems) as writer:
        writer.add(draw_of(problems[0].id, 0, 4, lambda i: forged))
    assert read_summaries(listed_in(tmp_path / "other" / "rollouts", ".parquet"))[0][1].rows == true.rows


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"PAR1" + b"\xff" * 40 + b"\xff\xff\xff\x7fPAR1"])
def test_a_damaged_shard_is_one_line_and_the_other_runs_are_shown(
    run: Path, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run, run.parent / "u"))
    (file,) = open_run(run).rollouts.files()
    file.write_bytes(content)
    assert run_verb("status", str(tmp_path / "runs")) == 2
    out, err = capsys.readouterr()
    assert out.count("finished") == 1
    assert err.count("\n") == 1
    assert str(file) in err
    assert str(other) not in err


def test_hostile_folders(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((run / "manifest.json").read_bytes())
    (run / "manifest.json").write_text(json.dumps({**manifest, "model": "red \x1b[31m"}))
    (file,) = open_run(run).rollouts.files()
    os.mkfifo(file.with_name("000001-00.parquet"))
    piped = shutil.copytree(run, tmp_path / "p\x1b[2J", ignore=shutil.ignore_patterns("000001*"))
    (piped / "lock").unlink()
    os.mkfifo(piped / "lock")
    assert run_verb("status", str(run), str(piped), str(tmp_path / "none")) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert out.count("finished") == 1
    assert err.splitlines()[0].endswith("not a regular file")
    assert "not a run" in err.splitlines()[1]


def test_json_formats_and_globs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run_verb("status", str(tmp_path / "ru*" / "*"), "--json")
    (state,) = json.loads(capsys.readouterr().out)
    assert (state["run"], state["state"]) == (str(run), "finished")
    assert not run_verb("status", str(tmp_path / "runs"), "--format", "tsv")
    header, row = capsys.readouterr().out.splitlines()
    assert header.split("\t")[:4] == ["model", "task", "state", "drawn"]
    assert row.split("\t")[2] == "finished"


@pytest.mark.parametrize(
    "order", [("--watch", "RUN"), ("RUN", "--watch"), ("--watch", "0.5", "RUN"), ("RUN", "--watch=2")]
)
def test_watching_ends_when_nobody_works_and_needs_no_seconds(
    order: tuple[str, ...], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run_verb("status", *(str(run) if part == "RUN" else part for part in order))
    (line,) = capsys.readouterr().out.splitlines()
    assert "fake:0.4 on double_countdown: finished, drawn 48 of 48 (100%), verified 48" in line


def test_watching_shows_again_while_somebody_works(
    half: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    lock = lock_folder(half)
    os.utime(half / "lock", (NOW - 1, NOW - 1))

    def wait(seconds: float) -> None:
        waits.append(seconds)
        lock.release()

    monkeypatch.setattr("rlvr_bench.cli.status.time.sleep", wait)
    assert not run_verb("status", str(half), "--watch", "7")
    first, second = capsys.readouterr().out.splitlines()
    assert waits == [7.0]
    assert "drawing, nothing new for" in first
    assert "stopped" in second


def test_watch_takes_a_positive_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("status", str(run), "--watch=0") == 2
    assert "--watch is 0.0: must be above 0 seconds" in capsys.readouterr().err


def test_a_run_on_a_storage(tmp_path: Path) -> None:
    address = f"memory://status-{tmp_path.name}"
    (path,) = [evaluate("fake:0.4", TASK, SampleOptions(n=8, limit=3, out=address), ONE)[0]]
    state = only(address)
    assert (state.run, state.state, state.drawn) == (str(path), "finished", 24)
    assert only(f"{address}/*/*") == state
    lease = as_path(str(path)) / "lock"
    lease.write_bytes(b"{}")
    assert only(address).state == "verifying", "a lease that was just renewed"


def test_open_draw_batches_are_shown_and_count_as_news(half: Path, problems: list[Problem]) -> None:
    before = only(half)
    ids = np.arange(1000, dtype=np.int32)
    writer = RunWriter(half, manifest_with(n=8, n_problems=len(problems)), problems)
    writer.save([SavedRollout(problem_id="p1", index=4 + i, ids=ids) for i in range(3)])
    writer.lock.release()
    after = only(half)
    assert (before.growing, after.growing, after.growing_tokens) == (0, 3, 3000)
    assert (after.drawn, after.state) == (before.drawn, before.state)
    assert before.last_written is not None
    assert after.last_written is not None
    assert after.last_written > before.last_written
    out = io.StringIO()
    show_states(Console(file=out, width=200), [before, after], "table", watched=False)
    assert "12 of 32 (38%) + 3 open" in out.getvalue()
    for name, indices in (("r0", (4, 5)), ("r1", (6,))):  # replicas go on from the driver's state
        rollouts = [SavedRollout(problem_id="p1", index=i, ids=np.arange(1500, dtype=np.int32)) for i in indices]
        GrowingFolder(half, writer=name).write(rollouts, None)
    scaled = only(half)
    assert (scaled.growing, scaled.growing_tokens) == (3, 4500)
