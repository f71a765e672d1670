"""Runs on object storage: an S3 server in this process, and a local file system through fsspec."""

from __future__ import annotations

import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.analysis.training_series import series
from rlvr_bench.errors import RlvrBenchError, RunError, RunLocked, StorageError
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from rlvr_bench.pipeline.selecting import select
from rlvr_bench.records import Draw, Problem
from rlvr_bench.storage import as_path
from rlvr_bench.store import Manifest, RunWriter, locks, open_run
from rlvr_bench.store.locks import Owner, lock_folder, owner_of
from rlvr_bench.store.paths import make_folder, write_atomically
from rlvr_bench.store.shards import SHARD_ROLLOUTS, Schedule
from tests.conftest import require, run_verb
from tests.importers.made import WRITERS
from tests.store.object_storage import Refusal, s3_server, storage  # noqa: F401  a fixture

TASK = "double_countdown"
MakeDraw = Callable[..., Draw]
MakeManifest = Callable[..., Manifest]


def asked(out: Path, **changed: object) -> SampleOptions:
    return SampleOptions(**{"n": 32, "limit": 10, "out": out, "engine": "fake", **changed})  # type: ignore[arg-type]


def texts(run: Path) -> dict[tuple[str, int], str]:
    result: dict[tuple[str, int], str] = {}
    for table in open_run(run).rollouts.read(["problem_id", "index", "text"]):
        for row in table.to_pylist():
            assert (row["problem_id"], row["index"]) not in result
            result[row["problem_id"], row["index"]] = row["text"]
    return result


def test_a_run_is_drawn_resumed_graded_and_scored_as_on_a_disk(storage: Path, tmp_path: Path) -> None:  # noqa: F811
    pipeline.evaluate("fake", TASK, asked(storage, n=16))
    run, card = pipeline.evaluate("fake", TASK, asked(storage))
    disk, same = pipeline.evaluate("fake", TASK, asked(tmp_path / "disk"))
    assert texts(run) == texts(disk)
    assert card.problems == same.problems
    assert len(open_run(run).rollouts.files()) == 2  # the second session drew only what was missing
    assert not (run / "lock").exists()


def test_a_damaged_shard_is_set_aside_there_too(storage: Path) -> None:  # noqa: F811
    for n in (16, 32):
        run = pipeline.sample("fake", TASK, asked(storage, n=n))
    before, (first, _) = texts(run), open_run(run).rollouts.files()
    write_atomically(first, first.read_bytes()[:-7])
    with pytest.raises(RlvrBenchError, match="is damaged"):
        texts(run)
    pipeline.sample("fake", TASK, asked(storage))
    assert texts(run) == before
    assert [file.name for file in (run / "rollouts" / "set-aside").iterdir()] == [first.name]


def test_the_verbs_take_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with s3_server() as bucket:
        for model in ("fake:0.2", "fake:0.5"):
            drawn = ("--model", model, "--task", TASK, "-n", "16", "--limit", "10", "--out", f"{bucket}/runs")
            assert run_verb("evaluate", *drawn) in (0, None)
        runs = [f"{bucket}/runs/fake-{rate}/{TASK}" for rate in ("0.2", "0.5")]
        html, csv = str(tmp_path / "r.html"), str(tmp_path / "l.csv")
        for verb in (
            ("grade", runs[0]),
            ("score", runs[0]),
            ("compare", *runs),
            ("report", *runs, "--html", html),
            ("leaderboard", f"{bucket}/runs", "--csv", csv),
            ("check", runs[1], "--against", runs[0], "--max-drop", "pass@1=0.5"),
        ):
            status = run_verb(*verb)
            assert status in (0, None), (verb, capsys.readouterr().err)
    assert "fake:0.5" in Path(csv).read_text()
    assert Path(html).stat().st_size > 100_000


