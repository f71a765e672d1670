"""What a run has of its open draw batches: written with the shard of the same moment, and read with suspicion."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.records import Problem, SavedRollout, SavedTurns, TokenArrays
from rlvr_bench.store import RunWriter, growing, open_run, paths
from rlvr_bench.store.growing import GrowingFolder, SavePace
from rlvr_bench.store.run import Span
from rlvr_bench.store.shards import ShardFolder, writer_of
from tests.conftest import draw_of, manifest_with


def part(index: int, length: int = 3, problem: str = "p0", **changed: object) -> SavedRollout:
    fields: dict[str, object] = {"columns": None, "ended": None, **changed}
    return SavedRollout(problem_id=problem, index=index, ids=np.arange(length, dtype=np.int32), **fields)  # type: ignore[arg-type]


def open_writer(path: Path, problems: list[Problem]) -> RunWriter:
    return RunWriter(path, manifest_with(n=24), problems)


def saved_in(path: Path, problems: list[Problem]) -> dict[int, int]:
    """Indices and lengths of what is saved of p0."""
    with open_writer(path, problems) as writer:
        return {one.index: len(one.ids) for one in writer.take_saved(Span("p0", 0, 24))}


def test_a_state_comes_back_exactly(tmp_path: Path, problems: list[Problem]) -> None:
    columns = (
        np.array([-0.5, -2, 0], np.float32),
        np.array([0.1, 3, 0], np.float32),
        np.array([1, 40_000, 151_936], np.int32),
    )
    writer = open_writer(tmp_path, problems)
    writer.save([part(2, columns=columns), part(7, 5, ended="string")])
    writer.lock.release()
    with open_writer(tmp_path, problems) as again:
        grows, ended = again.take_saved(Span("p0", 0, 24))
        assert again.take_saved(Span("p0", 0, 24)) == ()
    assert (grows.index, grows.ended, ended.index, ended.ended, ended.columns) == (2, None, 7, "string", None)
    assert grows.columns is not None
    assert all((mine == theirs).all() for mine, theirs in zip(columns, grows.columns, strict=True))
    assert ended.ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fails_at", ["state", "shard", "removal", "nothing"])
def test_a_shard_and_its_state_are_on_disk_both_or_neither(
    tmp_path: Path, problems: list[Problem], monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    writer = open_writer(tmp_path, problems)
    writer.save([part(0, 3), part(1, 3)])
    writer.add(draw_of("p0", 0, 1), hold=True)
    calls = itertools.count()
    honest = paths.write_atomically

    def failing(file: Path, content: bytes) -> None:
        if ("state", "shard")[next(calls)] == fails_at:
            raise StorageError("the disk is full")
        honest(file, content)

    def refusing(file: Path, *, missing_ok: bool) -> None:
        raise StorageError("read only now")

    monkeypatch.setattr(growing, "write_atomically", failing)
    monkeypatch.setattr("rlvr_bench.store.shards.write_atomically", failing)
    if fails_at == "removal":
        monkeypatch.setattr(growing, "remove", refusing)
    if fails_at == "nothing":
        writer.save([part(1, 9)])
    else:
        with pytest.raises(StorageError):
            writer.save([part(1, 9)])
    monkeypatch.undo()
    writer.lock.release()
    both = fails_at in ("removal", "nothing")
    drawn = open_run(tmp_path).drawn()
    assert [drawn["p0"].count() if drawn else 0, saved_in(tmp_path, problems)] == (
        [1, {1: 9}] if both else [0, {0: 3, 1: 3}]
    )


def test_what_was_not_asked_for_again_is_kept(tmp_path: Path, problems: list[Problem]) -> None:
    writer = open_writer(tmp_path, problems)
    writer.save([part(0), part(1, problem="p3")])
    writer.lock.release()
    with open_writer(tmp_path, problems) as writer:
        writer.take_saved(Span("p0", 0, 4))
        writer.add(draw_of("p0", 0, 4))
    with open_writer(tmp_path, problems) as writer:
        assert writer.take_saved(Span("p0", 0, 4)) == ()
        assert [one.index for one in writer.take_saved(Span("p3", 0, 4))] == [1]


TURNS = '{"text": "a", "turns": 1, "n_tokens": 0}'
NUMBERS = {"turn_logprob": [0.0], "turn_entropy": [0.0]}


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"ended": "soon"}, "unknown end"),
        ({"token_ids": [1, -1, 2]}, "no valid token ids"),
        ({"token_ids": [1, None, 2]}, "no valid token ids"),
        ({"token_ids": [1]}, "no valid token ids"),
        ({"token_ids": []}, "no valid token ids"),
        ({"index": -1}, "'index' has -1"),
        ({"token_logprob": [0.0, float("nan"), 0.0]}, "statistics"),
        ({"token_logprob": [0.0, 5.0, 0.0]}, "statistics"),
        ({"token_nucleus": [1, 0, 1]}, "statistics"),
        ({"token_nucleus": [1]}, "statistics"),
        ({"token_entropy": None}, "statistics"),
        ({"turns": "{"}, "turns that cannot be read"),
        ({"turns": '{"text": "a", "turns": 0, "n_tokens": 2}'}, "turns that cannot be read"),
        ({"turns": '{"text": "a", "turns": 1, "n_tokens": 2}'}, "no valid token ids"),
        ({"turns": TURNS, "turn_ids": [1], "turn_nucleus": [1]} | NUMBERS, "turns with tokens"),
        ({"turns": TURNS, "turn_ids": [-1], "turn_nucleus": [1]} | NUMBERS, "turns with tokens"),
    ],
)
def test_hostile_states_are_refused_in_one_line(
    tmp_path: Path, problems: list[Problem], changed: dict[str, object], wrong: str
) -> None:
    open_writer(tmp_path, problems).lock.release()
    row = {
        "problem_id": "p0",
        "index": 0,
        "n_tokens": 3,
        "ended": None,
        "token_ids": [1, 2, 3],
        "with_shard": "",
        "token_logprob": [0.0] * 3,
        "token_entropy": [0.0] * 3,
        "token_nucleus": [1] * 3,
    }
    folder = ShardFolder(tmp_path / "growing", growing.GROWING_SCHEMA)
    folder.append(pa.Table.from_pylist([row], schema=growing.GROWING_SCHEMA))
    assert saved_in(tmp_path, problems) == {0: 3}
    folder.append(pa.Table.from_pylist([row | changed], schema=growing.GROWING_SCHEMA))
    with pytest.raises(RunError, match=wrong) as refused:
        open_writer(tmp_path, problems)
    assert "\n" not in str(refused.value)


def test_turns_come_back_exactly(tmp_path: Path, problems: list[Problem]) -> None:
    turns = SavedTurns(
        text="é\ud800", turns=2, n_tokens=1, calls=1, errors=1, blocks=("x = 1",), finish_reason="length"
    )
    numbers = np.array([-0.5], np.float32)
    tokens = TokenArrays(
        ids=np.array([7], np.int32), logprob=numbers, entropy=-numbers, nucleus=np.array([3], np.int32)
    )
    writer = open_writer(tmp_path, problems)
    writer.save([part(0, 0, turns=turns, turn_tokens=tokens), part(1, 3, turns=turns)])
    writer.lock.release()
    with open_writer(tmp_path, problems) as again:
        finished, open_turn = again.take_saved(Span("p0", 0, 24))
    assert finished.turns == open_turn.turns == msgspec.structs.replace(turns, text="é\\ud800")
    assert finished.turn_tokens is not None
    assert [finished.turn_tokens.ids[0], finished.turn_tokens.nucleus[0], len(finished.ids)] == [7, 3, 0]
    assert (open_turn.turn_tokens, len(open_turn.ids)) == (None, 3)


def test_a_state_of_an_older_version_is_read(tmp_path: Path, problems: list[Problem]) -> None:
    open_writer(tmp_path, problems).lock.release()
    names = [name for name in growing.GROWING_SCHEMA.names if not name.startswith("turn")]
    older = pa.schema([growing.GROWING_SCHEMA.field(name) for name in names])
    ShardFolder(tmp_path / "growing", older).append(growing._table([part(0, 3)], "").select(names))
    assert saved_in(tmp_path, problems) == {0: 3}


def test_a_damaged_state_is_moved_aside_and_a_large_one_refused(
    tmp_path: Path, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path, problems)
    writer.save([part(0)])
    writer.lock.release()
    monkeypatch.setattr(growing, "_LARGEST_FILE", 100)
    with pytest.raises(RunError, match="more than a session writes"):
        open_writer(tmp_path, problems)
    monkeypatch.undo()
    (state,) = (tmp_path / "growing").glob("*.parquet")
    state.write_bytes(state.read_bytes()[:-40])
    assert saved_in(tmp_path, problems) == {}
    assert list((tmp_path / "growing" / "set-aside").iterdir())


def test_a_link_is_refused(tmp_path: Path, problems: list[Problem]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "growing").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="a link"):
        open_writer(tmp_path / "run", problems)


def test_the_pace_grows_with_the_cost_up_to_a_minute() -> None:
    now = [0.0]
    pace = SavePace(sparing=False, clock=lambda: now[0])
    intervals = []
    for cost in (0.0, 0.5, 30.0):
        began = now[0]
        now[0] += cost
        pace.saved(began)
        after = now[0]
        while not pace.is_due:
            now[0] += 1
        intervals.append(now[0] - after)
    assert intervals == [5, 25, 60]


def states_in(path: Path) -> list[str]:
    """The writers of the states on disk, in order."""
    return [writer_of(file) for file in sorted((path / "growing").glob("*.parquet"))]


def test_states_of_replicas_go_with_their_shards_and_win_over_the_drivers(
    tmp_path: Path, problems: list[Problem]
) -> None:
    writer = open_writer(tmp_path, problems)
    writer.save([part(0, 3), part(1, 3), part(2, 3)])
    first, second = (GrowingFolder(tmp_path, writer=name) for name in ("r0", "r1"))
    first.write([part(0, 5), part(3, 5)], None)
    first.write([part(0, 6), part(3, 6)], None)
    second.write([part(1, 7)], None)
    lost = tmp_path / "rollouts" / "000000-lost.parquet"
    second._folder.append(growing._table([part(1, 90)], lost.name))  # its shard was never written
    assert states_in(tmp_path) == ["", "r0", "r1", "r1"]
    writer.lock.release()
    with open_writer(tmp_path, problems) as again:
        assert states_in(tmp_path) == [""], "when a session begins, they are the driver's"
        saved = again.take_saved(Span("p0", 0, 24))
    assert {one.index: len(one.ids) for one in saved} == {0: 6, 1: 7, 2: 3, 3: 6}


def test_the_state_of_a_lost_replica_becomes_the_drivers(tmp_path: Path, problems: list[Problem]) -> None:
    writer = open_writer(tmp_path, problems)
    lost, live = (GrowingFolder(tmp_path, writer=name) for name in ("r0", "r1"))
    lost.write([part(0, 5), part(1, 5)], None)
    live.write([part(8, 5)], None)
    writer.add(draw_of("p0", 1, 1))
    assert {key: len(one.ids) for key, one in writer.take_over("r0").items()} == {("p0", 0): 5}
    assert writer.take_over("r0") == {}
    assert sorted(states_in(tmp_path)) == ["", "r1"]
    GrowingFolder(tmp_path, writer="r2").write([part(0, 9)], None)
    assert len(writer.take_over("r2")["p0", 0].ids) == 9
    assert sorted(states_in(tmp_path)) == ["", "r1"]
    writer.flush()
    writer.lock.release()
    assert saved_in(tmp_path, problems) == {0: 9, 8: 5}


def test_a_failed_write_of_a_replica_leaves_its_state(
    tmp_path: Path, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    open_writer(run, problems).lock.release()
    folder = GrowingFolder(run, writer="r0")
    folder.write([part(0, 5)], None)

    def full(file: Path, content: bytes) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(growing, "write_atomically", full)
    with pytest.raises(StorageError):
        folder.write([part(0, 6)], (run / "rollouts" / "000000-new.parquet", b""))
    monkeypatch.undo()
    shutil.copytree(run, copy)
    assert saved_in(copy, problems) == {0: 5}
    folder.write([part(0, 7)], None)
    assert states_in(run) == ["r0"]
    assert saved_in(run, problems) == {0: 7}
