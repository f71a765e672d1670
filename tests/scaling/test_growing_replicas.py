"""Replicas die, and whole commands, while responses grow: others go on from what was saved, and the law stays the same."""

from __future__ import annotations

import itertools
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rlvr_bench.errors import StorageError
from rlvr_bench.pipeline.drawing import Drawing, Plan
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.records import Draw, DrawRequest, Problem, Prompt, SamplingParameters, SavedRollout
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling import Dispatcher, Slots
from rlvr_bench.scaling.recording import Recorder
from rlvr_bench.store import RunWriter, open_run, shards
from rlvr_bench.store.growing import GrowingFolder, SavePace
from tests.conftest import manifest_with
from tests.scaling.local_pool import LocalPool
from tests.test_growing import HAZARD, LONGEST, Growing, Seeded, p_value

PROBLEMS = [Problem(id=f"p{i}", question="?", answer="1") for i in range(50)]
PROMPTS = {problem.id: Prompt(problem_id=problem.id, text="?") for problem in PROBLEMS}
N, BATCH = 24, 2


class Killed(Exception):
    """The command ends here."""


class Mortal(LocalPool):
    """A killed replica writes nothing more. ``writing`` excludes kills in the middle of a write."""

    def __init__(self, *openers: Callable[[], Sampler]) -> None:
        super().__init__(*openers)
        self.dead: list[object] = []
        self.writing = threading.RLock()

    def kill(self, replica: int, *, with_node: bool = False) -> None:
        with self.writing:
            self._end(replica)
            super().kill(replica, with_node=with_node)

    def kill_all(self) -> None:
        for number in range(len(self.replicas)):
            self._end(number)

    def _end(self, number: int) -> None:
        if (replica := self.replicas[number]) is not None:
            self.dead.append(replica._recorder)
            replica._over = True  # its thread draws no longer

    def kill_any(self, rng: random.Random) -> None:
        live = [number for number, replica in enumerate(self.replicas) if replica is not None]
        if live:
            self.kill(rng.choice(live), with_node=True)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of an engine is due at about every fourth step."""
    steps = itertools.count()
    monkeypatch.setattr(SavePace, "is_due_after", lambda *_: next(steps) % 4 == 3)
    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.01)


def open_writer(path: Path) -> RunWriter:
    return RunWriter(path, manifest_with(n=N, n_problems=len(PROBLEMS)), PROBLEMS)


class Kills(Silent):
    """Kills a replica after every ``replica_every`` rollouts, and the command after ``command_after``."""

    def __init__(self, pool: Mortal, rng: random.Random, replica_every: int, command_after: float) -> None:
        self._pool, self._rng = pool, rng
        self._every, self._last = replica_every, command_after
        self._drawn = 0

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        before, self._drawn = self._drawn, self._drawn + rollouts
        if self._drawn // self._every > before // self._every:
            self._pool.kill_any(self._rng)
        if self._drawn >= self._last:
            raise Killed


def session(
    path: Path, opener: Callable[[], Growing], rng: random.Random, monkeypatch: pytest.MonkeyPatch, until: float
) -> None:
    """Draw with three replicas of which one dies now and then, until the command is killed or everything is drawn."""
    pool = Mortal(opener)
    plain = Recorder.write

    def write(
        self: Recorder, draws: Sequence[Draw], state: Sequence[SavedRollout] | None = None
    ) -> tuple[str | None, list[Draw]]:
        with pool.writing:
            if self in pool.dead:
                raise StorageError("dead")
            return plain(self, draws, state)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "write", write)
        sampler = Dispatcher(pool, Slots(3))
        writer = open_writer(path)
        plan = Plan(list(writer.missing(PROMPTS, N, BATCH)))
        sampler.write_to(writer)
        try:
            with writer:
                Drawing(writer, PROMPTS, plan, None, Kills(pool, rng, 10, until)).run(sampler)
        except Killed:
            pass
        with pool.writing:
            shutil.copytree(path, path.with_name("as-killed"))
            pool.kill_all()
        sampler.close()
    shutil.rmtree(path)
    path.with_name("as-killed").rename(path)


def lengths(path: Path) -> dict[tuple[str, int], int]:
    """The stored rollouts. Checks that every one is stored once."""
    rows = [
        row for table in open_run(path).rollouts.read(["problem_id", "index", "n_tokens"]) for row in table.to_pylist()
    ]
    stored = {(row["problem_id"], row["index"]): row["n_tokens"] for row in rows}
    assert len(stored) == len(rows)
    return stored


def z_of_mean_length(path: Path) -> float:
    """How many standard errors the mean length is off that of the engine's law."""
    alive = (1 - HAZARD) ** np.arange(LONGEST)  # P(length > t)
    mean = alive.sum()
    variance = ((2 * np.arange(LONGEST) + 1) * alive).sum() - mean**2
    stored = list(lengths(path).values())
    return float((np.mean(stored) - mean) / np.sqrt(variance / len(stored)))


def test_deaths_of_replicas_and_commands_keep_the_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str) -> Path:
        rng = random.Random(5)
        for until in (*[100] * 5, np.inf):
            session(tmp_path / name, lambda: Growing(random.Random(rng.random())), rng, monkeypatch, until)
        assert len(lengths(tmp_path / name)) == len(PROBLEMS) * N
        assert not list((tmp_path / name / "growing").glob("*.parquet"))
        return tmp_path / name

    saved = run("saved")
    assert abs(z_of_mean_length(saved)) < 4
    assert p_value(saved) > 1e-4
    # The same deaths without what was saved: short responses are preferred, and the same test sees it.
    monkeypatch.setattr(GrowingFolder, "_newest", lambda *_: {})
    assert z_of_mean_length(run("lost")) < -4


def test_deaths_leave_what_an_undisturbed_run_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of a rollout depend on it alone: whatever was saved twice, lost or mixed up would show."""
    rng, handed = random.Random(6), list[SavedRollout]()
    plain = Mortal.add

    def add(self: Mortal, replica: int, session: int, requests: Sequence[DrawRequest]) -> None:
        handed.extend(one for request in requests for one in request.saved)
        plain(self, replica, session, requests)

    monkeypatch.setattr(Mortal, "add", add)
    for until in (100, 150, np.inf):
        session(tmp_path / "killed", lambda: Seeded(random.Random(0)), rng, monkeypatch, until)
    requests = [DrawRequest(prompt=prompt, start=0, n=N, seed=0) for prompt in PROMPTS.values()]
    rollouts = [one for draw in Seeded(random.Random(0)).draw(requests, SamplingParameters()) for one in draw.rollouts]
    assert lengths(tmp_path / "killed") == {(one.problem_id, one.index): one.n_tokens for one in rollouts}
    assert sum(len(one.ids) for one in handed) > 1000