def test_an_import_lands_there_whole(storage: Path, tmp_path: Path) -> None:  # noqa: F811
    source = WRITERS["nemo-skills"][0](tmp_path / "files", ["cw", "ww"])
    result = import_run([source], ImportOptions(model="m", task="t", out=storage))
    assert [(entry["n"], entry["c"]) for entry in result.scorecard.problems] == [(2, 1), (2, 0)]
    with pytest.raises(RlvrBenchError, match="there is a run already"):
        import_run([source], ImportOptions(model="m", task="t", out=storage))


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    source = WRITERS["nemo-skills"][0](tmp_path / "files", ["cw", "ww"])
    with s3_server() as bucket:
        options = ImportOptions(model="m", task="t", out=f"{bucket}/runs")
        for first in (2, 4):
            with Refusal(first, first + 1), pytest.raises(StorageError):
                import_run([source], options)
            assert not as_path(f"{bucket}/runs").exists()
        import_run([source], options)


def test_whatever_request_is_refused_a_score_is_one_line_or_right() -> None:
    with s3_server() as bucket:
        run, card = pipeline.evaluate("fake", TASK, asked(as_path(bucket), n=8, limit=3))
        for first in itertools.count(0, 3):  # every kind of request comes at some multiple of 3
            with Refusal(first) as refusal:
                try:
                    assert pipeline.score(run) == card
                except RlvrBenchError as error:
                    assert re.match(r"cannot (read|reach|write) s3://\S+: (not for you|Forbidden)", str(error))  # noqa: PT017
            if refusal.seen <= first:
                break
        assert first > 10


@pytest.mark.usefixtures("hasty")
def test_whatever_request_is_refused_nothing_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 60)  # renewals would be counted as well
    with s3_server() as bucket:
        for first in itertools.count(0, 3):  # every kind of request comes at some multiple of 3
            out = as_path(f"{bucket}/{first}")
            run = pipeline.sample("fake", TASK, asked(out, n=8, limit=3, draw_batch=8))
            with Refusal(first, first + 1) as refusal:
                try:
                    pipeline.sample("fake", TASK, asked(out, n=16, limit=3, draw_batch=8))
                except RlvrBenchError:
                    pipeline.sample("fake", TASK, asked(out, n=16, limit=3, draw_batch=8))
            assert len(texts(run)) == 48
            if refusal.seen <= first:
                break
        assert first > 5


def test_addresses_as_text_and_patterns(tmp_path: Path) -> None:
    with s3_server() as bucket:
        for model in ("fake:0.2", "fake:0.5"):
            run, card = pipeline.evaluate(model, TASK, asked(f"{bucket}/odd %20 runs/", n=16))  # type: ignore[arg-type]
        assert pipeline.score(str(run)) == card
        result = series([f"{bucket}/odd %20 runs/fake-*/{TASK}"], [1, 2])
        assert [point.model for point in result.checkpoints] == ["fake:0.2", "fake:0.5"]
        with pytest.raises(RunError, match="no run matches"):
            series([f"{bucket}/runs/none-*"])
        made = select(str(run), out=f"{bucket}/sets/a.jsonl")
        assert as_path(made.file).read_bytes().count(b"\n") == made.rollouts
    assert pipeline.sample("fake", TASK, asked(str(tmp_path))).parent.parent == tmp_path  # type: ignore[arg-type]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_S", 0.1)
    monkeypatch.setattr(locks, "DEAD_S", 0.6)
    monkeypatch.setattr(locks, "SETTLE_S", 0.2)


@pytest.mark.usefixtures("hasty")
def test_a_lease_that_is_renewed_keeps_others_out(storage: Path) -> None:  # noqa: F811
    with lock_folder(storage):
        with pytest.raises(RunLocked, match=r"is being written by process [0-9]+ on "):
            lock_folder(storage)
        time.sleep(0.8)  # longer than a dead one would be waited for
        with pytest.raises(RunLocked):
            lock_folder(storage)
    with lock_folder(storage):
        pass


@pytest.mark.usefixtures("hasty")
def test_a_lease_whose_owner_is_dead_is_taken_over_by_one_of_two(storage: Path) -> None:  # noqa: F811
    make_folder(storage)
    write_atomically(storage / "lock", b'{"pid": 1, "host": "gone", "token": "t", "beat": 7}')
    outcomes: list[object] = []

    def take() -> None:
        try:
            outcomes.append(lock_folder(storage))
        except RunLocked as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lock,) = [item for item in outcomes if isinstance(item, locks.Lock)]
    assert owner_of(storage) is not None
    lock.release()
    assert owner_of(storage) is None


