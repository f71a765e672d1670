"""Replicas that write to the run themselves: who dies when, and that the run holds every rollout once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from rlvr_bench.errors import StorageError
from rlvr_bench.records import Draw, Problem
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.scaling import Dispatcher, Slots
from rlvr_bench.scaling.messages import Report, Target
from rlvr_bench.scaling.recording import Recorder
from rlvr_bench.store import RunWriter, open_run, shards
from tests.conftest import manifest_with
from tests.scaling.local_pool import LocalPool
from tests.scaling.test_dispatch import ALONE, RATES, SAMPLING, Engine, fake, requests

PROBLEMS = [Problem(id=name, question="?", answer="1") for name in RATES]


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunWriter:
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.01)
    return RunWriter(tmp_path, manifest_with(n=40), PROBLEMS)


def stored(writer: RunWriter) -> dict[tuple[str, int], str]:
    result: dict[tuple[str, int], str] = {}
    for table in open_run(writer.path).rollouts.read(["problem_id", "index", "text"]):
        for row in table.to_pylist():
            assert (row["problem_id"], row["index"]) not in result, "stored twice"
            result[row["problem_id"], row["index"]] = row["text"]
    return result


def draw_into(writer: RunWriter, pool: LocalPool, replicas: int, seen: list[Draw]) -> None:
    dispatcher = Dispatcher(pool, Slots(replicas))
    dispatcher.write_to(writer)
    for draw in dispatcher.draw(iter(requests()), SAMPLING):
        writer.add(draw)
        seen.append(draw)
    dispatcher.close()


def test_replicas_write_and_tell_the_driver_no_texts(writer: RunWriter) -> None:
    seen: list[Draw] = []
    draw_into(writer, LocalPool(lambda: Engine(window=2, seconds=0.002)), 3, seen)
    assert stored(writer) == ALONE
    assert {rollout.text for draw in seen for rollout in draw.rollouts} == {""}
    assert {draw.shard for draw in seen} == {file.name for file in writer.run.rollouts.files()}
    assert writer.n_drawn(RATES, 40) == 400


class Mute(LocalPool):
    """Its first replica dies after it wrote a shard and before it reported it."""

    def __init__(self, *openers: type[FakeSampler]) -> None:
        super().__init__(*openers)
        self.killed = False

    def event(self, timeout_s: float):  # type: ignore[no-untyped-def]  # noqa: ANN201
        result = super().event(timeout_s)
        if result is not None and not self.killed and isinstance(result[1], Report) and result[1].shard is not None:
            self.killed = True
            self.kill(result[0])
            return None
        return result


def test_what_a_replica_wrote_before_it_died_is_not_drawn_again(writer: RunWriter) -> None:
    pool, seen = Mute(lambda: Engine(window=2, seconds=0.002)), []  # type: ignore[arg-type, var-annotated]
    with writer:
        draw_into(writer, pool, 2, seen)
    assert pool.killed
    assert stored(writer) == ALONE
    assert len(seen) == len({(draw.request.prompt.problem_id, draw.request.start) for draw in seen}) == 100


def test_what_a_replica_writes_after_it_was_given_up_is_set_aside(writer: RunWriter) -> None:
    """A node that was cut off is taken for dead; its replica goes on, and writes what others have drawn meanwhile."""
    pool, late = LocalPool(lambda: Engine(window=2, seconds=0.002)), threading.Event()
    dispatcher, seen = Dispatcher(pool, Slots(2)), list[Draw]()
    dispatcher.write_to(writer)
    with writer:
        for draw in dispatcher.draw(iter(requests()), SAMPLING):
            writer.add(draw)
            seen.append(draw)
            if len(seen) > 90 and not late.is_set():
                late.set()
                Recorder(Target(writer.path, writer.lock.token)).write(list(fake().draw(requests(3), SAMPLING)))
        dispatcher.close()
    assert stored(writer) == ALONE
    assert len(list((writer.path / "rollouts" / "set-aside").iterdir())) == 1


def test_a_shard_that_repeats_another_is_set_aside_when_the_run_is_opened_again(tmp_path: Path) -> None:
    draws = list(fake().draw(requests(20), SAMPLING))
    writer = RunWriter(tmp_path, manifest_with(n=40), PROBLEMS)
    target = Target(writer.path, writer.lock.token)
    Recorder(target).write(draws[:10])
    Recorder(target).write(draws[9:20])
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with RunWriter(tmp_path, manifest_with(n=40), PROBLEMS) as writer:
        assert len(writer.run.rollouts.files()) == 1
        have = writer.n_drawn(RATES, 40)
    assert have in (40, 44)
    assert len(stored(writer)) == have


def test_a_replica_of_a_driver_that_lost_the_run_writes_nothing_more(tmp_path: Path) -> None:
    draws = list(fake().draw(requests(20), SAMPLING))
    with RunWriter(tmp_path, manifest_with(n=40), PROBLEMS) as writer:
        recorder = Recorder(Target(writer.path, writer.lock.token))
        recorder.write(draws[:1])
    recorder.write(draws[1:2])  # its driver is gone, and there is no other one
    with RunWriter(tmp_path, manifest_with(n=40), PROBLEMS), pytest.raises(StorageError, match="another process draws"):
        recorder.write(draws[2:3])


def test_a_run_that_a_replica_does_not_see_is_told_before_anything_is_drawn(writer: RunWriter) -> None:
    class Elsewhere(LocalPool):
        def begin(self, replica: int, session: int, sampling: object, target: Target | None) -> None:
            assert target is not None
            elsewhere = Target(writer.path.with_name("elsewhere"), target.token)
            super().begin(replica, session, sampling, elsewhere)  # type: ignore[arg-type]

    seen: list[Draw] = []
    with pytest.raises(StorageError, match=r"does not see the run in .*elsewhere.*: --out must be on a file system"):
        draw_into(writer, Elsewhere(fake), 1, seen)
    assert not seen


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_what_is_there(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Recorder.write

    def full(self: Recorder, draws: list[Draw], state: None) -> tuple[str | None, list[Draw]]:
        if len(writer.run.rollouts.files()) >= 3:
            raise StorageError("cannot write x: No space left on device. What was written before is kept.")
        return written(self, draws, state)

    monkeypatch.setattr(Recorder, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        draw_into(writer, LocalPool(lambda: Engine(window=2, seconds=0.002)), 2, [])
    result = stored(writer)
    assert 0 < len(result) < 400
    assert result.items() <= ALONE.items()


def test_draws_do_not_wait_long_where_nothing_more_is_to_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_SECONDS", 60.0)
    began, seen = time.monotonic(), list[Draw]()
    with RunWriter(tmp_path, manifest_with(n=40), PROBLEMS) as writer:
        draw_into(writer, LocalPool(fake), 1, seen)
    assert len(seen) == 100
    assert time.monotonic() - began < 20