@pytest.mark.usefixtures("hasty")
def test_a_writer_that_was_taken_over_stops(
    storage: Path,  # noqa: F811
    problems: list[Problem],
    make_manifest: MakeManifest,
    make_draw: MakeDraw,
) -> None:
    writer = RunWriter(storage / "m" / "t", make_manifest(), problems)
    thief = Owner(1, "elsewhere", "another token")
    deadline = time.monotonic() + 20
    while not writer.lock.is_lost and time.monotonic() < deadline:  # a renewal may fall between its look and its write
        write_atomically(writer.path / "lock", msgspec.json.encode(thief))
        time.sleep(0.05)
    writer.add(make_draw("p0", 0, 16))
    with pytest.raises(StorageError, match="another process has taken this run over"):
        writer.flush()
    with pytest.raises(StorageError):
        writer.__exit__(None, None, None)
    assert owner_of(writer.path) == thief  # which keeps its lock


def test_a_writer_that_slept_looks_before_it_writes(
    tmp_path: Path,
    problems: list[Problem],
    make_manifest: MakeManifest,
    make_draw: MakeDraw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require("upath", "s3")
    folder = as_path(f"local://{tmp_path}/stored")
    monkeypatch.setattr(locks, "BEAT_S", 60)  # its renewal has not noticed
    for taken in (b'{"pid": 1, "host": "elsewhere", "token": "another"}', None):
        writer = RunWriter(folder / "m" / "t", make_manifest(), problems)
        file = writer.path / "lock"
        if taken is None:
            file.unlink()  # the other is done
        else:
            write_atomically(file, taken)
        writer.add(make_draw("p0", 0, 16))
        with pytest.raises(StorageError, match="another process has taken this run over"):
            writer.__exit__(None, None, None)
        assert writer.run.rollouts.files() == []
        assert file.exists() == (taken is not None)
        if taken is not None:
            file.unlink()


@pytest.mark.usefixtures("hasty")
def test_waiting_for_a_dead_owner_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require("upath", "s3")
    folder = as_path(f"local://{tmp_path}/stored")
    make_folder(folder)
    write_atomically(folder / "lock", b'{"pid": 17, "host": "gone", "token": "t", "beat": 7}')
    with caplog.at_level("INFO", "rlvr_bench"), lock_folder(folder):
        (said,) = [record.getMessage() for record in caplog.records if record.name == locks.__name__]
    assert "process 17 on gone was writing here; waiting up to" in said


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://nowhere/runs", "s3://nowhere/runs: there is no bucket 'nowhere'"),
        ("s3://", "s3://: names no bucket"),
        ("xyz://bucket/runs", "cannot reach xyz://bucket/runs: .*xyz"),
    ],
)
def test_a_place_that_is_not_there_is_one_line_and_status_2(
    address: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    require("s3fs", "s3")
    with s3_server():
        assert run_verb("evaluate", "--model", "fake", "--task", TASK, "--out", address) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)


def test_a_storage_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    require("s3fs", "s3")
    import s3fs

    with s3_server(), socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StorageError, match="cannot reach s3://bucket/runs: Could not connect"):
            as_path("s3://bucket/runs")


def test_a_plain_path_stays_one(tmp_path: Path) -> None:
    assert as_path("runs") == as_path("file://runs") == as_path(Path("runs")) == Path("runs")


def test_patience_grows_only_where_files_are_to_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    sparing, plain = Schedule(sparing=True), Schedule(sparing=False)
    due = {}
    for hour in (0, 1, 24):
        clock[0] = hour * 3600.0
        for name, schedule in (("sparing", sparing), ("plain", plain)):
            schedule.add(1)
            due[name, hour] = schedule.due_in()
            schedule.written()
            assert schedule.due_in() is None
    assert due == {("sparing", 0): 5, ("plain", 0): 5, ("sparing", 1): 36, ("plain", 1): 5} | {
        ("sparing", 24): 60,
        ("plain", 24): 5,
    }
    plain.add(SHARD_ROLLOUTS)
    assert plain.due_in() == 0


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_atomically(Path(os.devnull), b"text")
    assert Path(os.devnull).is_char_device()
